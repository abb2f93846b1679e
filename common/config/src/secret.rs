//! Values that are used and never shown.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, Serialize, Serializer};

use crate::shown::HIDDEN;

/// The name by which this type is found in a section.
pub(super) const TYPE: &str = "Secret";

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
        file: Option<&Path>,
    ) -> Result<Option<Self>, String> {
        let secret = match (given, file) {
            (Some(_), Some(_)) => return Err(format!("{key} and {key}_file are both set: keep one")),
            (given, None) => given.cloned(),
            (None, Some(path)) => {
                let text = fs::read_to_string(path)
                    .map_err(|e| format!("{key}_file: cannot read {}: {e}", path.display()))?;
                Some(Self::new(text.trim_end_matches(['\r', '\n'])))
            }
        };
        match &secret {
            Some(secret) if secret.0.is_empty() => Err(format!("{key}: is empty")),
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
