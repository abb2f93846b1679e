//! Compares repeated declarations with what exists, with RabbitMQ's errors for the differences.
//! <https://www.rabbitmq.com/docs/queues#property-equivalence>

use std::fmt::Display;

use amq_protocol::{
    protocol::{exchange, queue},
    types::AMQPValue,
};

use super::{
    ChannelId,
    error::AmqpError,
    exchange::{ALTERNATE, Exchange, ExchangeKind},
    firehose::TRACE,
    queue::Queue,
    queue_options::{ARGUMENTS, QueueOptions},
    value::{Name, is_equal, number, text, type_name},
};

/// Compares a declaration with the existing queue, over the arguments that its type has.
pub(super) fn check_same_queue(
    queue: &Queue,
    at: ChannelId,
    method: &queue::Declare,
) -> Result<(), AmqpError> {
    if queue.owner != method.exclusive.then_some(at.connection) {
        return Err(AmqpError::exclusive(&queue.name));
    }
    let what = format!("queue {}", queue.name);
    check_property("durable", queue.durable, method.durable, &what)?;
    check_property("auto_delete", queue.auto_delete, method.auto_delete, &what)?;
    QueueOptions::read(&method.arguments, &queue.name)?;
    // A queue without a type is a classic queue.
    let classic = AMQPValue::LongString("classic".into());
    for (name, _, known) in ARGUMENTS {
        let default = (name == "x-queue-type").then_some(&classic);
        if known[queue.kind() as usize] {
            let [current, received] =
                [&queue.arguments, &method.arguments].map(|table| table.inner().get(name).or(default));
            check_argument(name, current, received, &what)?;
        }
    }
    Ok(())
}

/// Compares a declaration with the existing exchange.
pub(super) fn check_same_exchange(
    name: &Name,
    current: &Exchange,
    method: &exchange::Declare,
) -> Result<(), AmqpError> {
    let what = format!("exchange {name}");
    ExchangeKind::of(method)?;
    check_property("type", current.kind_name(), method.kind.as_str(), &what)?;
    check_property("durable", current.durable, method.durable, &what)?;
    check_property("auto_delete", current.auto_delete, method.auto_delete, &what)?;
    check_property("internal", name.name == TRACE, method.internal, &what)?;
    let [current, received] =
        [&current.arguments, &method.arguments].map(|table| table.inner().get(ALTERNATE));
    check_argument(ALTERNATE, current, received, &what)
}

fn check_property<T: PartialEq + Display + Copy>(
    name: &str,
    current: T,
    received: T,
    what: &str,
) -> Result<(), AmqpError> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(name, what, &format!("'{received}'"), &format!("'{current}'")))
}

fn check_argument(
    name: &str,
    current: Option<&AMQPValue>,
    received: Option<&AMQPValue>,
    what: &str,
) -> Result<(), AmqpError> {
    let shown = |value: &AMQPValue| match value {
        AMQPValue::Boolean(flag) => flag.to_string(),
        value => text(value).or_else(|| number(value).map(|n| n.to_string())).unwrap_or_default(),
    };
    let quoted = |value| format!("'{}'", shown(value));
    let typed = |value| format!("the value {} of type '{}'", quoted(value), type_name(value));
    let (received, current) = match (received, current) {
        (None, None) => return Ok(()),
        (Some(r), Some(c)) if is_equal(r, c) => return Ok(()),
        (Some(r), Some(c)) => (quoted(r), quoted(c)),
        (Some(r), None) => (typed(r), "none".into()),
        (None, Some(c)) => ("none".into(), typed(c)),
    };
    Err(inequivalent(name, what, &received, &current))
}

fn inequivalent(argument: &str, what: &str, received: &str, current: &str) -> AmqpError {
    AmqpError::precondition(format!(
        "inequivalent arg '{argument}' for {what}: received {received} but current is {current}"
    ))
}
