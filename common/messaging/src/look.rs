//! A look into a queue, by a person or a page: message by message, and what is not removed stays.

use async_trait::async_trait;

use super::Message;

/// What waited in a queue when the look began, oldest first, one message at a time.
///
/// What was given and not removed goes back to the queue with [`close`](Self::close), and just as well when the
/// cursor is dropped or its connection is lost. Until then nobody else sees it, so looks into one queue take turns.
#[async_trait]
pub trait Cursor: Send {
    /// The next message; `None` after the last of those that were there at the first call.
    ///
    /// # Errors
    /// [`LookError`]; nothing is lost by it.
    async fn next(&mut self) -> Result<Option<Message>, LookError>;

    /// How many are still to come.
    fn left(&self) -> u32;

    /// Removes the message that was given last. Only a [`close`](Self::close) that succeeds says that the broker
    /// has done so.
    ///
    /// # Errors
    /// [`LookError`]; the message is there again.
    async fn remove(&mut self) -> Result<(), LookError>;

    /// Gives back what was not removed, and ends.
    ///
    /// # Errors
    /// [`LookError`]: what was removed last may be there still.
    async fn close(&mut self) -> Result<(), LookError>;
}

/// Why a queue cannot be looked into. Nothing is lost by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// The broker is there, and has no such queue.
    #[error("there is no queue {0}: no service has been at this broker yet, or somebody has deleted it")]
    Missing(String),
    /// Another look takes its time.
    #[error("somebody else is looking into {0} at the moment: try again when they are done")]
    Busy(String),
    /// The broker is away or refuses, as a sentence.
    #[error("{0}")]
    Broken(String),
}
