//! What the client counts. Each counter is a question that somebody asks at night.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The messaging client's numbers.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is described once, where it is registered")]
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
    /// Makes the numbers and shows them in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(format!("messages_{name}"), help, counter.clone());
            counter
        };
        let (published, confirmed) = (
            counter("published", "Messages sent to the broker, repetitions included"),
            counter("confirmed", "Messages that the broker has taken and routed"),
        );
        let (returned, nacked, unknown) = (
            counter("returned", "Messages that no queue took"),
            counter("nacked", "Messages that the broker refused"),
            counter("unknown", "Messages sent whose confirm never came"),
        );
        let (consumed, acked, ack_lost) = (
            counter("consumed", "Deliveries that a handler has finished"),
            counter("acked", "Deliveries that were settled as done"),
            counter("ack_lost", "Deliveries that could not be settled: they come again"),
        );
        let (retried, dead_lettered) = (
            counter("retried", "Deliveries given back to be tried again"),
            counter("dead_lettered", "Deliveries moved to the dead-letter queue"),
        );
        let (connected, blocked) = (Gauge::default(), Gauge::default());
        registry.register("broker_connected", "Connections that are up, of two", connected.clone());
        registry.register("broker_blocked", "1 while the broker takes no messages", blocked.clone());
        let mut histogram = |name: &str, help: &str| {
            let histogram = seconds();
            registry.register(name, help, histogram.clone());
            histogram
        };
        Self {
            publish_seconds: histogram(
                "publish_to_confirm_seconds",
                "From sending a batch of messages to its last confirm",
            ),
            handler_seconds: histogram("handler_seconds", "From a delivery to its outcome"),
            published,
            confirmed,
            returned,
            nacked,
            unknown,
            consumed,
            acked,
            ack_lost,
            retried,
            dead_lettered,
            connected,
            blocked,
        }
    }
}

/// A histogram for durations in seconds, from half a millisecond to a minute.
#[must_use]
pub fn seconds() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
    ])
}
