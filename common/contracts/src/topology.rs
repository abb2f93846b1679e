//! The queue of notifications, the streams of offers and of account changes, and the exchange of account events, with every argument.

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Section, more_than_zero};
use messaging::topology::{Queue, Topology};
use serde::{Deserialize, Serialize};

/// Name of the work queue of VIP notifications.
pub const VIP_QUEUE: &str = "vip_queue";
/// Name of its dead-letter queue, for notifications that cannot be read or failed too often.
pub const VIP_DEAD: &str = "vip_queue.dead";
/// Name of the stream of offers.
pub const OFFERS: &str = "offers";
/// Name of the stream of changes to accounts, from which each accountservice fills its store.
pub const ACCOUNT_CHANGES: &str = "account_changes";
/// Name of the topic exchange of events about accounts: `account.created`, `account.changed` and `account.deleted`.
pub const ACCOUNTS: &str = "accounts";

/// The settings of [`VIP_QUEUE`]: the services that declare it have to agree on them.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// How many notifications vip_queue holds before the broker refuses more; the outbox keeps those (default 100000)
    pub vip_queue_max_length: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { vip_queue_max_length: 100_000 }
    }
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        more_than_zero([("vip_queue_max_length", self.vip_queue_max_length == 0)])
    }
}

/// Returns [`VIP_QUEUE`] and the queue it dead-letters to. It holds `max_length` messages; the broker refuses (nacks)
/// further ones, and the outbox keeps those.
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

/// Returns the stream [`ACCOUNT_CHANGES`], of which the broker keeps at most `max_bytes`, and at least seven eighths of that.
#[must_use]
pub fn account_changes(max_bytes: u64) -> Queue {
    Queue::stream(ACCOUNT_CHANGES, max_bytes).with_segment_size(max_bytes / 8)
}
