//! Errors of settings: of one value, and of all.

use std::collections::BTreeSet;

/// A value that does not have its key's type, or breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct InvalidValue {
    key: String,
    why: String,
}

impl InvalidValue {
    /// Makes the error of a key. `why` says what is wrong and what to write.
    pub fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl From<InvalidValue> for String {
    fn from(error: InvalidValue) -> Self {
        error.to_string()
    }
}

/// Returns an error for the first key that is zero where zero would mean "never" or "without limit".
///
/// # Errors
/// The error of that key.
pub fn more_than_zero<const N: usize>(keys: [(&str, bool); N]) -> Result<(), InvalidValue> {
    match keys.into_iter().find(|(_, is_zero)| *is_zero) {
        Some((key, _)) => Err(InvalidValue::new(key, "must be more than 0")),
        None => Ok(()),
    }
}

/// A failure to load settings. Each names the key and where it was set.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A key that nobody reads, a value or a file that cannot be read, or values that break a rule.
    #[error("{0}")]
    Invalid(String),
    /// A command line that is wrong, such as a flag without its value, in one line.
    #[error("{0}")]
    Usage(String),
    /// The help that the command line asks for. It is no error.
    #[error("{0}")]
    Help(clap::Error),
}

impl From<String> for SettingsError {
    fn from(invalid: String) -> Self {
        Self::Invalid(invalid)
    }
}

/// Describes a key that nobody reads, with the known key that looks most like it.
pub(super) fn unknown_key(key: &str, known: &BTreeSet<&str>) -> String {
    // Pairs of letters in common find `amqp_server_url` for `broker_url`, where edit distance does not.
    let likeness = |other: &str| strsim::sorensen_dice(key, other);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint =
        nearest.filter(|other| likeness(other) > 0.3).map(|other| format!(": did you mean `{other}`?"));
    format!("unknown key `{key}`{}", hint.unwrap_or_default())
}
