//! The methods that a server says, each in the enums of its class: `queue::BindOk {}.class()` can be sent.

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};

use super::refusal::Refusal;

/// A method that can be sent.
pub(crate) trait Say {
    /// The method, in the enum of all.
    fn class(self) -> AMQPClass;
}

macro_rules! say {
    ($($class:ident $module:ident: $($method:ident)*;)*) => {$($(
        impl Say for $module::$method {
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

/// What a method is answered with, if with anything.
pub(super) type Answer = Result<Option<AMQPClass>, Refusal>;

pub(super) fn answer(answer: impl Say) -> Answer {
    Ok(Some(answer.class()))
}

/// The answer, if the client wants one.
pub(super) fn unless(nowait: bool, answer: impl Say) -> Answer {
    Ok((!nowait).then(|| answer.class()))
}
