//! Messages, their entries in queues, and their deliveries.

use std::sync::Arc;

use amq_protocol::{
    protocol::BasicProperties,
    types::{FieldTable, ShortString},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::value::{ConsumerId, QueueId};

/// A published message, which all its queues share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    #[serde(with = "body")]
    pub(crate) body: Bytes,
    /// Set if its `x-death` was written by this broker, not by a client.
    pub(crate) dead_lettered: bool,
}

/// The reason why a queue dead-lettered a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    DeliveryLimit,
}

impl Reason {
    /// Returns RabbitMQ's word for it, as `x-death` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// The entry of a message in one queue.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Position in the queue, or offset in the stream. A requeued message keeps its position.
    pub(crate) position: u64,
    pub(crate) message: Arc<Message>,
    /// Priority within the queue; 0 if the queue has no priorities.
    pub(crate) priority: u8,
    /// Time of expiry, in Unix milliseconds.
    pub(crate) expires_at: Option<u64>,
    /// Earlier deliveries from this queue that ended without an ack.
    pub(crate) acquired: u32,
    /// Those of them that failed (a reject, or a lost consumer), and those of the queues in which it has died before:
    /// `x-delivery-count` of quorum queues.
    pub(crate) failed: u32,
    /// Set if it is in the log.
    pub(crate) persisted: bool,
}

/// A delivery that is not settled yet.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) queue: QueueId,
    pub(crate) consumer: Option<ConsumerId>,
    /// `None` for a stream, which keeps its entries.
    pub(crate) entry: Option<Entry>,
}

impl Message {
    /// Returns the approximate memory of the message, in bytes.
    pub(crate) fn cost(&self) -> usize {
        let headers = self.properties.headers().as_ref().map_or(0, |table| table.inner().len());
        256 + headers * 64 + self.body.len()
    }

    /// Returns whether the publisher asked for persistence.
    pub(crate) fn is_persistent(&self) -> bool {
        *self.properties.delivery_mode() == Some(2)
    }

    /// Returns the time to live that its publisher gave it (`expiration`), in milliseconds.
    pub(crate) fn ttl(&self) -> Option<u64> {
        self.properties.expiration().as_ref()?.as_str().parse().ok()
    }

    /// Returns a copy of its headers, which are empty if it has none.
    pub(crate) fn headers(&self) -> FieldTable {
        self.properties.headers().clone().unwrap_or_default()
    }
}

impl Entry {
    /// Creates an entry with everything but its position and its message at the default.
    pub(crate) fn new(position: u64, message: &Arc<Message>) -> Self {
        Self {
            position,
            message: Arc::clone(message),
            priority: 0,
            expires_at: None,
            acquired: 0,
            failed: 0,
            persisted: false,
        }
    }

    /// Returns whether it may have been delivered before.
    pub(crate) fn is_redelivered(&self) -> bool {
        self.acquired > 0 || self.failed > 0
    }

    /// Returns the value of `x-acquired-count`. A dead letter's first delivery has the failures that it came with.
    pub(crate) fn shown_acquired(&self) -> u32 {
        if self.acquired > 0 { self.acquired } else { self.failed }
    }
}

/// Serializes a body. The feature `serde` of `bytes` would do the same, and would make every program of the workspace compile its
/// dependencies a second time.
mod body {
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(body)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Bytes::copy_from_slice)
    }
}
