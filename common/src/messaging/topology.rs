//! Every exchange, queue and argument, in one file.
//!
//! Both ends declare what they use with the same function, on every new connection: whoever comes
//! first makes it, and a difference is found before a message is lost to it.
//! Work queues are quorum queues: they survive a broker's death with all that was confirmed
//! (<https://www.rabbitmq.com/docs/quorum-queues>).

use super::ladder::Ladder;

/// The work queue of VIP notifications.
pub const VIP_QUEUE: &str = "vip_queue";
/// Where notifications wait for a person: poison, and those that failed too often.
pub const VIP_DEAD: &str = "vip_queue.dead";
/// The stream of offers.
pub const OFFERS: &str = "offers";
/// The exchange of the bus, unless `config_event_bus` names another.
pub const SPRING_CLOUD_BUS: &str = "springCloudBus";
/// A topic exchange's binding key that lets everything through.
pub const EVERYTHING: &str = "#";

/// Deliveries before the broker dead-letters a message. Connection cuts count too, for each message that
/// was prefetched, so a small limit kills good messages; RabbitMQ's default differs by version.
const DELIVERY_LIMIT: i64 = 100;
/// For a queue that people list: before RabbitMQ 4.3 every look counts as a delivery.
const LOOKS: i64 = 1_000_000;

/// What a service declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// Durable topic exchanges, by their names: in this order, before the queues.
    pub exchanges: Vec<String>,
    /// In this order: a queue after those that it dead-letters to.
    pub queues: Vec<Queue>,
}

/// A durable queue or stream, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its `x-` arguments.
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
    /// `vip_queue` and the queue it dead-letters to. It holds `max_length` messages; the broker refuses
    /// (nacks) further ones, and the outbox keeps those. `at-least-once` dead-lettering holds a dead letter
    /// until its target has it; it needs `reject-publish`
    /// (<https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>).
    #[must_use]
    pub fn with_vip_queue(mut self, max_length: u32) -> Self {
        self.queues.push(Queue::new(VIP_DEAD, "quorum").number("x-delivery-limit", LOOKS));
        self.queues.push(Queue::work(VIP_QUEUE, VIP_DEAD).number("x-max-length", max_length.into()));
        self
    }

    /// The rungs of a ladder: from each, messages go back to the work queue when their time is over. If that
    /// is full or away the broker holds them, and tries again at intervals of up to three minutes. A rung has no
    /// limit: one that refused a copy would keep its consumer from taking anything else.
    #[must_use]
    pub fn with_ladder(mut self, ladder: &Ladder) -> Self {
        for (rung, delay) in ladder.rungs() {
            let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
            let queue = Queue::work(&rung, ladder.queue()).number("x-message-ttl", delay);
            if !self.queues.contains(&queue) {
                self.queues.push(queue);
            }
        }
        self
    }

    /// The stream of offers, of which at least the newest `max_bytes` are kept
    /// (<https://www.rabbitmq.com/docs/streams#retention>).
    #[must_use]
    pub fn with_offers(mut self, max_bytes: u64) -> Self {
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        self.queues.push(Queue::new(OFFERS, "stream").number("x-max-length-bytes", max_bytes));
        self
    }

    /// The bus: whoever listens has a queue of its own, bound with [`EVERYTHING`]. Spring's services declare it with
    /// the same three properties (topic, durable, not deleted with its last queue), and the broker refuses others.
    #[must_use]
    pub fn with_bus(self, exchange: &str) -> Self {
        self.with_exchange(exchange)
    }

    /// A durable topic exchange: what each listener wants it says when it subscribes.
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

    /// It refuses what it has no room for, and dead-letters to `next` at least once.
    fn work(name: &str, next: &str) -> Self {
        Self::new(name, "quorum")
            .number("x-delivery-limit", DELIVERY_LIMIT)
            .text("x-overflow", "reject-publish")
            .text("x-dead-letter-exchange", "")
            .text("x-dead-letter-routing-key", next)
            .text("x-dead-letter-strategy", "at-least-once")
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
