//! What the broker says when it says no: RabbitMQ's codes and RabbitMQ's words.
//!
//! Clients branch on the code and people search for the words, so both are RabbitMQ 4.0's, as it was asked
//! (<https://www.rabbitmq.com/docs/channels#error-handling>). Texts that more than one method says stand here.

use amq_protocol::{
    protocol::{channel, connection},
    types::ShortString,
};

use super::value::{Name, short};

/// A refusal: a code, and a text that begins with the code's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// AMQP's reply code.
    pub(crate) code: u16,
    text: String,
}

/// One constructor per code: the text follows the code's name.
macro_rules! codes {
    ($($code:literal $name:literal $constructor:ident;)*) => {
        $(pub(crate) fn $constructor(text: impl AsRef<str>) -> Self {
            Self { code: $code, text: format!("{} - {}", $name, text.as_ref()) }
        })*
    };
}

impl Refusal {
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

    /// 541, which RabbitMQ sends without a word more.
    pub(crate) fn internal() -> Self {
        Self { code: 541, text: "INTERNAL_ERROR".into() }
    }

    pub(crate) fn no_queue(name: &Name) -> Self {
        Self::not_found(format!("no queue {name}"))
    }

    pub(crate) fn no_exchange(name: &Name) -> Self {
        Self::not_found(format!("no exchange {name}"))
    }

    /// Another connection has the queue for itself.
    pub(crate) fn exclusive(name: &Name) -> Self {
        Self::locked(format!(
            "cannot obtain exclusive access to locked queue {name}. It could be originally declared on another \
             connection or the exclusive property value does not match that of the original declaration."
        ))
    }

    /// Only the broker gives names that begin so.
    pub(crate) fn reserved(what: &str, name: &Name) -> Self {
        Self::access_refused(format!("{what} name '{}' contains reserved prefix 'amq.*'", name.name))
    }

    /// `connection.close` with it, about a class and a method.
    pub(crate) fn close_of_connection(&self, (class_id, method_id): (u16, u16)) -> connection::Close {
        connection::Close { reply_code: self.code, reply_text: self.reply_text(), class_id, method_id }
    }

    /// `channel.close` with it, about a class and a method.
    pub(crate) fn close_of_channel(&self, (class_id, method_id): (u16, u16)) -> channel::Close {
        channel::Close { reply_code: self.code, reply_text: self.reply_text(), class_id, method_id }
    }

    /// The text as it is sent, at most 255 bytes: RabbitMQ ends a long one with three dots.
    fn reply_text(&self) -> ShortString {
        if self.text.len() <= 255 {
            return short(&self.text);
        }
        let end = self.text.floor_char_boundary(252);
        short(&format!("{}...", &self.text[..end]))
    }

    /// Whether it ends the connection, and not just the channel.
    pub(crate) fn is_hard(&self) -> bool {
        !(403..=406).contains(&self.code)
    }
}
