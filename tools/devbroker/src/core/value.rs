//! Ids and names, and AMQP values as numbers and texts.

use std::{fmt, sync::Arc};

use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use serde::{Deserialize, Serialize};

/// Identifies a connection, as long as the broker runs.
pub(crate) type ConnectionId = u64;
/// Identifies a queue; no queue gets the id of an earlier one, even after a restart.
pub(crate) type QueueId = u64;
/// Identifies a consumer, as long as the broker runs.
pub(crate) type ConsumerId = u64;

/// The name of a queue or an exchange, shown as error texts have it.
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

/// A whole number of any AMQP type.
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

/// A text of either AMQP type.
pub(crate) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The text of a table's field.
pub(crate) fn text_of(table: &FieldTable, field: &str) -> Option<String> {
    table.inner().get(field).and_then(text)
}

/// A name that may come from a long string: cut to what a short string holds.
pub(crate) fn short(name: &str) -> ShortString {
    ShortString::try_new(&name[..name.floor_char_boundary(255)]).unwrap_or_default()
}

/// Counts on the wire have 32 bits.
pub(crate) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// RabbitMQ's name of a value's type, as its error texts have it.
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

/// Numbers are equal whatever their types are.
pub(crate) fn is_equal(one: &AMQPValue, other: &AMQPValue) -> bool {
    one == other || number(one).is_some() && number(one) == number(other)
}
