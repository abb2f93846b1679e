//! Browsing a queue, for operators' tools: message by message; what is not removed stays in the queue.
//!
//! Services consume, so this is an interface of its own beside [`MessagingClient`](messaging::MessagingClient).
//! - this file: the interface and its errors
//! - `amqp`: the same over an [`AmqpClient`](messaging::amqp::AmqpClient)

mod amqp;
#[cfg(any(test, feature = "mock"))]
mod mock;

use async_trait::async_trait;
use messaging::Message;

#[cfg(any(test, feature = "mock"))]
pub use self::mock::{MockBrowseSession, MockQueueBrowser};

/// Access to the messages in a queue without consuming them.
#[async_trait]
pub trait QueueBrowser: Send + Sync {
    /// Begins to browse a queue. It waits for a connection, and for others that browse the same queue, each for
    /// the operation time-out.
    ///
    /// # Errors
    /// [`BrowseError`].
    async fn browse(&self, queue: &str) -> Result<Box<dyn BrowseSession>, BrowseError>;

    /// Counts the messages that are ready in a queue: all but those that are in flight or being browsed. It waits
    /// for a connection as [`browse`](Self::browse) does.
    ///
    /// # Errors
    /// [`BrowseError`].
    async fn count_ready(&self, queue: &str) -> Result<u32, BrowseError>;
}

/// The messages that were in a queue when browsing began, oldest first, one at a time.
///
/// What was returned and not removed goes back to the queue with [`close`](Self::close), and just as well when the
/// session is dropped or its connection is lost. Until then nobody else sees it, so sessions on one queue take turns.
#[async_trait]
pub trait BrowseSession: Send {
    /// Returns the next message; `None` after the last of those that were there at the first call.
    ///
    /// # Errors
    /// [`BrowseError`]; no message is lost.
    async fn next(&mut self) -> Result<Option<Message>, BrowseError>;

    /// Returns how many messages are still to come.
    fn remaining(&self) -> u32;

    /// Removes the message that [`next`](Self::next) returned last. Only a [`close`](Self::close) that succeeds
    /// confirms that the broker has removed it.
    ///
    /// # Errors
    /// [`BrowseError`]; the message is in the queue again.
    async fn remove(&mut self) -> Result<(), BrowseError>;

    /// Puts back what was not removed, and ends the session.
    ///
    /// # Errors
    /// [`BrowseError`]; the message that was removed last may still be in the queue.
    async fn close(&mut self) -> Result<(), BrowseError>;
}

/// Why a queue cannot be browsed. No message is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrowseError {
    /// The broker has no such queue.
    #[error("there is no queue {0}: no service has connected to this broker yet, or somebody has deleted it")]
    Missing(String),
    /// Another session did not end in time.
    #[error("somebody else is browsing {0}: try again when they are done")]
    Busy(String),
    /// The broker is away or refuses the request.
    #[error("{0}")]
    Unavailable(String),
}
