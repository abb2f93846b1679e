//! Why a command ends early: one sentence, with what to type.

use std::fmt;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Something that the person can see to.
    Why(String),
    /// A command line that is none.
    Usage(String),
    /// All is said already; only the exit code is left to tell.
    Said,
}

/// The usual result in this crate.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Why(why) | Self::Usage(why) => f.write_str(why),
            Self::Said => Ok(()),
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Self::Why(why.to_owned())
    }
}

/// Says what was being done when a call of the system failed.
pub(crate) trait Doing<T> {
    /// `doing` reads on from "cannot".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure::Why(format!("cannot {}: {e}", doing())))
    }
}
