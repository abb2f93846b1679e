//! Numbers for Prometheus: made, described and shown in one line each.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// A number that only grows.
pub fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// A number that goes up and down.
pub fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

/// Durations in seconds, from half a millisecond to a minute.
pub fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let buckets =
        [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
    let histogram = Histogram::new(buckets);
    registry.register(name, help, histogram.clone());
    histogram
}
