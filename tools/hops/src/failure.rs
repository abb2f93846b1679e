//! Errors of a command. Whatever fails is one sentence that says what is wrong, where, and what to type; only the exit code
//! depends on its kind.

/// Result of a function of this crate.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// Reason why a command fails, as its exit code tells.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The command has printed why it fails: exit code 1, and nothing more to print.
    #[error("the reason is printed above")]
    AlreadyReported,
    /// Anything else: exit code 1.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}
