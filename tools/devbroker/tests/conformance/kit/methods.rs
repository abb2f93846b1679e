//! Methods as frames: short ways to write the common ones, and their names as the specification has them.

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx};
use lapin::types::{AMQPValue, FieldTable};

use super::table;

/// A method that can be sent.
pub(crate) trait Call {
    fn class(self) -> AMQPClass;
}

impl Call for AMQPClass {
    fn class(self) -> AMQPClass {
        self
    }
}

macro_rules! calls {
    ($($class:ident $module:ident: $($method:ident)*;)*) => {
        $($(
            impl Call for $module::$method {
                fn class(self) -> AMQPClass {
                    AMQPClass::$class($module::AMQPMethod::$method(self))
                }
            }
        )*)*
    };
}

calls! {
    Connection connection: StartOk TuneOk Open Close CloseOk;
    Channel channel: Open Flow Close CloseOk;
    Access access: Request;
    Exchange exchange: Declare Delete Bind Unbind;
    Queue queue: Declare Bind Purge Delete Unbind;
    Basic basic: Qos Consume Cancel Publish Get Ack Reject Nack Recover RecoverAsync;
    Confirm confirm: Select;
    Tx tx: Select Commit Rollback;
}

/// `queue.declare-ok` for `Queue(DeclareOk(..))`.
pub(crate) fn name(method: &AMQPClass) -> String {
    let debug = format!("{method:?}");
    let mut words = debug.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let (class, method) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut name = class.to_lowercase() + ".";
    for (n, letter) in method.chars().enumerate() {
        if letter.is_uppercase() && n > 0 {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// `queue.declare` of a durable queue.
pub(crate) fn declare<const N: usize>(queue: &str, arguments: [(&str, AMQPValue); N]) -> queue::Declare {
    queue::Declare {
        queue: queue.into(),
        durable: true,
        arguments: table(arguments),
        ..queue::Declare::default()
    }
}

/// `queue.declare` that only asks.
pub(crate) fn declare_passive(queue: &str) -> queue::Declare {
    queue::Declare { passive: true, ..declare(queue, []) }
}

/// `exchange.declare` of a durable exchange.
pub(crate) fn declare_exchange<const N: usize>(
    exchange: &str,
    kind: &str,
    arguments: [(&str, AMQPValue); N],
) -> exchange::Declare {
    exchange::Declare {
        exchange: exchange.into(),
        kind: kind.into(),
        durable: true,
        arguments: table(arguments),
        ..exchange::Declare::default()
    }
}

/// `queue.bind`.
pub(crate) fn bind(queue: &str, exchange: &str, key: &str) -> queue::Bind {
    let (queue, exchange, routing_key) = (queue.into(), exchange.into(), key.into());
    queue::Bind { queue, exchange, routing_key, nowait: false, arguments: FieldTable::default() }
}

/// `basic.publish`, mandatory.
pub(crate) fn publish(exchange: &str, key: &str) -> basic::Publish {
    let (exchange, routing_key) = (exchange.into(), key.into());
    basic::Publish { exchange, routing_key, mandatory: true, immediate: false }
}

/// `basic.consume` with manual acks.
pub(crate) fn consume(queue: &str, tag: &str) -> basic::Consume {
    basic::Consume { queue: queue.into(), consumer_tag: tag.into(), ..basic::Consume::default() }
}

/// `basic.get` with manual acks.
pub(crate) fn get(queue: &str) -> basic::Get {
    basic::Get { queue: queue.into(), no_ack: false }
}

/// `basic.qos` for each consumer.
pub(crate) fn qos(prefetch_count: u16) -> basic::Qos {
    basic::Qos { prefetch_count, global: false }
}
