//! The exit codes of a service.

use std::process::ExitCode;

/// The exit code, for scripts and supervisors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success, or an orderly shutdown.
    Done = 0,
    /// It could not start, or work was left at the end of the grace period.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// A second stop signal.
    AtOnce = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
