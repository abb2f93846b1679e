//! The `x-` arguments of queues: which queue type has which, and their valid values.
//!
//! Arguments that only concern a cluster (`x-quorum-initial-group-size`) are accepted and have no effect; arguments that
//! RabbitMQ does not know are ignored, as there; arguments that this broker does not implement are refused by name.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{
    error::AmqpError,
    value::{Name, number, text, text_of, type_name},
};

/// Type of a queue: <https://www.rabbitmq.com/docs/queues>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueKind {
    /// A plain queue, durable or not.
    Classic,
    /// A durable queue that counts redeliveries.
    Quorum,
    /// An append-only log, whose entries stay when they are read.
    Stream,
}

/// The queue types with their names, and RabbitMQ's module of each, which its error texts mention.
const QUEUE_TYPES: [(QueueKind, &str, &str); 3] = [
    (QueueKind::Classic, "classic", "rabbit_classic_queue"),
    (QueueKind::Quorum, "quorum", "rabbit_quorum_queue"),
    (QueueKind::Stream, "stream", "rabbit_stream_queue"),
];

impl QueueKind {
    /// Returns the value of `x-queue-type`.
    pub(crate) fn name(self) -> &'static str {
        QUEUE_TYPES[self as usize].1
    }

    pub(crate) fn module(self) -> &'static str {
        QUEUE_TYPES[self as usize].2
    }
}

/// The options of a queue, parsed from its arguments.
#[derive(Debug, Clone)]
pub(crate) struct QueueOptions {
    pub(crate) kind: QueueKind,
    /// `x-expires`: how long the queue may be unused, in milliseconds.
    pub(crate) expires: Option<u64>,
    /// `x-message-ttl`, in milliseconds.
    pub(crate) message_ttl: Option<u64>,
    pub(crate) dead_letter_exchange: Option<String>,
    pub(crate) dead_letter_key: Option<String>,
    /// `x-dead-letter-strategy: at-least-once`, which has an effect only with `reject-publish`, as in RabbitMQ.
    pub(crate) at_least_once: bool,
    pub(crate) max_length: Option<u64>,
    /// `x-max-length-bytes` of a stream.
    pub(crate) max_bytes: Option<u64>,
    /// `x-stream-max-segment-size-bytes`.
    pub(crate) segment_bytes: Option<u64>,
    /// `x-max-priority` of a classic queue.
    pub(crate) max_priority: u8,
    pub(crate) single_active: bool,
    /// `x-delivery-limit` of a quorum queue: 20 by default as in RabbitMQ 4.0; a negative number means no limit.
    pub(crate) delivery_limit: Option<u32>,
}

/// Check of an argument's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Check {
    /// An integer in this range.
    Whole(i64, i64),
    Text,
    /// One of these words; otherwise this error.
    OneOf(&'static [&'static str], &'static str),
    Flag,
    /// Anything: RabbitMQ does not check it.
    Any,
}

/// Longest time that RabbitMQ accepts: ten years, in milliseconds.
pub(super) const TEN_YEARS: i64 = 315_360_000_000;
const COUNT: Check = Check::Whole(0, i64::MAX);
const STRATEGIES: Check = Check::OneOf(&["at-most-once", "at-least-once"], "invalid_dlx_strategy");
const OVERFLOWS: Check =
    Check::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow");

/// The known arguments in the order in which RabbitMQ checks them, each with the queue types that have it: classic, quorum, stream.
pub(super) const ARGUMENTS: [(&str, Check, [bool; 3]); 17] = [
    ("x-expires", Check::Whole(1, TEN_YEARS), [true, true, false]),
    ("x-message-ttl", Check::Whole(0, TEN_YEARS), [true, true, false]),
    ("x-dead-letter-exchange", Check::Text, [true, true, false]),
    ("x-dead-letter-routing-key", Check::Text, [true, true, false]),
    ("x-dead-letter-strategy", STRATEGIES, [false, true, false]),
    ("x-max-length", COUNT, [true, true, false]),
    ("x-max-length-bytes", COUNT, [true, true, true]),
    ("x-max-priority", Check::Whole(0, 255), [true, false, false]),
    ("x-overflow", OVERFLOWS, [true, true, false]),
    ("x-queue-mode", Check::Text, [true, false, false]),
    ("x-queue-version", Check::Any, [true, false, false]),
    ("x-single-active-consumer", Check::Flag, [true, true, false]),
    ("x-queue-type", Check::Text, [true, true, true]),
    ("x-quorum-initial-group-size", COUNT, [false, true, false]),
    ("x-max-age", Check::Text, [false, false, true]),
    ("x-stream-max-segment-size-bytes", COUNT, [false, false, true]),
    ("x-delivery-limit", Check::Any, [false, true, false]),
];

impl QueueOptions {
    /// Parses the arguments of a declaration.
    pub(crate) fn read(arguments: &FieldTable, queue: &Name) -> Result<Self, AmqpError> {
        let invalid = |name: &str, why: &str| {
            AmqpError::precondition(format!("invalid arg '{name}' for queue {queue}{why}"))
        };
        let get = |name: &str| arguments.inner().get(name);
        let kind = read_kind(get("x-queue-type")).map_err(|why| invalid("x-queue-type", &why))?;
        if let Some(value) = get("x-dead-letter-exchange").filter(|value| text(value).is_none()) {
            let of = type_name(value);
            let why = format!("invalid type '{of}' for arg 'x-dead-letter-exchange' in queue {queue}");
            return Err(AmqpError::precondition(why));
        }
        for (name, check, known) in ARGUMENTS {
            let Some(value) = get(name) else { continue };
            if !known[kind as usize] {
                return Err(invalid(name, &format!(" of queue type {}", kind.module())));
            }
            check.value(value).map_err(|why| invalid(name, &format!(": {why}")))?;
        }
        if get("x-dead-letter-routing-key").is_some() && get("x-dead-letter-exchange").is_none() {
            return Err(invalid("x-dead-letter-routing-key", ": routing_key_but_no_dlx_defined"));
        }
        let rejects = text_of(arguments, "x-overflow").as_deref() == Some("reject-publish");
        if let Some(name) = unsupported(kind, arguments, rejects) {
            return Err(AmqpError::not_implemented(name));
        }
        let count = |name| get(name).and_then(number).and_then(|n| u64::try_from(n).ok());
        let strategy = text_of(arguments, "x-dead-letter-strategy");
        Ok(Self {
            kind,
            expires: count("x-expires"),
            message_ttl: count("x-message-ttl"),
            dead_letter_exchange: text_of(arguments, "x-dead-letter-exchange"),
            dead_letter_key: text_of(arguments, "x-dead-letter-routing-key"),
            at_least_once: rejects && strategy.as_deref() == Some("at-least-once"),
            max_length: count("x-max-length"),
            max_bytes: count("x-max-length-bytes"),
            segment_bytes: count("x-stream-max-segment-size-bytes"),
            max_priority: count("x-max-priority").and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
            single_active: matches!(get("x-single-active-consumer"), Some(AMQPValue::Boolean(true))),
            delivery_limit: match (kind, get("x-delivery-limit").and_then(number)) {
                (QueueKind::Quorum, limit) => u32::try_from(limit.unwrap_or(20)).ok(),
                _ => None,
            },
        })
    }
}

/// Returns the first argument that RabbitMQ implements and this broker does not.
fn unsupported(kind: QueueKind, arguments: &FieldTable, rejects: bool) -> Option<&'static str> {
    let has = |name| arguments.contains_key(name);
    let table = [
        ("x-max-age", has("x-max-age")),
        ("x-max-length-bytes", has("x-max-length-bytes") && kind != QueueKind::Stream),
        ("x-overflow other than reject-publish", has("x-overflow") && !rejects),
        ("x-max-length without x-overflow=reject-publish", has("x-max-length") && !rejects),
    ];
    table.into_iter().find(|(_, is_asked_for)| *is_asked_for).map(|(name, _)| name)
}

fn read_kind(value: Option<&AMQPValue>) -> Result<QueueKind, String> {
    let Some(value) = value else { return Ok(QueueKind::Classic) };
    let name = text(value).ok_or_else(|| format!(": {{unacceptable_type,{}}}", type_name(value)))?;
    let kind = QUEUE_TYPES.iter().find(|kind| kind.1 == name).map(|kind| kind.0);
    kind.ok_or_else(|| format!(": \"unsupported queue type '{name}'\""))
}

impl Check {
    fn value(self, value: &AMQPValue) -> Result<(), String> {
        let unacceptable = format!("{{unacceptable_type,{}}}", type_name(value));
        match (self, text(value)) {
            (Self::Whole(from, to), _) => whole(value, from, to),
            (Self::Text, None) | (Self::OneOf(..), None) => Err(unacceptable),
            (Self::OneOf(known, error), Some(word)) if !known.contains(&word.as_str()) => Err(error.into()),
            (Self::Flag, _) if !matches!(value, AMQPValue::Boolean(_)) => Err(unacceptable),
            _ => Ok(()),
        }
    }
}

fn whole(value: &AMQPValue, from: i64, to: i64) -> Result<(), String> {
    let expected = || format!("\"expected integer, got {}\"", type_name(value));
    let n = number(value).ok_or_else(expected)?;
    match n {
        _ if n < 0 => Err(format!("{{value_negative,{n}}}")),
        _ if n < from => Err(format!("{{value_zero,{n}}}")),
        _ if n > to && to == 255 => Err(format!("{{max_value_exceeded,{n}}}")),
        _ if n > to => Err(format!("{{value_too_large,{n}}}")),
        _ => Ok(()),
    }
}
