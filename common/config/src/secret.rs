//! Values that are used and never shown.

use std::{fmt, fs, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use crate::InvalidValue;

/// Text that is shown instead of a secret.
pub(super) const HIDDEN: &str = "***";
/// The names by which these types are found in a section.
pub(super) const TYPE: &str = "Secret";
pub(super) const FILE_TYPE: &str = "SecretFile";

/// A file that holds a secret, such as a Docker secret. Like the secret itself it is set in the environment or in a file
/// of settings, and not on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretFile(PathBuf);

impl<T: Into<PathBuf>> From<T> for SecretFile {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

/// A password or a key, such as a broker's. It can be used, and it cannot be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of a text.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the secret that was given by itself or in a file, but not in both ways; `key` is its setting, and
    /// `{key}_file` that of the file.
    ///
    /// # Errors
    /// Both are set, the file cannot be read, or it is empty.
    pub fn given_or_in_file(
        key: &str,
        given: Option<&Self>,
        file: Option<&SecretFile>,
    ) -> Result<Option<Self>, InvalidValue> {
        let invalid = |why: &str| Err(InvalidValue::new(key, why));
        let secret = match (given, file) {
            (Some(_), Some(_)) => return invalid(&format!("{key}_file is set, too: keep one of both")),
            (given, None) => given.cloned(),
            (None, Some(SecretFile(path))) => {
                let text = fs::read_to_string(path).map_err(|e| {
                    InvalidValue::new(format!("{key}_file"), format!("cannot read {}: {e}", path.display()))
                })?;
                Some(Self::new(text.trim_end_matches(['\r', '\n'])))
            }
        };
        match &secret {
            Some(secret) if secret.0.is_empty() => invalid("is empty"),
            _ => Ok(secret),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}
