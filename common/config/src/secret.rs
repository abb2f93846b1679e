//! A value that is used and never shown.

use std::{fmt, fs, path::Path};

use serde::{Deserialize, Serialize, Serializer};

/// A password. It can be handed to who needs it; it cannot be printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A secret that was given by itself or in a file, but not in both ways; `key` is its setting, and `{key}_file`
    /// that of the file.
    ///
    /// # Errors
    /// Both are set, the file cannot be read, or there is nothing in it.
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
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}
