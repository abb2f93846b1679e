//! What a client says and hears, and who it is.

use std::{collections::BTreeMap, sync::Arc};

use amq_protocol::{
    protocol::{AMQPClass, BasicProperties, basic},
    types::{AMQPValue, FieldTable, ShortString},
};
use bytes::Bytes;

use super::{
    message::{Message, Unacked},
    refusal::Refusal,
    value::{ConnectionId, ConsumerId, QueueId},
};

/// A channel of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) connection: ConnectionId,
    pub(crate) channel: u16,
}

/// What a client wants.
#[derive(Debug)]
pub(crate) enum Input {
    /// A method on a channel.
    Method(u16, AMQPClass),
    /// A whole message on a channel.
    Publish(u16, Box<Publication>),
    /// Something that the connection found wrong on a channel, with the class and the method that it was about.
    Wrong(u16, Refusal, (u16, u16)),
}

/// `basic.publish` with its content.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) method: basic::Publish,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Out {
    /// A method on a channel.
    Method(u16, AMQPClass),
    /// A method with content.
    Content(u16, AMQPClass, Arc<Message>, Extra),
    /// The end: nothing follows.
    Hangup,
}

impl Out {
    /// What it costs to keep until it is written, in bytes.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Content(_, _, message, _) => message.cost(),
            _ => 64,
        }
    }
}

/// A header that the broker adds for one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    None,
    /// `x-delivery-count`.
    DeliveryCount(u32),
    /// `x-stream-offset`.
    StreamOffset(u64),
}

/// Who is on the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) vhost: Arc<str>,
    pub(crate) user: String,
    pub(crate) address: String,
    /// How many channels were agreed on.
    pub(crate) channel_max: u16,
    /// What it says of itself.
    pub(crate) properties: FieldTable,
}

impl Peer {
    /// Whether it says that it understands something.
    pub(crate) fn is_capable(&self, of: &str) -> bool {
        match self.properties.inner().get("capabilities") {
            Some(AMQPValue::FieldTable(table)) => table.inner().get(of) == Some(&AMQPValue::Boolean(true)),
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    pub(crate) channels: BTreeMap<u16, Channel>,
    /// We said close, and wait for close-ok.
    pub(crate) closing: bool,
    /// Bytes on their way to it.
    pub(crate) output: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// We said close, and wait for close-ok.
    pub(crate) closing: bool,
    /// `basic.qos` for new consumers.
    pub(crate) prefetch: u16,
    pub(crate) confirms: bool,
    pub(crate) published: u64,
    /// Publishes that were taken since the last confirm was sent: first and last.
    pub(crate) taken: Option<(u64, u64)>,
    /// A confirm was dropped on purpose, so none may cover several.
    pub(crate) singly: bool,
    pub(crate) last_tag: u64,
    pub(crate) unacked: BTreeMap<u64, Unacked>,
    pub(crate) consumers: BTreeMap<String, ConsumerId>,
    /// The queue that an empty name means.
    pub(crate) last_queue: String,
    /// The consumer tag and the address of direct reply-to.
    pub(crate) reply: Option<(ShortString, String)>,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) at: At,
    pub(crate) queue: QueueId,
    pub(crate) tag: ShortString,
    pub(crate) no_ack: bool,
    pub(crate) prefetch: u16,
    pub(crate) unacked: usize,
    /// The next offset of a stream.
    pub(crate) offset: u64,
}

impl Connection {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, channels: BTreeMap::new(), closing: false, output: 0 }
    }
}
