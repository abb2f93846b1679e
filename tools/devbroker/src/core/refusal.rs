//! What the broker says when it says no: RabbitMQ's codes and RabbitMQ's words.
//!
//! Clients branch on the code and people search for the words, so both are RabbitMQ 4.0's, as it
//! was asked (<https://www.rabbitmq.com/docs/channels#error-handling>). A soft code closes the channel,
//! a hard one the connection.

use amq_protocol::types::ShortString;

use super::message::short;

/// A refusal: a code, and a text that begins with the code's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// AMQP's reply code.
    pub code: u16,
    /// The reply text; what is sent is at most 255 bytes of it.
    pub text: String,
}

impl Refusal {
    fn new(code: u16, name: &str, text: impl AsRef<str>) -> Self {
        Self { code, text: format!("{name} - {}", text.as_ref()) }
    }

    /// The text as it is sent: RabbitMQ ends a long one with three dots.
    #[must_use]
    pub fn reply_text(&self) -> ShortString {
        if self.text.len() <= 255 {
            return short(&self.text);
        }
        let mut end = 252;
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        short(&format!("{}...", &self.text[..end]))
    }

    /// Whether it ends the connection, and not just the channel.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        !matches!(self.code, 311 | 312 | 313 | 403 | 404 | 405 | 406)
    }

    /// 403.
    pub fn access_refused(text: impl AsRef<str>) -> Self {
        Self::new(403, "ACCESS_REFUSED", text)
    }

    /// 404.
    pub fn not_found(text: impl AsRef<str>) -> Self {
        Self::new(404, "NOT_FOUND", text)
    }

    /// 404 for a queue.
    #[must_use]
    pub fn no_queue(name: &str, vhost: &str) -> Self {
        Self::not_found(format!("no queue '{name}' in vhost '{vhost}'"))
    }

    /// 404 for an exchange.
    #[must_use]
    pub fn no_exchange(name: &str, vhost: &str) -> Self {
        Self::not_found(format!("no exchange '{name}' in vhost '{vhost}'"))
    }

    /// 405: another connection has the queue for itself.
    #[must_use]
    pub fn locked(name: &str, vhost: &str) -> Self {
        let text = format!(
            "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be \
             originally declared on another connection or the exclusive property value does not match that \
             of the original declaration."
        );
        Self::new(405, "RESOURCE_LOCKED", text)
    }

    /// 405: such a queue gives nothing to who just asks.
    #[must_use]
    pub fn locked_by_type(name: &str, vhost: &str) -> Self {
        let text = format!(
            "cannot obtain access to locked queue '{name}' in vhost '{vhost}'. basic.get operations are not \
             supported by quorum queues with single active consumer"
        );
        Self::new(405, "RESOURCE_LOCKED", text)
    }

    /// 406.
    pub fn precondition(text: impl AsRef<str>) -> Self {
        Self::new(406, "PRECONDITION_FAILED", text)
    }

    /// 501: not a frame.
    pub fn frame(text: impl AsRef<str>) -> Self {
        Self::new(501, "FRAME_ERROR", text)
    }

    /// 502: a frame whose content cannot be read.
    pub fn syntax(text: impl AsRef<str>) -> Self {
        Self::new(502, "SYNTAX_ERROR", text)
    }

    /// 503: a method where it may not be.
    pub fn command_invalid(text: impl AsRef<str>) -> Self {
        Self::new(503, "COMMAND_INVALID", text)
    }

    /// 504: a frame on a channel that is not open, or is already.
    pub fn channel(text: impl AsRef<str>) -> Self {
        Self::new(504, "CHANNEL_ERROR", text)
    }

    /// 505: content frames out of order.
    pub fn unexpected(text: impl AsRef<str>) -> Self {
        Self::new(505, "UNEXPECTED_FRAME", text)
    }

    /// 506: a limit of this broker.
    pub fn resource(text: impl AsRef<str>) -> Self {
        Self::new(506, "RESOURCE_ERROR", text)
    }

    /// 530.
    pub fn not_allowed(text: impl AsRef<str>) -> Self {
        Self::new(530, "NOT_ALLOWED", text)
    }

    /// 540: what this broker does not do, by its name.
    pub fn not_implemented(text: impl AsRef<str>) -> Self {
        Self::new(540, "NOT_IMPLEMENTED", text)
    }

    /// 541, which RabbitMQ sends without a word more.
    #[must_use]
    pub fn internal() -> Self {
        Self { code: 541, text: "INTERNAL_ERROR".into() }
    }

    /// 320: an operator closed the connection.
    pub fn forced(text: impl AsRef<str>) -> Self {
        Self::new(320, "CONNECTION_FORCED", text)
    }
}
