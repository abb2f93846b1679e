//! One map of all sources, written as properties, YAML or JSON.
//!
//! Lists are replaced as a whole: the highest source that has any element of one has all of it.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::{
    PropertySource, Scalar, dump, json,
    placeholders::Resolver,
    request::{Format, Refusal, refuse},
    shown,
    yaml::Node,
};

/// How many names and indexes a key has.
const DEEPEST: usize = 100;
/// How many elements of lists are made up because a key names a later one.
const MOST_HOLES: usize = 10_000;

/// The merged view of sources, highest first, in a format; and its content type.
///
/// # Errors
/// A key or a placeholder that cannot be answered.
pub fn answer(
    sources: &[PropertySource],
    format: Format,
    resolve: bool,
) -> Result<(&'static str, String), Refusal> {
    let look_up = |key: &str| sources.iter().find_map(|from| from.source.get(key)).map(ToString::to_string);
    let mut resolver = Resolver::new(&look_up);
    let merged = merge(sources);
    if format == Format::Properties {
        let lines: Vec<_> = merged.values.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let text = lines.join("\n");
        return Ok(("text/plain", if resolve { resolver.resolve(&text)? } else { text }));
    }
    let mut tree = nest(merged)?;
    if resolve {
        resolve_values(&mut tree, &mut resolver)?;
    }
    if format == Format::Yaml {
        return Ok(("text/plain", dump::yaml(&without_document(tree))));
    }
    let mut text = String::new();
    json::node(&mut text, &tree);
    Ok(("application/json", text))
}

/// Keys and values, plain keys first; and the lists that a higher source has emptied.
#[derive(Debug, Default, PartialEq)]
struct Merged {
    values: IndexMap<String, Scalar>,
    emptied: HashSet<String>,
}

fn merge(sources: &[PropertySource]) -> Merged {
    // Each key keeps its first place; those that lost to a list have no value left, and lists that lost no items.
    let mut plain: IndexMap<&str, Option<&Scalar>> = IndexMap::new();
    let mut lists: IndexMap<&str, Vec<(&str, &Scalar)>> = IndexMap::new();
    let mut emptied = HashSet::new();
    for source in sources.iter().rev() {
        let mut own: IndexMap<&str, Vec<(&str, &Scalar)>> = IndexMap::new();
        for (key, value) in &source.source {
            match key.split_once('[') {
                Some((list, _)) => own.entry(list).or_default().push((key, value)),
                // A key of old documents, which says nothing to a client.
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

/// The tree of all keys.
fn nest(merged: Merged) -> Result<Node, Refusal> {
    let mut root = IndexMap::new();
    let mut holes = MOST_HOLES;
    for (key, value) in merged.values {
        let is_emptied = value == Scalar::text("") && merged.emptied.contains(&key);
        let value = if is_emptied { Node::List(vec![]) } else { Node::Scalar(value) };
        let steps = steps(&key)?;
        if let Some((Step::Name(first), rest)) = steps.split_first() {
            put(&mut root, (*first).to_owned(), rest, value, &mut holes)?;
        }
    }
    Ok(Node::Map(root))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// `a.b[0].c` is `a`, `b`, 0, `c`; brackets around anything but a number are a part of the name.
fn steps(key: &str) -> Result<Vec<Step<'_>>, Refusal> {
    let invalid =
        || Refusal { status: 400, message: format!("the key {} cannot be nested", shown(key)).into() };
    // Whoever walks the tree does so by recursion: each step, an index too, is a frame on the stack.
    let with = |mut steps: Vec<_>, step| {
        if steps.len() >= DEEPEST {
            return refuse(500, format!("the key {} is deeper than {DEEPEST} levels", shown(key)));
        }
        steps.push(step);
        Ok(steps)
    };
    let mut steps = vec![];
    let mut rest = Some(key);
    while let Some(text) = rest {
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
        let end = index.unwrap_or(dot);
        if end == 0 && !text.is_empty() {
            return Err(invalid());
        }
        steps = with(steps, Step::Name(&text[..end]))?;
        let mut after = &text[end..];
        while let Some((index, next)) = after.strip_prefix('[').map(|a| a.split_once(']').unwrap_or((a, "!")))
        {
            let digits = index.bytes().all(|b| b.is_ascii_digit());
            let index = index.parse().ok().filter(|_| digits).ok_or_else(invalid)?;
            steps = with(steps, Step::Index(index))?;
            after = next;
        }
        rest = after.strip_prefix('.');
        if rest.is_none() && !after.is_empty() {
            return Err(invalid());
        }
    }
    Ok(steps)
}

/// Puts a value below a name. Where a name is taken by a value, the rest of the key stands beside it: `a.b`.
fn put(
    map: &mut IndexMap<String, Node>,
    name: String,
    rest: &[Step<'_>],
    value: Node,
    holes: &mut usize,
) -> Result<(), Refusal> {
    let Some((next, later)) = rest.split_first() else {
        map.insert(name, value);
        return Ok(());
    };
    match (next, map.get_mut(&name)) {
        (Step::Name(next), Some(Node::Scalar(_) | Node::List(_))) => {
            put(map, format!("{name}.{next}"), later, value, holes)
        }
        (_, Some(node)) => place(node, rest, value, holes),
        (_, None) => place(map.entry(name).or_insert(Node::Null), rest, value, holes),
    }
}

fn place(node: &mut Node, steps: &[Step<'_>], value: Node, holes: &mut usize) -> Result<(), Refusal> {
    match steps.split_first() {
        None => *node = value,
        Some((Step::Name(name), rest)) => {
            if !matches!(node, Node::Map(_)) {
                *node = Node::Map(IndexMap::new());
            }
            if let Node::Map(map) = node {
                return put(map, (*name).to_owned(), rest, value, holes);
            }
        }
        Some((Step::Index(index), rest)) => {
            if !matches!(node, Node::List(_)) {
                *node = Node::List(vec![]);
            }
            if let Node::List(list) = node {
                while list.len() <= *index {
                    if list.len() < *index {
                        *holes = holes.checked_sub(1).ok_or(Refusal {
                            status: 500,
                            message: format!("lists have more than {MOST_HOLES} holes").into(),
                        })?;
                    }
                    list.push(Node::Null);
                }
                return place(&mut list[*index], rest, value, holes);
            }
        }
    }
    Ok(())
}

fn resolve_values(node: &mut Node, resolver: &mut Resolver<'_>) -> Result<(), Refusal> {
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

/// What was no map in its file is shown without the name that it has among keys.
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
