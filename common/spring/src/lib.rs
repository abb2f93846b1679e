//! Rules of Spring Boot and Spring Cloud Config: from a request's text and the files' texts to an answer.
//!
//! In the order of a request:
//! - [`request`]: from an address to a request
//! - [`document`]: from a file's bytes to its documents, each as flat keys
//! - `count`: limits the documents of a file
//! - [`yaml`], [`properties_file`], [`scalar`]: the two file formats, and the types of plain values
//! - [`profiles`]: the active profiles and documents
//! - [`environment`]: the files of a request, and their order
//! - [`cipher`]: encryption, and the decryption of encrypted values
//! - [`merged`]: one map of all files, as YAML, properties or JSON
//! - [`dump`] and [`json`]: the text of an answer
//!
//! No module does I/O: files come in as bytes, and random bytes as an argument. The configserver does the rest.

pub mod request;
pub mod document;
mod count;
pub mod yaml;
pub mod properties_file;
pub mod scalar;
pub mod profiles;
pub mod environment;
pub mod cipher;
pub mod merged;
pub mod dump;
pub mod json;

use indexmap::IndexMap;
use serde::Serialize;

pub use self::scalar::Scalar;

/// Keys and values, in the order of the file.
pub type Properties = IndexMap<String, Scalar>;

/// A tree of a file or of the merged view. In a file's tree, a key that is not a text stands in brackets: `[1]`,
/// `[true]`.
pub type Node = properties::Node<Scalar>;

/// One document of a file, as an environment lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PropertySource {
    /// Origin, such as `file:/folder/service-dev.yml`.
    pub name: String,
    /// Keys and values.
    pub source: Properties,
}

/// Reason why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// Sentence that says what is wrong.
    pub reason: String,
}

impl ParseError {
    /// Creates an error about a file as a whole, which is reported for its first line.
    pub fn of_file(reason: impl Into<String>) -> Self {
        Self { line: 1, reason: reason.into() }
    }
}

#[cfg(test)]
mod fuzz;
