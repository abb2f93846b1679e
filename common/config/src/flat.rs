//! Flat keys, as Spring has them: `accounts[0].id`. Files and answers are brought into this form and merged in
//! it, so that both ways lead to the same keys; only then are keys made a tree again. Values may differ: what a
//! service reads from a folder itself is YAML 1.2 of one document, and what the config server reads is Spring's 1.1.
//!
//! Pure. What comes from outside is bounded here: depth, and lists with holes.

use std::collections::{BTreeMap, BTreeSet};

use config::{Map, Value, ValueKind};

/// Scalars by flat key, each knowing its origin.
pub(super) type Flat = BTreeMap<String, Value>;

/// Deeper than anything that somebody has written by hand.
const DEPTH: usize = 32;

/// The first part of a key: `accounts` of `accounts[0].id`.
pub(super) fn root(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// Brings nested values into flat form. As in Spring, null and an empty list are `""`, an empty table is nothing.
///
/// # Errors
/// A value that is nested too deep, by its key.
pub(super) fn flatten(values: Map<String, Value>, origin: &str) -> Result<Flat, String> {
    let mut flat = Flat::new();
    for (key, value) in values {
        put(key, value.kind, &origin.to_owned(), DEPTH, &mut flat)?;
    }
    Ok(flat)
}

fn put(key: String, kind: ValueKind, origin: &String, depth: usize, flat: &mut Flat) -> Result<(), String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("{}: nested deeper than {DEPTH}", root(&key)));
    };
    match kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                let dot = if name.starts_with('[') { "" } else { "." };
                put(format!("{key}{dot}{name}"), value.kind, origin, depth, flat)?;
            }
        }
        ValueKind::Array(list) if !list.is_empty() => {
            for (n, value) in list.into_iter().enumerate() {
                put(format!("{key}[{n}]"), value.kind, origin, depth, flat)?;
            }
        }
        ValueKind::Array(_) | ValueKind::Nil => drop(flat.insert(key, Value::new(Some(origin), ""))),
        scalar => drop(flat.insert(key, Value::new(Some(origin), scalar))),
    }
    Ok(())
}

/// Merges layers, the weakest first. A list is replaced as a whole: an element of a stronger one never stands
/// among those of a weaker; and so is a value by a group of keys, and a group by a value.
pub(super) fn merge(layers: impl IntoIterator<Item = Flat>) -> Flat {
    let mut merged = Flat::new();
    for layer in layers {
        let names: BTreeSet<&str> = layer.keys().map(|key| list_of(key).unwrap_or(key)).collect();
        let groups: BTreeSet<&str> = names.iter().copied().flat_map(groups_of).collect();
        merged.retain(|key, _| {
            let name = list_of(key).unwrap_or(key);
            !names.contains(name)
                && !groups.contains(name)
                && !groups_of(name).any(|group| names.contains(group))
        });
        merged.extend(layer);
    }
    merged
}

/// The groups that a key is in: `a` and `a.b` of `a.b.c`.
fn groups_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('.').map(|(dot, _)| &key[..dot])
}

/// The list that an entry belongs to: everything before the first bracket.
fn list_of(key: &str) -> Option<&str> {
    key.split_once('[').map(|(list, _)| list)
}

/// Makes a tree of flat keys. A key in `lists` whose value is empty is an empty list.
///
/// # Errors
/// A key that cannot be part of a tree.
pub(super) fn tree(flat: Flat, lists: &[&str]) -> Result<Map<String, Value>, String> {
    let mut tree = Node::Table(BTreeMap::new());
    for (key, value) in flat {
        let is_empty_list = lists.contains(&key.as_str()) && value.kind == ValueKind::from("");
        let node = if is_empty_list { Node::List(BTreeMap::new()) } else { Node::Leaf(value) };
        tree.put(&path(&key)?, node).ok_or_else(|| format!("{}: a value and a group in one", root(&key)))?;
    }
    let Node::Table(roots) = tree else { return Ok(Map::new()) };
    roots.into_iter().map(|(key, node)| Ok((key.clone(), node.value(&key)?))).collect()
}

enum Node {
    Leaf(Value),
    Table(BTreeMap<String, Self>),
    /// By index: a huge index takes no more room than a small one.
    List(BTreeMap<usize, Self>),
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

fn path(key: &str) -> Result<Vec<Step<'_>>, String> {
    let broken = || format!("{}: `{key}` is no key", root(key));
    let mut steps = vec![];
    let mut rest = key;
    while !rest.is_empty() && steps.len() < 2 * DEPTH {
        if let Some(inner) = rest.strip_prefix('[') {
            let (inside, after) = inner.split_once(']').ok_or_else(broken)?;
            steps.push(inside.parse().map_or(Step::Name(inside), Step::Index));
            rest = after.strip_prefix('.').unwrap_or(after);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Name(&rest[..end]));
            rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
        }
    }
    if rest.is_empty() { Ok(steps) } else { Err(broken()) }
}

impl Node {
    fn put(&mut self, path: &[Step<'_>], node: Self) -> Option<()> {
        let (step, rest) = path.split_first()?;
        let child = match (self, step) {
            (Self::Table(table), Step::Name(name)) if rest.is_empty() => {
                return table.insert((*name).to_owned(), node).is_none().then_some(());
            }
            (Self::List(list), Step::Index(index)) if rest.is_empty() => {
                return list.insert(*index, node).is_none().then_some(());
            }
            (Self::Table(table), Step::Name(name)) => {
                table.entry((*name).to_owned()).or_insert_with(|| Self::before(&rest[0]))
            }
            (Self::List(list), Step::Index(index)) => {
                list.entry(*index).or_insert_with(|| Self::before(&rest[0]))
            }
            _ => return None,
        };
        child.put(rest, node)
    }

    fn before(step: &Step<'_>) -> Self {
        match step {
            Step::Name(_) => Self::Table(BTreeMap::new()),
            Step::Index(_) => Self::List(BTreeMap::new()),
        }
    }

    /// The value, with the origin of the first leaf below it.
    fn value(self, key: &str) -> Result<Value, String> {
        let origin = |first: Option<&Value>| first.and_then(Value::origin).map(str::to_owned);
        match self {
            Self::Leaf(value) => Ok(value),
            Self::Table(table) => {
                let named = table.into_iter().map(|(name, node)| Ok((name, node.value(key)?)));
                let table: BTreeMap<_, _> = named.collect::<Result<_, String>>()?;
                let origin = origin(table.values().next());
                Ok(Value::new(origin.as_ref(), ValueKind::Table(table.into_iter().collect())))
            }
            Self::List(list) => {
                if let Some((n, _)) = list.keys().enumerate().find(|(n, index)| n != *index) {
                    return Err(format!("{key}: its list has a hole, [{n}] is missing"));
                }
                let list = list.into_values().map(|node| node.value(key)).collect::<Result<Vec<_>, _>>()?;
                Ok(Value::new(origin(list.first()).as_ref(), list))
            }
        }
    }
}

#[cfg(test)]
mod tests;
