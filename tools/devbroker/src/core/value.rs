//! Ids and names, and conversions of AMQP values.

use std::{fmt, sync::Arc};

use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use serde::{Deserialize, Serialize};

/// Identifies a connection, as long as the broker runs.
pub(crate) type ConnectionId = u64;
/// Identifies a queue; no queue gets the id of an earlier one, even after a restart.
pub(crate) type QueueId = u64;
/// Identifies a consumer, as long as the broker runs.
pub(crate) type ConsumerId = u64;

/// The name of a queue or an exchange; `Display` has the form of RabbitMQ's error texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Name {
    pub(crate) vhost: Arc<str>,
    pub(crate) name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' in vhost '{}'", self.name, self.vhost)
    }
}

/// Returns a value of any of AMQP's integer types.
pub(crate) fn number(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(n) => Some(n.into()),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => Some(n.into()),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => Some(n.into()),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => Some(n),
        _ => None,
    }
}

/// Returns a value of either of AMQP's string types.
pub(crate) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Returns the text of a table's field.
pub(crate) fn text_of(table: &FieldTable, field: &str) -> Option<String> {
    table.inner().get(field).and_then(text)
}

/// Converts a text to a short string, which holds at most 255 bytes; the rest is cut off.
pub(crate) fn short_string(name: &str) -> ShortString {
    ShortString::try_new(&name[..name.floor_char_boundary(255)]).unwrap_or_default()
}

/// Converts a text to a value.
pub(crate) fn long_string(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Converts a count to the 32 bits that AMQP has for it.
pub(crate) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Returns the name of a value's type in RabbitMQ's error texts.
pub(crate) fn type_name(value: &AMQPValue) -> &'static str {
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

/// Compares two values; integers are equal whatever their types are.
pub(crate) fn is_equal(one: &AMQPValue, other: &AMQPValue) -> bool {
    one == other || number(one).is_some() && number(one) == number(other)
}
