//! One map of all sources, written as properties, YAML or JSON.
//!
//! Lists are replaced as a whole: the highest source that has any element of one has all of it.

use std::collections::HashSet;

use indexmap::IndexMap;
use properties::{
    NestError, NestReason, Nesting, nest,
    placeholders::{PlaceholderError, Resolver, Rules},
};

use crate::{
    Node, PropertySource, Scalar, dump, json,
    request::{Format, Refusal},
};

impl From<NestError> for Refusal {
    fn from(error: NestError) -> Self {
        let status = if error.reason == NestReason::InvalidKey { 400 } else { 500 };
        Self { status, message: error.to_string().into() }
    }
}

impl From<PlaceholderError> for Refusal {
    fn from(error: PlaceholderError) -> Self {
        let status = if matches!(error, PlaceholderError::Circular(_)) { 400 } else { 500 };
        Self { status, message: error.to_string().into() }
    }
}

/// Returns the merged view of sources, highest first, in a format, after its content type.
///
/// # Errors
/// The key or the placeholder that cannot be answered.
pub fn answer(
    sources: &[PropertySource],
    format: Format,
    resolve: bool,
) -> Result<(&'static str, String), Refusal> {
    let look_up = |key: &str| sources.iter().find_map(|from| from.source.get(key)).map(ToString::to_string);
    let mut resolver = Resolver::new(&look_up, Rules::SERVER);
    let merged = merge(sources);
    if format == Format::Properties {
        let lines: Vec<_> = merged.values.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let text = lines.join("\n");
        return Ok(("text/plain", if resolve { resolver.resolve(&text)? } else { text }));
    }
    let mut tree = merged.tree()?;
    if resolve {
        resolve_values(&mut tree, &mut resolver)?;
    }
    match format {
        Format::Yaml => Ok(("text/plain", dump::yaml(&without_document(tree)))),
        _ => Ok(("application/json", json::text(&tree)?)),
    }
}

/// Keys and values, plain keys first, and the lists that a higher source has emptied.
#[derive(Debug, Default, PartialEq)]
struct Merged {
    values: IndexMap<String, Scalar>,
    emptied: HashSet<String>,
}

fn merge(sources: &[PropertySource]) -> Merged {
    // Each key keeps its first place. A key that lost to a list has no value, and a list that lost has no elements.
    let mut plain: IndexMap<&str, Option<&Scalar>> = IndexMap::new();
    let mut lists: IndexMap<&str, Vec<(&str, &Scalar)>> = IndexMap::new();
    let mut emptied = HashSet::new();
    for source in sources.iter().rev() {
        let mut own: IndexMap<&str, Vec<(&str, &Scalar)>> = IndexMap::new();
        for (key, value) in &source.source {
            match key.split_once('[') {
                Some((list, _)) => own.entry(list).or_default().push((key, value)),
                // A key of old documents, without a meaning for a client.
                None if key == "spring.profiles" => {}
                None => {
                    let lost = lists.get_mut(key.as_str()).map(std::mem::take).unwrap_or_default();
                    if !lost.is_empty() && *value == Scalar::text("") {
                        emptied.insert(key.clone());
                    }
                    plain.insert(key, Some(value));
                }
            }
        }
        for (list, items) in own {
            if let Some(value) = plain.get_mut(list) {
                *value = None;
            }
            lists.insert(list, items);
        }
    }
    let plain = plain.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let values = plain.chain(lists.into_values().flatten());
    Merged { values: values.map(|(key, value)| (key.to_owned(), value.clone())).collect(), emptied }
}

impl Merged {
    fn tree(&self) -> Result<Node, NestError> {
        let entries = self.values.iter().map(|(key, value)| {
            let is_emptied = *value == Scalar::text("") && self.emptied.contains(key);
            (key.as_str(), if is_emptied { Node::List(vec![]) } else { Node::Scalar(value.clone()) })
        });
        Ok(Node::Map(nest(entries, Nesting::Lenient)?))
    }
}

fn resolve_values(node: &mut Node, resolver: &mut Resolver<'_>) -> Result<(), PlaceholderError> {
    match node {
        Node::Scalar(Scalar::Text(text)) if text.contains("${") => {
            *text = resolver.resolve(text)?;
            Ok(())
        }
        Node::List(list) => list.iter_mut().try_for_each(|node| resolve_values(node, resolver)),
        Node::Map(map) => map.values_mut().try_for_each(|node| resolve_values(node, resolver)),
        Node::Null | Node::Scalar(_) => Ok(()),
    }
}

/// Takes the name `document` from a tree that was not a map in its file.
fn without_document(tree: Node) -> Node {
    match tree {
        Node::Map(mut map) if map.len() == 1 && map.contains_key("document") => {
            match map.swap_remove("document") {
                Some(Node::Scalar(value)) => Node::Scalar(Scalar::Text(value.to_string())),
                Some(Node::Map(inner)) => Node::Map(IndexMap::from([("document".into(), Node::Map(inner))])),
                other => other.unwrap_or(Node::Null),
            }
        }
        tree => tree,
    }
}

#[cfg(test)]
mod tests;
