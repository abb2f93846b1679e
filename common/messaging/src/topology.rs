//! Exchanges and queues with their arguments, as a service declares them.
//!
//! Both ends declare what they use with the same function, on every new connection: the first one creates it, and a
//! difference is detected before it loses a message. The queues themselves are named elsewhere.
//! Work queues are quorum queues: they survive a broker's death with all that was confirmed
//! (<https://www.rabbitmq.com/docs/quorum-queues>).

use super::retry::RetryPolicy;

/// Binding key that matches every routing key of a topic exchange.
pub const EVERYTHING: &str = "#";

/// Deliveries before the broker dead-letters a message. A lost connection counts as one for each prefetched message,
/// so a small limit would dead-letter good messages; RabbitMQ's default differs by version.
const DELIVERY_LIMIT: i64 = 100;
/// Deliveries before the broker drops a dead letter: before RabbitMQ 4.3 every peek counts as one.
const DEAD_LETTER_DELIVERY_LIMIT: i64 = 1_000_000;

/// The exchanges and queues that a service declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Names of the durable topic exchanges, declared in this order before the queues.
    pub exchanges: Vec<String>,
    /// Queues, declared in this order: each after those that it dead-letters to.
    pub queues: Vec<Queue>,
}

/// A durable queue or stream, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Name of the queue.
    pub name: String,
    /// `x-` arguments of the queue.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl Topology {
    /// Adds a queue or a stream.
    #[must_use]
    pub fn with_queue(mut self, queue: Queue) -> Self {
        self.queues.push(queue);
        self
    }

    /// Adds the retry queues of a policy. Their messages go back to the work queue when they expire; if that queue is
    /// full or missing, the broker keeps them and tries again at intervals of up to three minutes. A retry queue has no
    /// length limit: if it refused a copy, the consumer could take no other delivery.
    #[must_use]
    pub fn with_retry_queues(mut self, policy: &RetryPolicy) -> Self {
        for (name, delay) in policy.retry_queues() {
            let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let queue = Queue::work(&name, policy.queue()).number("x-message-ttl", delay);
            if !self.queues.contains(&queue) {
                self.queues.push(queue);
            }
        }
        self
    }

    /// Adds a durable topic exchange.
    #[must_use]
    pub fn with_exchange(mut self, name: &str) -> Self {
        self.exchanges.push(name.into());
        self
    }
}

impl Queue {
    fn new(name: &str, kind: &str) -> Self {
        Self { name: name.into(), arguments: vec![] }.text("x-queue-type", kind)
    }

    /// Returns a work queue. It refuses (nacks) what it has no room for, and dead-letters to the queue `next`.
    /// `at-least-once` dead-lettering holds a dead letter until its target has it; it needs `reject-publish`
    /// (<https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>).
    #[must_use]
    pub fn work(name: &str, next: &str) -> Self {
        Self::new(name, "quorum")
            .number("x-delivery-limit", DELIVERY_LIMIT)
            .text("x-overflow", "reject-publish")
            .text("x-dead-letter-exchange", "")
            .text("x-dead-letter-routing-key", next)
            .text("x-dead-letter-strategy", "at-least-once")
    }

    /// Returns a queue where dead letters wait for a person.
    #[must_use]
    pub fn dead_letters(name: &str) -> Self {
        Self::new(name, "quorum").number("x-delivery-limit", DEAD_LETTER_DELIVERY_LIMIT)
    }

    /// Returns a stream that keeps at least its newest `max_bytes`
    /// (<https://www.rabbitmq.com/docs/streams#retention>).
    #[must_use]
    pub fn stream(name: &str, max_bytes: u64) -> Self {
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        Self::new(name, "stream").number("x-max-length-bytes", max_bytes)
    }

    /// Sets the size of a stream's segment files. The broker drops whole segments, and only when a new one begins: with its default
    /// of 500 MB, a stream with a smaller limit keeps more than that, and then loses most of it at once.
    #[must_use]
    pub fn with_segment_size(self, bytes: u64) -> Self {
        self.number("x-stream-max-segment-size-bytes", i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    /// Limits a work queue to `length` ready messages; the broker refuses further ones.
    #[must_use]
    pub fn with_max_length(self, length: u32) -> Self {
        self.number("x-max-length", length.into())
    }

    fn text(mut self, name: &'static str, value: &str) -> Self {
        self.arguments.push((name, Argument::Text(value.into())));
        self
    }

    fn number(mut self, name: &'static str, value: i64) -> Self {
        self.arguments.push((name, Argument::Number(value)));
        self
    }
}
