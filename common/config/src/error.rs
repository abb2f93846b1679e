//! Errors of settings: of one value, and of all.

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
    /// A key that nobody reads.
    #[error("{origin}: unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownKey {
        /// The key as it was written.
        key: String,
        /// The file.
        origin: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value or a file that cannot be read, or values that break a rule.
    #[error("{0}")]
    Invalid(String),
    /// A secret on the command line, which everyone on the machine can read.
    #[error("command line --{}: a secret has no flag: set APP_{} in the environment", key.replace('_', "-"), key.to_uppercase())]
    SecretFlag {
        /// The secret's key.
        key: String,
    },
    /// A flag that nobody reads; the fields are those of the unknown key.
    #[error("command line {flag}: unknown key `{key}`{}", hint(.nearest.as_deref()))]
    UnknownFlag {
        /// The flag as it was written.
        flag: String,
        /// The key it would be.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// clap's answer to the command line: help, or an error such as a flag without its value.
    #[error("{0}")]
    Usage(clap::Error),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"))
}
