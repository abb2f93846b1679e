//! Metrics of the client.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

/// Gauges of one name, each with another value of the same label.
pub type Gauges = Family<[(&'static str, String); 1], Gauge>;

/// The messaging client's metrics.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "each is described where it is registered, for those who read `/metrics` too"
)]
pub struct Metrics {
    pub published: Counter,
    pub confirmed: Counter,
    pub returned: Counter,
    pub nacked: Counter,
    pub unknown: Counter,
    pub consumed: Counter,
    pub acked: Counter,
    pub ack_lost: Counter,
    pub retried: Counter,
    pub dead_lettered: Counter,
    pub connected: Gauge,
    pub blocked: Gauge,
    pub publish_seconds: Histogram,
    pub handler_seconds: Histogram,
}

impl Metrics {
    /// Creates the metrics and registers them in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let r = registry;
        Self {
            published: counter(r, "messages_published", "Messages sent to the broker, duplicates included"),
            confirmed: counter(r, "messages_confirmed", "Messages that the broker has confirmed and routed"),
            returned: counter(r, "messages_returned", "Messages that no queue took"),
            nacked: counter(r, "messages_nacked", "Messages that the broker refused"),
            unknown: counter(r, "messages_unknown", "Messages sent without a confirm"),
            consumed: counter(r, "messages_consumed", "Deliveries that a handler has finished"),
            acked: counter(r, "messages_acked", "Deliveries that were acknowledged"),
            ack_lost: counter(
                r,
                "messages_ack_lost",
                "Deliveries that could not be settled and are delivered again",
            ),
            retried: counter(r, "messages_retried", "Deliveries moved to a retry queue"),
            dead_lettered: counter(r, "messages_dead_lettered", "Deliveries moved to the dead-letter queue"),
            connected: gauge(r, "broker_connected", "Connections that are up, of two"),
            blocked: gauge(r, "broker_blocked", "1 while the broker takes no messages"),
            publish_seconds: seconds(
                r,
                "publish_to_confirm_seconds",
                "From sending a batch to its last confirm",
            ),
            handler_seconds: seconds(r, "handler_seconds", "From a delivery to its outcome"),
        }
    }
}

/// Registers a counter.
pub fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    registered(registry, name, help, Counter::default())
}

/// Registers a gauge.
pub fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    registered(registry, name, help, Gauge::default())
}

/// Registers gauges that a label tells apart.
pub fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    registered(registry, name, help, Gauges::default())
}

/// Registers a histogram of seconds, from half a millisecond to a minute.
pub fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let buckets =
        [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
    registered(registry, name, help, Histogram::new(buckets))
}

fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}
