//! Declared again: what has to be the same as it is, and how RabbitMQ names the difference.
//! <https://www.rabbitmq.com/docs/queues#property-equivalence>

use std::fmt::Display;

use amq_protocol::{
    protocol::{exchange, queue},
    types::AMQPValue,
};

use super::{
    At,
    arguments::{KNOWN, Settings},
    exchange::{ALTERNATE, Exchange, ExchangeKind},
    queue::Queue,
    refusal::Refusal,
    value::{Name, is_equal, number, text, type_name},
};

/// Compares a declaration with the queue that is there, over the arguments that its type knows.
pub(super) fn same_queue(queue: &Queue, at: At, method: &queue::Declare) -> Result<(), Refusal> {
    if queue.owner != method.exclusive.then_some(at.connection) {
        return Err(Refusal::exclusive(&queue.name));
    }
    let what = format!("queue {}", queue.name);
    same_property("durable", queue.durable, method.durable, &what)?;
    same_property("auto_delete", queue.auto_delete, method.auto_delete, &what)?;
    Settings::read(&method.arguments, &queue.name)?;
    // A queue that was declared without a type is a classic one.
    let classic = AMQPValue::LongString("classic".into());
    for (name, _, known) in KNOWN {
        let default = (name == "x-queue-type").then_some(&classic);
        if known[queue.kind() as usize] {
            let [current, received] =
                [&queue.arguments, &method.arguments].map(|table| table.inner().get(name).or(default));
            same_argument(name, current, received, &what)?;
        }
    }
    Ok(())
}

/// Compares a declaration with the exchange that is there.
pub(super) fn same_exchange(
    name: &Name,
    current: &Exchange,
    method: &exchange::Declare,
) -> Result<(), Refusal> {
    let what = format!("exchange {name}");
    ExchangeKind::of(method)?;
    same_property("type", current.kind_name(), method.kind.as_str(), &what)?;
    same_property("durable", current.durable, method.durable, &what)?;
    same_property("auto_delete", current.auto_delete, method.auto_delete, &what)?;
    let [current, received] =
        [&current.arguments, &method.arguments].map(|table| table.inner().get(ALTERNATE));
    same_argument(ALTERNATE, current, received, &what)
}

fn same_property<T: PartialEq + Display + Copy>(
    name: &str,
    current: T,
    received: T,
    what: &str,
) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(name, what, &format!("'{received}'"), &format!("'{current}'")))
}

fn same_argument(
    name: &str,
    current: Option<&AMQPValue>,
    received: Option<&AMQPValue>,
    what: &str,
) -> Result<(), Refusal> {
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

fn inequivalent(argument: &str, what: &str, received: &str, current: &str) -> Refusal {
    Refusal::precondition(format!(
        "inequivalent arg '{argument}' for {what}: received {received} but current is {current}"
    ))
}
