//! The queue of notifications and the stream of offers, with every argument.

use messaging::topology::{Queue, Topology};

/// Name of the work queue of VIP notifications.
pub const VIP_QUEUE: &str = "vip_queue";
/// Name of its dead-letter queue, for notifications that cannot be read or failed too often.
pub const VIP_DEAD: &str = "vip_queue.dead";
/// Name of the stream of offers.
pub const OFFERS: &str = "offers";

/// Returns [`VIP_QUEUE`] and its dead-letter queue. The broker refuses (nacks) more than `max_length` messages, and the
/// outbox keeps those.
#[must_use]
pub fn vip_queue(max_length: u32) -> Topology {
    Topology::default()
        .with_queue(Queue::dead_letters(VIP_DEAD))
        .with_queue(Queue::work(VIP_QUEUE, VIP_DEAD).with_max_length(max_length))
}

/// Returns the stream [`OFFERS`], of which the broker keeps at least the newest `max_bytes`.
#[must_use]
pub fn offers(max_bytes: u64) -> Queue {
    Queue::stream(OFFERS, max_bytes)
}
