//! A message, from its publishing to its last settlement; and its entry in one queue.

use std::sync::Arc;

use amq_protocol::{
    protocol::BasicProperties,
    types::{FieldTable, ShortString},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::value::{ConsumerId, QueueId};

/// What was published; queues share it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    #[serde(with = "body")]
    pub(crate) body: Bytes,
    /// Whether its `x-death` is this broker's, and not something a client sent.
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

/// A message in one queue.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its place in the queue, or its offset in a stream; a message that comes back takes the same place again.
    pub(crate) place: u64,
    pub(crate) message: Arc<Message>,
    /// As the queue sees it: 0 where the queue has none.
    pub(crate) priority: u8,
    /// In Unix milliseconds.
    pub(crate) expires_at: Option<u64>,
    /// Whether somebody may have seen it before.
    pub(crate) redelivered: bool,
    /// How often it came back: `x-delivery-count` of quorum queues.
    pub(crate) delivery_count: u32,
    /// Whether the log has it.
    pub(crate) persisted: bool,
}

/// A delivery that a channel has in hand.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) queue: QueueId,
    pub(crate) consumer: Option<ConsumerId>,
    /// `None` for a stream, from which nothing is taken.
    pub(crate) entry: Option<Entry>,
}

impl Message {
    /// What it costs to keep, in bytes; headers are counted roughly.
    pub(crate) fn cost(&self) -> usize {
        let headers = self.properties.headers().as_ref().map_or(0, |table| table.inner().len());
        256 + headers * 64 + self.body.len()
    }

    /// Whether its publisher wants it to survive a restart.
    pub(crate) fn is_persistent(&self) -> bool {
        *self.properties.delivery_mode() == Some(2)
    }

    /// Its headers, empty if it has none.
    pub(crate) fn headers(&self) -> FieldTable {
        self.properties.headers().clone().unwrap_or_default()
    }
}

impl Entry {
    /// An entry without the marks that only some have.
    pub(crate) fn new(place: u64, message: &Arc<Message>) -> Self {
        Self {
            place,
            message: Arc::clone(message),
            priority: 0,
            expires_at: None,
            redelivered: false,
            delivery_count: 0,
            persisted: false,
        }
    }
}

/// A body as bytes and not as a list of numbers: `bytes` is built without serde everywhere else.
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
