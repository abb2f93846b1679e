//! The `x-` arguments of queues: which a type knows, what they may be, and when two declarations differ.
//!
//! An argument that RabbitMQ knows and this broker does nothing with (`x-queue-leader-locator`) is taken where
//! RabbitMQ takes it; one that RabbitMQ does not know is kept and ignored, as there.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{
    message::{number, text, type_name},
    refusal::Refusal,
};

/// What kind of queue it is: <https://www.rabbitmq.com/docs/queues>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A queue, durable or not.
    Classic,
    /// A durable queue that counts deliveries.
    Quorum,
    /// A log that is read and not consumed.
    Stream,
}

/// What becomes of a message too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest goes.
    DropHead,
    /// The new one is refused with a nack.
    RejectPublish,
    /// The same, and it is dead-lettered.
    RejectPublishDlx,
}

/// RabbitMQ does not survive to say why.
const CRASH: &str = "crash";
/// The longest time that RabbitMQ takes: ten years.
pub const MOST_MILLIS: i64 = 315_360_000_000;

/// A queue's arguments, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `x-queue-type`.
    pub kind: Kind,
    /// `x-expires`, in milliseconds without use.
    pub expires: Option<u64>,
    /// `x-message-ttl`, in milliseconds.
    pub message_ttl: Option<u64>,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<String>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_key: Option<String>,
    /// `x-dead-letter-strategy: at-least-once`, in force only with `reject-publish`, as in RabbitMQ.
    pub at_least_once: bool,
    /// `x-max-length`.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`.
    pub max_bytes: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-max-priority` of a classic queue.
    pub max_priority: u8,
    /// `x-single-active-consumer`.
    pub single_active: bool,
    /// `x-delivery-limit`; RabbitMQ 4.0's default is 20, and below 0 there is none.
    pub delivery_limit: Option<u32>,
    /// `x-max-age` of a stream, in milliseconds.
    pub max_age: Option<u64>,
}

/// How a value of an argument is checked.
#[derive(Debug, Clone, Copy)]
enum Check {
    Count,
    Millis,
    Expires,
    Name,
    Key,
    Strategy,
    Overflow,
    Flag,
    Priority,
    Type,
    Age,
    Integer,
    Text,
    /// RabbitMQ does not look.
    Any,
}

/// RabbitMQ's order of checking, and which types know the argument: classic, quorum, stream.
const KNOWN: [(&str, Check, [bool; 3]); 19] = [
    ("x-expires", Check::Expires, [true, true, false]),
    ("x-message-ttl", Check::Millis, [true, true, false]),
    ("x-dead-letter-exchange", Check::Name, [true, true, false]),
    ("x-dead-letter-routing-key", Check::Key, [true, true, false]),
    ("x-dead-letter-strategy", Check::Strategy, [false, true, false]),
    ("x-max-length", Check::Count, [true, true, false]),
    ("x-max-length-bytes", Check::Count, [true, true, true]),
    ("x-max-in-memory-length", Check::Count, [false, true, false]),
    ("x-max-in-memory-bytes", Check::Count, [false, true, false]),
    ("x-max-priority", Check::Priority, [true, false, false]),
    ("x-overflow", Check::Overflow, [true, true, false]),
    ("x-queue-mode", Check::Text, [true, false, false]),
    ("x-queue-version", Check::Integer, [true, false, false]),
    ("x-single-active-consumer", Check::Flag, [true, true, false]),
    ("x-queue-type", Check::Type, [true, true, true]),
    ("x-quorum-initial-group-size", Check::Count, [false, true, false]),
    ("x-max-age", Check::Age, [false, false, true]),
    ("x-stream-max-segment-size-bytes", Check::Count, [false, false, true]),
    ("x-delivery-limit", Check::Any, [false, true, false]),
];

impl Kind {
    /// The value of `x-queue-type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// RabbitMQ's module of this type, which is in its error texts.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }
}

impl Settings {
    /// Reads and checks the arguments of a declaration.
    ///
    /// # Errors
    /// 406 with the first argument that will not do.
    pub fn read(arguments: &FieldTable, queue: &str, vhost: &str) -> Result<Self, Refusal> {
        let at = |name: &str| format!("invalid arg '{name}' for queue '{queue}' in vhost '{vhost}'");
        let get = |name: &str| arguments.inner().get(name);
        let kind = match get("x-queue-type").map(|value| (text(value), value)) {
            None => Kind::Classic,
            Some((Some(name), _)) => match name.as_str() {
                "classic" => Kind::Classic,
                "quorum" => Kind::Quorum,
                "stream" => Kind::Stream,
                other => {
                    let why = format!("{}: \"unsupported queue type '{other}'\"", at("x-queue-type"));
                    return Err(Refusal::precondition(why));
                }
            },
            Some((None, value)) => {
                let why = format!("{}: {{unacceptable_type,{}}}", at("x-queue-type"), type_name(value));
                return Err(Refusal::precondition(why));
            }
        };
        if let Some(value) = get("x-dead-letter-exchange")
            && text(value).is_none()
        {
            return Err(Refusal::precondition(format!(
                "invalid type '{}' for arg 'x-dead-letter-exchange' in queue '{queue}' in vhost '{vhost}'",
                type_name(value)
            )));
        }
        for (name, check, known) in KNOWN {
            let Some(value) = get(name) else { continue };
            if !known[kind as usize] {
                return Err(Refusal::precondition(format!("{} of queue type {}", at(name), kind.module())));
            }
            if let Err(why) = check.value(value, arguments) {
                let refusal = Refusal::precondition(format!("{}: {why}", at(name)));
                return Err(if why == CRASH { Refusal::internal() } else { refusal });
            }
        }
        let count = |name| get(name).and_then(number).and_then(|n| u64::try_from(n).ok());
        let word = |name| get(name).and_then(text);
        let overflow = match word("x-overflow").as_deref() {
            Some("reject-publish") => Overflow::RejectPublish,
            Some("reject-publish-dlx") if kind == Kind::Classic => Overflow::RejectPublishDlx,
            _ => Overflow::DropHead,
        };
        let delivery_limit = match (kind, get("x-delivery-limit").and_then(number)) {
            (Kind::Quorum, None) => Some(20),
            (Kind::Quorum, Some(limit)) => u32::try_from(limit).ok(),
            _ => None,
        };
        Ok(Self {
            kind,
            expires: count("x-expires"),
            message_ttl: count("x-message-ttl"),
            dead_letter_exchange: word("x-dead-letter-exchange"),
            dead_letter_key: word("x-dead-letter-routing-key"),
            at_least_once: word("x-dead-letter-strategy").as_deref() == Some("at-least-once")
                && overflow == Overflow::RejectPublish,
            max_length: count("x-max-length"),
            max_bytes: count("x-max-length-bytes"),
            overflow,
            max_priority: count("x-max-priority").and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
            single_active: matches!(get("x-single-active-consumer"), Some(AMQPValue::Boolean(true))),
            delivery_limit,
            max_age: word("x-max-age").and_then(|age| age_millis(&age)),
        })
    }
}

impl Check {
    fn value(self, value: &AMQPValue, all: &FieldTable) -> Result<(), String> {
        let unacceptable = || format!("{{unacceptable_type,{}}}", type_name(value));
        match self {
            Self::Any => Ok(()),
            Self::Count => whole(value, 0).map(|_| ()),
            Self::Integer => number(value).map(|_| ()).ok_or_else(|| not_integer(value)),
            Self::Millis | Self::Expires => {
                let n = whole(value, 0)?;
                if matches!(self, Self::Expires) && n == 0 {
                    return Err("{value_zero,0}".into());
                }
                // Ten years.
                if n > MOST_MILLIS { Err(format!("{{value_too_large,{n}}}")) } else { Ok(()) }
            }
            Self::Priority => {
                let n = whole(value, 0)?;
                if n > 255 { Err(format!("{{max_value_exceeded,{n}}}")) } else { Ok(()) }
            }
            Self::Name | Self::Text | Self::Type => text(value).map(|_| ()).ok_or_else(unacceptable),
            Self::Key => {
                text(value).ok_or_else(unacceptable)?;
                let named = all.contains_key("x-dead-letter-exchange");
                if named { Ok(()) } else { Err("routing_key_but_no_dlx_defined".into()) }
            }
            Self::Strategy => match text(value).ok_or_else(unacceptable)?.as_str() {
                "at-most-once" | "at-least-once" => Ok(()),
                _ => Err("invalid_dlx_strategy".into()),
            },
            Self::Overflow => match text(value).ok_or_else(unacceptable)?.as_str() {
                "drop-head" | "reject-publish" | "reject-publish-dlx" => Ok(()),
                _ => Err("invalid_overflow".into()),
            },
            Self::Flag => match value {
                AMQPValue::Boolean(_) => Ok(()),
                _ => Err(unacceptable()),
            },
            Self::Age => {
                let age = text(value).ok_or_else(unacceptable)?;
                age_millis(&age).map(|_| ()).ok_or_else(|| CRASH.to_owned())
            }
        }
    }
}

fn not_integer(value: &AMQPValue) -> String {
    format!("\"expected integer, got {}\"", type_name(value))
}

fn whole(value: &AMQPValue, least: i64) -> Result<i64, String> {
    let n = number(value).ok_or_else(|| not_integer(value))?;
    if n < least { Err(format!("{{value_negative,{n}}}")) } else { Ok(n) }
}

/// `7D`, `12h`: Y, M, D, h, m, s.
#[must_use]
pub fn age_millis(age: &str) -> Option<u64> {
    let unit = age.chars().last()?;
    let count: u64 = age[..age.len() - unit.len_utf8()].parse().ok()?;
    let seconds = match unit {
        'Y' => 365 * 86_400,
        'M' => 30 * 86_400,
        'D' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    count.checked_mul(seconds * 1_000)
}

/// Compares a declaration with what is there, over the arguments that its type knows.
///
/// # Errors
/// 406 in RabbitMQ's words: which argument, what was received, what is current.
pub fn assert_same(
    kind: Kind,
    current: &FieldTable,
    received: &FieldTable,
    queue: &str,
    vhost: &str,
) -> Result<(), Refusal> {
    for (name, _, known) in KNOWN {
        if known[kind as usize] || name == "x-queue-type" {
            same(name, current.inner().get(name), received.inner().get(name), "queue", queue, vhost)?;
        }
    }
    Ok(())
}

/// Compares one argument of a queue or an exchange.
///
/// # Errors
/// As above.
pub fn same(
    name: &str,
    current: Option<&AMQPValue>,
    received: Option<&AMQPValue>,
    what: &str,
    entity: &str,
    vhost: &str,
) -> Result<(), Refusal> {
    let shown = |value: &AMQPValue| match value {
        AMQPValue::Boolean(flag) => flag.to_string(),
        value => text(value).or_else(|| number(value).map(|n| n.to_string())).unwrap_or_default(),
    };
    let typed = |value: &AMQPValue| format!("the value '{}' of type '{}'", shown(value), type_name(value));
    // A queue that was declared without a type is a classic one.
    let classic = AMQPValue::LongString("classic".into());
    let default = (name == "x-queue-type").then_some(&classic);
    let (received, current) = match (received.or(default), current.or(default)) {
        (None, None) => return Ok(()),
        (Some(r), Some(c)) if r == c || (number(r).is_some() && number(r) == number(c)) => return Ok(()),
        (Some(r), Some(c)) => (format!("'{}'", shown(r)), format!("'{}'", shown(c))),
        (Some(r), None) => (typed(r), "none".into()),
        (None, Some(c)) => ("none".into(), typed(c)),
    };
    Err(inequivalent(name, what, entity, vhost, &received, &current))
}

/// 406 for two declarations that differ.
#[must_use]
pub fn inequivalent(
    name: &str,
    what: &str,
    entity: &str,
    vhost: &str,
    received: &str,
    current: &str,
) -> Refusal {
    Refusal::precondition(format!(
        "inequivalent arg '{name}' for {what} '{entity}' in vhost '{vhost}': received {received} but current \
         is {current}"
    ))
}
