//! From flat keys to a tree: `a.b[0].c` is `a: {b: [{c: …}]}`.

use indexmap::IndexMap;

use crate::{Node, excerpt};

/// Limit for the names and indexes of a key: code that walks the tree does so by recursion.
const MAX_DEPTH: usize = 100;
/// Limit for the elements that fill the holes of all lists.
const MAX_HOLES: usize = 10_000;

/// Rule for keys that do not form one tree: the config server and its client differ here on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// The client's rule, since a setting that is read in a wrong way is worse than none: a list with a hole, and a
    /// value where other keys have a group or a list, are errors. Keys may come in any order, and a name in brackets
    /// is a name with its dots, as in Spring Boot's binder: `level[org.x]`.
    Strict,
    /// The config server's rule, recorded from Spring's: the view shows what it can. Holes become null, a later key
    /// replaces an earlier one, and a key below a value stands beside it as `a.b`. Brackets around anything but a
    /// number belong to the name.
    Lenient,
}

/// Reason why keys are not one tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NestError {
    /// The text is not a key.
    #[error("the key {} cannot be nested", excerpt(.0))]
    InvalidKey(String),
    /// The key has too many names and indexes.
    #[error("the key {} is deeper than {MAX_DEPTH} levels", excerpt(.0))]
    TooDeep(String),
    /// Another key has a value, a list or a group in the place that this key needs.
    #[error("the key {} conflicts with another: one place is a value, a list or a group", excerpt(.0))]
    Conflict(String),
    /// An element of a list is missing.
    #[error("the key {} comes after a hole in its list, where [{missing}] is missing", excerpt(key))]
    Hole {
        /// The key of the next element.
        key: String,
        /// The first index without an element.
        missing: usize,
    },
    /// Too many elements of lists are missing.
    #[error("lists have more than {MAX_HOLES} holes, up to the key {}", excerpt(.0))]
    TooManyHoles(String),
}

impl NestError {
    /// Returns the key at which the tree failed.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::InvalidKey(key)
            | Self::TooDeep(key)
            | Self::Conflict(key)
            | Self::Hole { key, .. }
            | Self::TooManyHoles(key) => key,
        }
    }
}

/// Returns the tree of flat keys.
///
/// # Errors
/// The first key that cannot be part of the tree.
pub fn nest<'a, V>(
    entries: impl IntoIterator<Item = (&'a str, Node<V>)>,
    nesting: Nesting,
) -> Result<IndexMap<String, Node<V>>, NestError> {
    let entries = entries.into_iter().map(|(key, node)| Ok((steps(key, nesting)?, key, node)));
    let mut entries = entries.collect::<Result<Vec<_>, NestError>>()?;
    if nesting == Nesting::Strict {
        // A list's elements come in their order, so that the first index that is too large shows a hole, and a huge
        // index takes no room.
        entries.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    }
    let mut root = IndexMap::new();
    let mut tree = Tree { nesting, holes: 0, key: "" };
    for (steps, key, node) in entries {
        tree.key = key;
        if let Some((Step::Name(first), rest)) = steps.split_first() {
            tree.put(&mut root, (*first).to_owned(), rest, node)?;
        }
    }
    Ok(root)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// `a.b[0].c` is `a`, `b`, 0, `c`.
fn steps(key: &str, nesting: Nesting) -> Result<Vec<Step<'_>>, NestError> {
    let invalid = || NestError::InvalidKey(key.to_owned());
    let mut steps = vec![];
    let mut rest = Some(key);
    while let Some(text) = rest {
        let name = &text[..end_of_name(text, nesting)];
        let starts_with_name = nesting == Nesting::Strict && text.starts_with('[');
        if name.is_empty() && !text.is_empty() && !starts_with_name {
            return Err(invalid());
        }
        steps.extend((!starts_with_name).then_some(Step::Name(name)));
        let mut after = &text[name.len()..];
        while let Some(bracket) = after.strip_prefix('[') {
            let (inside, next) = bracket.split_once(']').ok_or_else(invalid)?;
            let is_number = inside.bytes().all(|byte| byte.is_ascii_digit());
            steps.push(match inside.parse() {
                Ok(index) if is_number => Step::Index(index),
                _ if nesting == Nesting::Strict => Step::Name(inside),
                _ => return Err(invalid()),
            });
            after = next;
        }
        rest = after.strip_prefix('.');
        if rest.is_none() && !after.is_empty() {
            return Err(invalid());
        }
        if steps.len() > MAX_DEPTH {
            return Err(NestError::TooDeep(key.to_owned()));
        }
    }
    match steps.first() {
        Some(Step::Name(_)) => Ok(steps),
        _ => Err(invalid()),
    }
}

/// Returns the end of the name at the beginning of a text: a dot, or a bracket that does not belong to it.
fn end_of_name(text: &str, nesting: Nesting) -> usize {
    if nesting == Nesting::Strict {
        return text.find(['.', '[']).unwrap_or(text.len());
    }
    let dot = text.find('.').unwrap_or(text.len());
    let mut open = None;
    let index = text[..dot].bytes().enumerate().find_map(|(at, byte)| {
        match byte {
            b'[' => open = Some(at),
            b']' => return open.take().filter(|open| text[open + 1..at].parse::<i32>().is_ok()),
            _ => {}
        }
        None
    });
    index.unwrap_or(dot)
}

struct Tree<'a> {
    nesting: Nesting,
    holes: usize,
    /// The key that is put into the tree.
    key: &'a str,
}

impl Tree<'_> {
    /// Puts a node below a name.
    fn put<V>(
        &mut self,
        map: &mut IndexMap<String, Node<V>>,
        name: String,
        rest: &[Step<'_>],
        node: Node<V>,
    ) -> Result<(), NestError> {
        match (rest.split_first(), map.get(&name)) {
            (Some((Step::Name(next), later)), Some(Node::Scalar(_) | Node::List(_)))
                if self.nesting == Nesting::Lenient =>
            {
                self.put(map, format!("{name}.{next}"), later, node)
            }
            _ => self.place(map.entry(name).or_insert(Node::Null), rest, node),
        }
    }

    /// Puts a node at the end of a way that begins here.
    fn place<V>(&mut self, here: &mut Node<V>, steps: &[Step<'_>], node: Node<V>) -> Result<(), NestError> {
        let Some((step, rest)) = steps.split_first() else {
            self.make_room(here)?;
            *here = node;
            return Ok(());
        };
        match step {
            Step::Name(name) => {
                if !matches!(here, Node::Map(_)) {
                    self.make_room(here)?;
                    *here = Node::Map(IndexMap::new());
                }
                let Node::Map(map) = here else { return Ok(()) };
                self.put(map, (*name).to_owned(), rest, node)
            }
            Step::Index(index) => {
                if !matches!(here, Node::List(_)) {
                    self.make_room(here)?;
                    *here = Node::List(vec![]);
                }
                let Node::List(list) = here else { return Ok(()) };
                self.fill(list.len(), *index)?;
                list.resize_with(list.len().max(index + 1), || Node::Null);
                self.place(&mut list[*index], rest, node)
            }
        }
    }

    /// Checks that a node may be replaced.
    fn make_room<V>(&self, node: &Node<V>) -> Result<(), NestError> {
        match (self.nesting, node) {
            (Nesting::Lenient, _) | (_, Node::Null) => Ok(()),
            (Nesting::Strict, _) => Err(NestError::Conflict(self.key.to_owned())),
        }
    }

    /// Counts the elements that are missing before an index.
    fn fill(&mut self, length: usize, index: usize) -> Result<(), NestError> {
        let missing = index.saturating_sub(length);
        self.holes = self.holes.saturating_add(missing);
        match self.nesting {
            Nesting::Strict if missing > 0 => {
                Err(NestError::Hole { key: self.key.to_owned(), missing: length })
            }
            _ if self.holes > MAX_HOLES => Err(NestError::TooManyHoles(self.key.to_owned())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
