//! Flat keys of settings. Files and answers are brought into this form and merged in it, so that both ways lead to the
//! same keys; only then do keys become a tree again. Values may differ: a file that a service reads itself is YAML 1.2
//! of one document, and a file that the config server reads is Spring's 1.1.
//!
//! The rules are those of the crate [`properties`]; this module adds each value's origin.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};
use indexmap::IndexMap;
use properties::{Nesting, Node, nest, root};

use crate::InvalidValue;

/// Scalars by flat key, each with its origin.
pub(super) type Flat = BTreeMap<String, Value>;

/// Brings a tree into flat form, whose values `kind` makes of the tree's.
///
/// # Errors
/// A value that is nested too deep, by its key.
pub(super) fn flatten<V: Clone + From<&'static str>>(
    tree: IndexMap<String, Node<V>>,
    origin: &str,
    kind: impl Fn(V) -> ValueKind,
) -> Result<Flat, String> {
    let origin = origin.to_owned();
    let flat = properties::flatten(tree, &V::from("")).map_err(|e| e.to_string())?;
    Ok(flat.into_iter().map(|(key, value)| (key, Value::new(Some(&origin), kind(value)))).collect())
}

/// Returns the tree of flat keys, each with its origin. A key in `lists` whose value is empty is an empty list.
///
/// # Errors
/// A key that cannot be part of a tree, after the first part of it.
pub(super) fn tree(flat: &Flat, lists: &[&str]) -> Result<Map<String, Value>, InvalidValue> {
    let entries = flat.iter().map(|(key, value)| {
        let is_empty_list = lists.contains(&key.as_str()) && value.kind == ValueKind::from("");
        (key.as_str(), if is_empty_list { Node::List(vec![]) } else { Node::Scalar(value.clone()) })
    });
    let tree = nest(entries, Nesting::Strict).map_err(|e| InvalidValue::new(root(&e.key), e.to_string()))?;
    let with_origin = |(key, node): (String, _)| {
        let value = Value::new(origin(flat, &key).map(str::to_owned).as_ref(), value(node).kind);
        (key, value)
    };
    Ok(tree.into_iter().map(with_origin).collect())
}

/// Returns the origin of the value of a tree, which is that of its first scalar.
pub(super) fn origin<'a>(flat: &'a Flat, key: &str) -> Option<&'a str> {
    flat.iter().find(|(set, _)| root(set) == key).and_then(|(_, value)| value.origin())
}

fn value(node: Node<Value>) -> Value {
    match node {
        Node::Null => Value::new(None, ValueKind::Nil),
        Node::Scalar(value) => value,
        Node::List(list) => list.into_iter().map(value).collect::<Vec<_>>().into(),
        Node::Map(map) => map.into_iter().map(|(key, node)| (key, value(node))).collect::<Map<_, _>>().into(),
    }
}

#[cfg(test)]
mod tests;
