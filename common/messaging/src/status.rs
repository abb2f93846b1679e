//! The state of a client's connections to its broker.

use std::fmt;

/// The state of a client's two connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// State of the connection that publishes.
    pub publishing: LinkStatus,
    /// State of the connection that consumes.
    pub consuming: LinkStatus,
}

impl BrokerStatus {
    /// Checks that both connections are up, for `/readyz`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and, where known, what to do.
    pub fn check(&self) -> Result<String, String> {
        match (&self.publishing, &self.consuming) {
            (LinkStatus::Up, LinkStatus::Up) => Ok("connected".into()),
            (LinkStatus::Up, other) | (other, _) => Err(other.to_string()),
        }
    }
}

/// The state of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// Not connected yet, or not any more, and trying again; with the last error, if there was one.
    Connecting(Option<String>),
    /// Connected.
    Up,
    /// The broker is short of memory or disk and accepts no messages: they wait in the client.
    Blocked(String),
    /// The broker refuses the credentials, the vhost, the permissions, or a queue that differs from its declaration.
    /// A person has to act; the client tries again slowly.
    Refused(String),
    /// Closed by this client.
    Closed,
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting(None) => f.write_str("connecting"),
            Self::Connecting(Some(why)) => write!(f, "connecting: {why}"),
            Self::Up => f.write_str("connected"),
            Self::Blocked(why) => write!(f, "the broker takes no messages: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}
