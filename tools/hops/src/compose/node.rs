//! Value of the file that knows its line and its path, for errors.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};

use super::FILE;
use crate::failure::Result;

/// Value in the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) path: String,
    pub(super) data: Data,
}

/// Content of a value, with its variables replaced.
#[derive(Debug)]
pub(super) enum Data {
    /// No value.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// Whole number.
    Integer(i64),
    /// Number with a fraction, as the file writes it.
    Decimal(String),
    /// Number that Docker writes differently than the file.
    OddNumber(String),
    /// Text.
    Text {
        /// The text.
        text: String,
        /// True if a variable was replaced in it, so that it may stand for a number or a flag.
        is_replaced: bool,
    },
    /// List.
    List(Vec<Node>),
    /// Mapping, without duplicates.
    Map(Vec<(String, Node)>),
}

/// Returns an error at a place of the file. It has no control characters, even if the file has some.
pub(super) fn error_at(line: usize, path: &str, problem: &str) -> anyhow::Error {
    let colon = if path.is_empty() { "" } else { ": " };
    let error = format!("{FILE}:{line}: {path}{colon}{problem}");
    let mut plain = String::with_capacity(error.len());
    for c in error.chars() {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    anyhow!(plain)
}

impl Node {
    /// Creates an error at this position.
    pub(super) fn error(&self, problem: &str) -> anyhow::Error {
        error_at(self.line, &self.path, problem)
    }

    /// Creates an error about a key of this mapping, at the line of its value.
    pub(super) fn error_at(&self, value: &Self, problem: &str) -> anyhow::Error {
        error_at(value.line, &self.path, problem)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.data, Data::Map(_))
    }

    /// Returns the entries of a mapping.
    pub(super) fn entries(&self) -> Result<&[(String, Self)]> {
        match &self.data {
            Data::Map(entries) => Ok(entries),
            _ => Err(self.error("keys with values are expected here")),
        }
    }

    /// Returns the value of a key, unless there is none or it is null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Data::Map(entries) = &self.data else { return None };
        entries.iter().find(|(known, _)| known == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Reads the value of a key, or returns `default` if there is none.
    pub(super) fn read<'a, T>(
        &'a self,
        key: &str,
        default: T,
        read: impl FnOnce(&'a Self) -> Result<T>,
    ) -> Result<T> {
        self.get(key).map_or(Ok(default), read)
    }

    /// Reads the value of a key that must be there.
    pub(super) fn required(&self, key: &str) -> Result<&Self> {
        self.get(key).with_context(|| format!("`{key}` is missing")).map_err(|e| self.error(&e.to_string()))
    }

    /// Returns a text that two values share if their contents are the same, in whatever order and from whatever variable.
    pub(super) fn content(&self) -> String {
        match &self.data {
            Data::Integer(number) => number.to_string(),
            Data::Text { text, .. } => format!("{text:?}"),
            Data::Map(entries) => {
                // For a number in a mapping, a variable may stand.
                let entries = entries.iter().map(|(key, node)| (key, node.content().replace('"', "")));
                format!("{:?}", entries.collect::<BTreeMap<_, _>>())
            }
            other => format!("{other:?}"),
        }
    }

    /// Returns the items of a list.
    pub(super) fn list(&self) -> Result<&[Self]> {
        match &self.data {
            Data::List(items) => Ok(items),
            _ => Err(self.error("a list is expected here")),
        }
    }

    /// Returns a text.
    pub(super) fn text(&self) -> Result<&str> {
        match &self.data {
            Data::Text { text, .. } => Ok(text),
            Data::Null | Data::List(_) | Data::Map(_) => Err(self.error("a text is expected here")),
            _ => Err(self.error("a text is expected here: put the value into quotes")),
        }
    }

    /// Returns a text, or a number as Docker writes it.
    pub(super) fn text_or_number(&self) -> Result<String> {
        match &self.data {
            Data::Text { text, .. } | Data::Decimal(text) => Ok(text.clone()),
            Data::Integer(number) => Ok(number.to_string()),
            Data::OddNumber(text) => Err(self.error(&format!(
                "YAML reads `{text}` as a number that is written differently: put it into quotes"
            ))),
            Data::Flag(_) => {
                Err(self.error("a text or a number is expected here: put the value into quotes"))
            }
            Data::Null | Data::List(_) | Data::Map(_) => {
                Err(self.error("a text or a number is expected here"))
            }
        }
    }

    /// Returns a whole number; `expected` describes the valid ones.
    pub(super) fn number<T: TryFrom<i64>>(&self, expected: &str) -> Result<T> {
        let number = match &self.data {
            Data::Integer(number) => *number,
            Data::Text { text, is_replaced: true } => {
                text.parse().map_err(|_| self.error(&format!("`{text}` is not a whole number")))?
            }
            _ => return Err(self.error("a whole number is expected here")),
        };
        T::try_from(number).map_err(|_| self.error(&format!("`{number}` is not {expected}")))
    }

    /// Returns a flag.
    pub(super) fn flag(&self) -> Result<bool> {
        match &self.data {
            Data::Flag(flag) => Ok(*flag),
            Data::Text { text, is_replaced: true } => match text.to_lowercase().as_str() {
                "y" | "yes" | "true" | "on" => Ok(true),
                "n" | "no" | "false" | "off" => Ok(false),
                _ => Err(self.error(&format!("`{text}` is not true or false"))),
            },
            _ => Err(self.error("true or false is expected here")),
        }
    }

    /// Parses one of these words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.error(&format!("`{text}` is not {}", all.join(" or ")))
        })
    }
}
