//! Flat keys of settings. Files and answers are brought into this form and merged in it, so that both ways lead to the
//! same keys; only then do keys become a tree again. Values may differ: a file that a service reads itself is YAML 1.2
//! of one document, and a file that the config server reads is Spring's 1.1.
//!
//! The rules are those of the crate [`properties`]; this module adds each value's origin.

use std::collections::BTreeMap;

use config::{Map, Value, ValueKind};
use properties::{Nesting, Node, nest, root};

use crate::InvalidValue;

/// Scalars by flat key, each with its origin.
pub(super) type Flat = BTreeMap<String, Value>;

/// Brings nested values into flat form.
///
/// # Errors
/// A value that is nested too deep, by its key.
pub(super) fn flatten(values: Map<String, Value>, origin: &str) -> Result<Flat, String> {
    let origin = origin.to_owned();
    let tree = values.into_iter().map(|(key, value)| (key, node(value, &origin))).collect();
    let flat = properties::flatten(tree, &Value::new(Some(&origin), "")).map_err(|e| e.to_string())?;
    Ok(flat.into_iter().collect())
}

fn node(value: Value, origin: &String) -> Node<Value> {
    match value.kind {
        ValueKind::Table(table) => {
            Node::Map(table.into_iter().map(|(name, value)| (name, node(value, origin))).collect())
        }
        ValueKind::Array(list) => Node::List(list.into_iter().map(|value| node(value, origin)).collect()),
        ValueKind::Nil => Node::Null,
        scalar => Node::Scalar(Value::new(Some(origin), scalar)),
    }
}

/// Returns the tree of flat keys. A key in `lists` whose value is empty is an empty list.
///
/// # Errors
/// A key that cannot be part of a tree, after the first part of it.
pub(super) fn tree(flat: &Flat, lists: &[&str]) -> Result<Map<String, Value>, InvalidValue> {
    let entries = flat.iter().map(|(key, value)| {
        let is_empty_list = lists.contains(&key.as_str()) && value.kind == ValueKind::from("");
        (key.as_str(), if is_empty_list { Node::List(vec![]) } else { Node::Scalar(value.clone()) })
    });
    let tree = nest(entries, Nesting::Strict).map_err(|e| InvalidValue::new(root(e.key()), e.to_string()))?;
    Ok(tree.into_iter().map(|(key, node)| (key, value(node))).collect())
}

/// Returns the value of a tree, with the origin of the first scalar in it.
fn value(node: Node<Value>) -> Value {
    let origin = |first: Option<&Value>| first.and_then(Value::origin).map(str::to_owned);
    match node {
        Node::Null => Value::new(None, ValueKind::Nil),
        Node::Scalar(value) => value,
        Node::List(list) => {
            let list: Vec<_> = list.into_iter().map(value).collect();
            Value::new(origin(list.first()).as_ref(), list)
        }
        Node::Map(map) => {
            let map: Vec<_> = map.into_iter().map(|(name, node)| (name, value(node))).collect();
            let origin = origin(map.first().map(|(_, value)| value));
            Value::new(origin.as_ref(), ValueKind::Table(map.into_iter().collect()))
        }
    }
}

#[cfg(test)]
mod tests;
