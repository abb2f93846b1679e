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
#[error("{}", reason.about(excerpt(key)))]
pub struct NestError {
    /// The key at which the tree failed.
    pub key: String,
    /// The reason.
    pub reason: NestReason,
}

/// Reason why a key cannot be part of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NestReason {
    /// The text is not a key.
    InvalidKey,
    /// The key has too many names and indexes.
    TooDeep,
    /// Another key has a value, a list or a group in the place that this key needs.
    Conflict,
    /// The element of the list with this index is missing before that of the key.
    Hole(usize),
    /// Too many elements of lists are missing.
    TooManyHoles,
}

impl NestReason {
    fn about(self, key: &str) -> String {
        match self {
            Self::InvalidKey => format!("the key {key} cannot be nested"),
            Self::TooDeep => format!("the key {key} is deeper than {MAX_DEPTH} levels"),
            Self::Conflict => {
                format!("the key {key} conflicts with another: one place is a value, a list or a group")
            }
            Self::Hole(missing) => {
                format!("the key {key} comes after a hole in its list, where [{missing}] is missing")
            }
            Self::TooManyHoles => format!("lists have more than {MAX_HOLES} holes, up to the key {key}"),
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
    let at = |key: &'a str| move |reason| NestError { key: key.to_owned(), reason };
    let entries =
        entries.into_iter().map(|(key, node)| Ok((steps(key, nesting).map_err(at(key))?, key, node)));
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    if nesting == Nesting::Strict {
        // A list's elements come in their order, so that the first index that is too large shows a hole, and a huge
        // index takes no room.
        entries.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    }
    let mut root = IndexMap::new();
    let mut tree = Tree { nesting, holes: 0 };
    for (steps, key, node) in entries {
        if let Some((Step::Name(first), rest)) = steps.split_first() {
            tree.put(&mut root, (*first).to_owned(), rest, node).map_err(at(key))?;
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
fn steps(key: &str, nesting: Nesting) -> Result<Vec<Step<'_>>, NestReason> {
    let mut steps = vec![];
    let mut rest = Some(key);
    while let Some(text) = rest {
        let name = &text[..end_of_name(text, nesting)];
        let starts_with_name = nesting == Nesting::Strict && text.starts_with('[');
        if name.is_empty() && !text.is_empty() && !starts_with_name {
            return Err(NestReason::InvalidKey);
        }
        steps.extend((!starts_with_name).then_some(Step::Name(name)));
        let mut after = &text[name.len()..];
        while let Some(bracket) = after.strip_prefix('[') {
            let (inside, next) = bracket.split_once(']').ok_or(NestReason::InvalidKey)?;
            let is_number = inside.bytes().all(|byte| byte.is_ascii_digit());
            steps.push(match inside.parse() {
                Ok(index) if is_number => Step::Index(index),
                _ if nesting == Nesting::Strict => Step::Name(inside),
                _ => return Err(NestReason::InvalidKey),
            });
            after = next;
        }
        rest = after.strip_prefix('.');
        if rest.is_none() && !after.is_empty() {
            return Err(NestReason::InvalidKey);
        }
        if steps.len() > MAX_DEPTH {
            return Err(NestReason::TooDeep);
        }
    }
    match steps.first() {
        Some(Step::Name(_)) => Ok(steps),
        _ => Err(NestReason::InvalidKey),
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

struct Tree {
    nesting: Nesting,
    holes: usize,
}

impl Tree {
    /// Puts a node below a name.
    fn put<V>(
        &mut self,
        map: &mut IndexMap<String, Node<V>>,
        name: String,
        rest: &[Step<'_>],
        node: Node<V>,
    ) -> Result<(), NestReason> {
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
    fn place<V>(&mut self, here: &mut Node<V>, steps: &[Step<'_>], node: Node<V>) -> Result<(), NestReason> {
        match (steps.split_first(), here) {
            (Some((Step::Name(name), rest)), Node::Map(map)) => self.put(map, (*name).to_owned(), rest, node),
            (Some((Step::Index(index), rest)), Node::List(list)) => {
                self.count_holes(list.len(), *index)?;
                list.resize_with(list.len().max(index + 1), || Node::Null);
                self.place(&mut list[*index], rest, node)
            }
            // Only the server's view replaces what another key has put here.
            (_, here) if self.nesting == Nesting::Strict && !matches!(here, Node::Null) => {
                Err(NestReason::Conflict)
            }
            (Some((step, _)), here) => {
                *here = match step {
                    Step::Name(_) => Node::Map(IndexMap::new()),
                    Step::Index(_) => Node::List(vec![]),
                };
                self.place(here, steps, node)
            }
            (None, here) => {
                *here = node;
                Ok(())
            }
        }
    }

    /// Counts the elements that are missing before an index.
    fn count_holes(&mut self, length: usize, index: usize) -> Result<(), NestReason> {
        let missing = index.saturating_sub(length);
        self.holes = self.holes.saturating_add(missing);
        match self.nesting {
            Nesting::Strict if missing > 0 => Err(NestReason::Hole(length)),
            _ if self.holes > MAX_HOLES => Err(NestReason::TooManyHoles),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
