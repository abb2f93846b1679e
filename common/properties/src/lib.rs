//! Rules of properties: flat keys such as `accounts[0].id`, the trees that they stand for, and `${key:default}`.
//!
//! - [`flatten`]: a tree becomes flat keys
//! - [`merge`]: layers of flat keys become one
//! - [`nest`]: flat keys become a tree again
//! - [`placeholders`]: `${key}` and `${key:default}` in values
//!
//! The config server and its client share these rules, so that both ways to a setting lead to the same key. Where the
//! two differ on purpose, the difference is an option with its reason.
//! This crate does no I/O, knows no file format and no type of value, and bounds what comes from outside.

mod flatten;
mod merge;
mod nest;
pub mod placeholders;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

pub use self::{
    flatten::{FlattenError, flatten},
    merge::{merge, root},
    nest::{NestError, NestReason, Nesting, nest},
};

/// A tree of values.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Node<V> {
    /// No value.
    Null,
    /// A list.
    List(Vec<Self>),
    /// A map, in the order of its source.
    Map(IndexMap<String, Self>),
    /// One value. It is the last variant, since a type of values may accept lists and maps, too.
    Scalar(V),
}

/// Number of characters of a key or another word of a file that a message quotes.
const EXCERPT: usize = 100;

/// Returns the beginning of a word of a file, so that a key of a megabyte does not fill the log.
#[must_use]
pub fn excerpt(word: &str) -> &str {
    word.char_indices().nth(EXCERPT).map_or(word, |(end, _)| &word[..end])
}
