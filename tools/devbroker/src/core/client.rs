//! Clients: what they send and get, and the state of their connections, channels and consumers.

use std::{collections::BTreeMap, sync::Arc};

use amq_protocol::{
    protocol::{AMQPClass, BasicProperties, basic},
    types::{AMQPValue, FieldTable, ShortString},
};
use bytes::Bytes;

use super::{
    error::AmqpError,
    message::{Message, Unacked},
    value::{ConnectionId, ConsumerId, QueueId},
};

/// Identifies a channel of a connection; channel 0 is the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelId {
    pub(crate) connection: ConnectionId,
    pub(crate) channel: u16,
}

/// Input of a client.
#[derive(Debug)]
pub(crate) enum Input {
    /// A method on a channel.
    Method(u16, AMQPClass),
    /// A whole message on a channel.
    Publish(u16, Box<Publication>),
    /// An error in the frames of a channel, with the ids of the class and the method that caused it.
    Invalid(u16, AmqpError, (u16, u16)),
}

/// `basic.publish` with its content.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) method: basic::Publish,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

/// Output to a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outgoing {
    /// A method on a channel.
    Method(u16, AMQPClass),
    /// A method with content.
    Content(u16, AMQPClass, Arc<Message>, DeliveryHeader),
    /// The end of the connection: nothing follows.
    Shutdown,
}

impl Outgoing {
    /// Returns its approximate memory until it is written, in bytes.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Content(_, _, message, _) => message.cost(),
            _ => 64,
        }
    }
}

/// A header that the broker adds for one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryHeader {
    None,
    /// `x-acquired-count` and `x-delivery-count`, each above 0 only.
    Counts {
        acquired: u32,
        failed: u32,
    },
    /// `x-stream-offset`.
    StreamOffset(u64),
}

/// A client that has logged in.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) vhost: Arc<str>,
    pub(crate) user: String,
    pub(crate) address: String,
    /// Most channels, as negotiated.
    pub(crate) channel_max: u16,
    /// Client properties, as the client sent them.
    pub(crate) properties: FieldTable,
}

impl Peer {
    /// Returns whether the client has announced a capability.
    pub(crate) fn has_capability(&self, of: &str) -> bool {
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
    /// Either side has sent a close: only the other's close and close-ok count.
    pub(crate) closing: bool,
    /// Bytes that wait in its send buffer.
    pub(crate) output: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// A close was sent and is not answered yet.
    pub(crate) closing: bool,
    /// Prefetch of new consumers (`basic.qos`).
    pub(crate) prefetch: u16,
    pub(crate) confirms: bool,
    pub(crate) published: u64,
    /// First and last accepted publish that is not confirmed yet.
    pub(crate) accepted_range: Option<(u64, u64)>,
    /// Set if each confirm is for one message only, because one was dropped on purpose.
    pub(crate) confirms_singly: bool,
    pub(crate) last_tag: u64,
    pub(crate) unacked: BTreeMap<u64, Unacked>,
    pub(crate) consumers: BTreeMap<String, ConsumerId>,
    /// The queue that was declared last, which an empty name stands for.
    pub(crate) last_queue: String,
    /// Consumer tag and address of direct reply-to.
    pub(crate) reply: Option<(ShortString, String)>,
}

#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) at: ChannelId,
    pub(crate) queue: QueueId,
    pub(crate) tag: ShortString,
    pub(crate) no_ack: bool,
    /// No other consumer may use its queue.
    pub(crate) exclusive: bool,
    pub(crate) prefetch: u16,
    pub(crate) unacked: usize,
    /// Next offset, if the queue is a stream.
    pub(crate) offset: u64,
}

impl Connection {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, channels: BTreeMap::new(), closing: false, output: 0 }
    }
}
