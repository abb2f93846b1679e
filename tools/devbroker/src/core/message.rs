//! A message, from its publishing to its last settlement; and its entry in one queue.

use std::sync::Arc;

use amq_protocol::{
    protocol::BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use bytes::Bytes;

/// What was published; queues share it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Where it was published.
    pub exchange: ShortString,
    /// Its routing key first, then those of its `CC` header.
    pub keys: Vec<ShortString>,
    /// Its properties, headers among them.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Bytes,
    /// Whether its `x-death` is this broker's, and not something a client sent.
    pub dead_lettered: bool,
}

/// A message in one queue.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place in the queue; a message that comes back takes the same place again.
    pub seq: u64,
    /// The message.
    pub message: Arc<Message>,
    /// Its priority as the queue sees it: 0 where the queue has none.
    pub priority: u8,
    /// When it expires, in Unix milliseconds.
    pub expires_at: Option<u64>,
    /// Whether somebody may have seen it before.
    pub redelivered: bool,
    /// How often it came back: `x-delivery-count` of quorum queues.
    pub delivery_count: u32,
    /// Whether the log has it.
    pub persisted: bool,
}

impl Message {
    /// The routing key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &ShortString {
        &self.keys[0]
    }

    /// What it costs to keep, in bytes; headers are counted roughly.
    #[must_use]
    pub fn cost(&self) -> usize {
        let headers = self.properties.headers().as_ref().map_or(0, |table| table.inner().len());
        256 + headers * 64 + self.body.len()
    }

    /// Whether its publisher wants it to survive a restart.
    #[must_use]
    pub fn persistent(&self) -> bool {
        *self.properties.delivery_mode() == Some(2)
    }

    /// Its headers, empty if it has none.
    #[must_use]
    pub fn headers(&self) -> FieldTable {
        self.properties.headers().clone().unwrap_or_default()
    }
}

/// A whole number of any AMQP type.
#[must_use]
pub fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some((*n).into()),
        AMQPValue::ShortShortUInt(n) => Some((*n).into()),
        AMQPValue::ShortInt(n) => Some((*n).into()),
        AMQPValue::ShortUInt(n) => Some((*n).into()),
        AMQPValue::LongInt(n) => Some((*n).into()),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::LongLongInt(n) => Some(*n),
        _ => None,
    }
}

/// A text of either AMQP type.
#[must_use]
pub fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A name that may come from a long string: cut to what a short string holds.
#[must_use]
pub fn short(name: &str) -> ShortString {
    let mut end = name.len().min(255);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::try_new(&name[..end]).unwrap_or_default()
}

/// RabbitMQ's name of an AMQP value's type, as its error texts have it.
#[must_use]
pub fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}
