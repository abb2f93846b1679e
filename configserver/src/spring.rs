//! The protocol's rules: from a request's text and the files' texts to an answer. No module below does I/O.
//!
//! In the order of a request:
//! - [`request`]: what is asked for
//! - [`yaml`] and [`properties`]: from a file's text to its documents
//! - [`flatten`]: from a tree to keys with values
//! - [`profiles`]: which documents are active
//! - [`environment`]: which files, in which order
//! - [`cipher`]: encrypted values are decrypted
//! - [`merged`]: one map of them all, as YAML, properties or JSON
//!
//! [`scalar`] and [`placeholders`] are single rules, [`dump`] and [`json`] write.

pub mod request;
pub mod yaml;
pub mod properties;
pub mod scalar;
pub mod flatten;
pub mod profiles;
pub mod environment;
pub mod cipher;
pub mod placeholders;
pub mod merged;
pub mod dump;
pub mod json;

use indexmap::IndexMap;

pub use self::scalar::Scalar;

/// Keys and values, in the order of the file.
pub type Properties = IndexMap<String, Scalar>;

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertySource {
    /// Where it is from: `file:/folder/service-dev.yml`.
    pub name: String,
    /// What it says.
    pub source: Properties,
}

/// How many characters of a key, or of another word of a file, are shown where it is at fault.
const MOST_SHOWN: usize = 100;

/// The beginning of a word of a file: a line of the log is no place for all of a key of a megabyte.
fn shown(word: &str) -> &str {
    word.char_indices().nth(MOST_SHOWN).map_or(word, |(end, _)| &word[..end])
}

#[cfg(test)]
mod fuzz;
