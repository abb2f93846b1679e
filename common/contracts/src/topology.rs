//! The queue of notifications and the stream of offers, with every argument.

use messaging::topology::{Queue, Topology};

/// The work queue of VIP notifications.
pub const VIP_QUEUE: &str = "vip_queue";
/// The queue of its dead letters: poison, and notifications that failed too often.
pub const VIP_DEAD: &str = "vip_queue.dead";
/// The stream of offers.
pub const OFFERS: &str = "offers";

/// Returns [`VIP_QUEUE`] and the queue it dead-letters to. It holds `max_length` messages; the broker refuses
/// (nacks) further ones, and the outbox keeps those.
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
