//! The errors that the broker sends, with RabbitMQ's codes and texts.
//!
//! Clients branch on the code and people search for the text, so both are those of RabbitMQ 4.0
//! (<https://www.rabbitmq.com/docs/channels#error-handling>). Texts of more than one method stand here.

use amq_protocol::{
    protocol::{channel, connection},
    types::ShortString,
};

use super::value::{Name, short_string};

/// An AMQP error, which closes a channel or a connection: a code, and a text that begins with the code's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmqpError {
    /// Reply code of AMQP.
    pub(crate) code: u16,
    text: String,
}

/// Defines one constructor per code.
macro_rules! codes {
    ($($code:literal $name:literal $constructor:ident;)*) => {
        $(pub(crate) fn $constructor(text: impl AsRef<str>) -> Self {
            Self { code: $code, text: format!("{} - {}", $name, text.as_ref()) }
        })*
    };
}

impl AmqpError {
    codes! {
        320 "CONNECTION_FORCED" forced;
        403 "ACCESS_REFUSED" access_refused;
        404 "NOT_FOUND" not_found;
        405 "RESOURCE_LOCKED" locked;
        406 "PRECONDITION_FAILED" precondition;
        501 "FRAME_ERROR" frame;
        502 "SYNTAX_ERROR" syntax;
        503 "COMMAND_INVALID" command_invalid;
        504 "CHANNEL_ERROR" channel;
        505 "UNEXPECTED_FRAME" unexpected;
        506 "RESOURCE_ERROR" resource;
        530 "NOT_ALLOWED" not_allowed;
        540 "NOT_IMPLEMENTED" not_implemented;
    }

    /// Creates error 541, which RabbitMQ sends without a text.
    pub(crate) fn internal() -> Self {
        Self { code: 541, text: "INTERNAL_ERROR".into() }
    }

    pub(crate) fn no_queue(name: &Name) -> Self {
        Self::not_found(format!("no queue {name}"))
    }

    pub(crate) fn no_exchange(name: &Name) -> Self {
        Self::not_found(format!("no exchange {name}"))
    }

    /// Creates the error for a queue that is exclusive to another connection.
    pub(crate) fn exclusive(name: &Name) -> Self {
        Self::locked(format!(
            "cannot obtain exclusive access to locked queue {name}. It could be originally declared on another \
             connection or the exclusive property value does not match that of the original declaration."
        ))
    }

    /// Creates the error for a name with the prefix that is reserved for the broker.
    pub(crate) fn reserved(what: &str, name: &Name) -> Self {
        Self::access_refused(format!("{what} name '{}' contains reserved prefix 'amq.*'", name.name))
    }

    /// Returns a `connection.close` with this error, caused by a class and a method.
    pub(crate) fn close_of_connection(&self, (class_id, method_id): (u16, u16)) -> connection::Close {
        connection::Close { reply_code: self.code, reply_text: self.reply_text(), class_id, method_id }
    }

    /// Returns a `channel.close` with this error, caused by a class and a method.
    pub(crate) fn close_of_channel(&self, (class_id, method_id): (u16, u16)) -> channel::Close {
        channel::Close { reply_code: self.code, reply_text: self.reply_text(), class_id, method_id }
    }

    /// Returns the text to send, at most 255 bytes; like RabbitMQ it ends a longer one with three dots.
    fn reply_text(&self) -> ShortString {
        if self.text.len() <= 255 {
            return short_string(&self.text);
        }
        let end = self.text.floor_char_boundary(252);
        short_string(&format!("{}...", &self.text[..end]))
    }

    /// Returns whether it closes the connection, not only the channel: AMQP's hard errors.
    pub(crate) fn is_hard(&self) -> bool {
        !(403..=406).contains(&self.code)
    }
}
