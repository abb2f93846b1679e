//! The methods that a server sends, and their conversion to the codec's enum of all methods.

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};

use super::error::AmqpError;

/// A method that a server sends.
pub(crate) trait ServerMethod {
    /// Wraps the method in the enum of all methods.
    fn class(self) -> AMQPClass;
}

macro_rules! say {
    ($($class:ident $module:ident: $($method:ident)*;)*) => {$($(
        impl ServerMethod for $module::$method {
            fn class(self) -> AMQPClass {
                AMQPClass::$class($module::AMQPMethod::$method(self))
            }
        }
    )*)*};
}

say! {
    Connection connection: Start Tune OpenOk Blocked Unblocked Close CloseOk;
    Channel channel: OpenOk FlowOk Close CloseOk;
    Exchange exchange: DeclareOk DeleteOk;
    Queue queue: DeclareOk BindOk UnbindOk PurgeOk DeleteOk;
    Basic basic: QosOk ConsumeOk CancelOk Cancel Return Deliver GetOk GetEmpty Ack Nack;
    Confirm confirm: SelectOk;
}

/// The answer to a client's method: another method, nothing, or an error.
pub(super) type Answer = Result<Option<AMQPClass>, AmqpError>;

pub(super) fn answer(answer: impl ServerMethod) -> Answer {
    Ok(Some(answer.class()))
}

/// Answers unless the client has set `nowait`.
pub(super) fn answer_unless_nowait(nowait: bool, answer: impl ServerMethod) -> Answer {
    Ok((!nowait).then(|| answer.class()))
}
