//! From a YAML text to the trees of its documents, as Spring Boot has SnakeYAML read it.
//!
//! The syntax is `saphyr-parser`'s, event by event. This module gives the events their meaning, and bounds them: a text
//! that is deep, or grows large through its aliases, is refused before it is built.

mod escapes;
mod tabs;

use std::collections::HashMap;

use indexmap::IndexMap;
use properties::excerpt;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use self::{escapes::joined, tabs::Tabs};
use crate::{
    Node, ParseError, count,
    scalar::{self, Scalar},
};

/// Limit for collections in each other: SnakeYAML's.
const MAX_DEPTH: usize = 50;
/// Limit for the nodes of a file, with those that its aliases repeat and its anchors keep.
const MAX_NODES: usize = 250_000;
/// Limit for the bytes of a file's texts, with those that its aliases repeat and its anchors keep.
const MAX_TEXT: usize = 4 * 1024 * 1024;
/// Text of the parser's error about an escape that is not a character.
const INVALID_ESCAPE: &str = "invalid Unicode character escape";

/// Returns the documents of a text, without those that are null or an empty text.
///
/// # Errors
/// The first mistake in the text.
pub fn documents(text: &str) -> Result<Vec<Node>, ParseError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text)?;
    // JSON has no escape for a character above U+FFFF, and writes two of UTF-16 for it: `"\ud83d\ude00"`. The parser
    // refuses each of the two. They are joined only after that, since without quotes the same letters are a text.
    match read(text) {
        Err(error) if error.reason.contains(INVALID_ESCAPE) => {
            joined(text).map_or(Err(error), |joined| read(&joined))
        }
        result => result,
    }
}

fn read(text: &str) -> Result<Vec<Node>, ParseError> {
    let unended = if text.ends_with('\n') { 0 } else { text.chars().count() };
    let mut reader = Reader { tabs: Tabs::new(text), unended, ..Reader::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|e| ParseError { line: e.marker().line(), reason: e.info().to_owned() })?;
        reader.take(event, span).map_err(|reason| ParseError { line: span.start.line(), reason })?;
    }
    Ok(reader.documents)
}

/// Refuses characters that SnakeYAML does not call printable.
fn check_characters(text: &str) -> Result<(), ParseError> {
    let refused = |c: char| match c {
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c < '\u{a0}',
    };
    let Some(at) = text.find(refused) else { return Ok(()) };
    let line = text[..at].matches('\n').count() + 1;
    let code = text[at..].chars().next().map_or(0, u32::from);
    Err(ParseError { line, reason: format!("the character U+{code:04X} is not allowed") })
}

/// A collection that is not complete yet.
enum Open {
    List(Vec<Node>),
    /// A map with the key that waits for its value, and the maps of `<<`.
    Map(IndexMap<String, Node>, Option<Key>, Vec<Node>),
}

enum Key {
    Named(String),
    Merge,
}

/// Size of a node with all nodes below it.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text: usize,
    height: usize,
}

#[derive(Default)]
struct Reader<'a> {
    documents: Vec<Node>,
    open: Vec<(Open, usize, Size)>,
    anchors: HashMap<usize, (Node, Size)>,
    read: Size,
    tabs: Tabs<'a>,
    /// Number of characters of a text whose last line has no end.
    unended: usize,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => Ok(()),
            Event::StreamEnd => self.tabs.check(span, true),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (node, size) = known.ok_or("an alias inside its own anchor")?;
                self.node(node, size, false, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.tabs.check(span, false)?;
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // The parser adds a line's end where the file has none.
                let text = match is_block && span.end.index() == self.unended {
                    true => text.strip_suffix('\n').unwrap_or(&text).to_owned().into(),
                    false => text,
                };
                let is_plain = style == ScalarStyle::Plain;
                let is_merge = is_plain && text == "<<" && tag.is_none();
                let size = Size { nodes: 1, text: text.len(), height: 0 };
                let node = typed(&text, is_plain, tag.as_deref())?;
                self.node(node.map_or(Node::Null, Node::Scalar), size, is_merge, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.open(Open::List(vec![]), anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.open(Open::Map(IndexMap::new(), None, vec![]), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(&mut self, open: Open, anchor: usize, span: Span) -> Result<(), String> {
        self.tabs.check(Span::empty(span.start), false)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("deeper than {MAX_DEPTH} levels"));
        }
        self.open.push((open, anchor, Size { nodes: 1, ..Size::default() }));
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let (open, anchor, size) = self.open.pop().ok_or("the end of a collection that was not opened")?;
        let node = match open {
            Open::List(list) => Node::List(list),
            Open::Map(map, _, merged) => Node::Map(with_merged(map, merged)?),
        };
        // Its nodes were counted one by one.
        self.read.nodes -= size.nodes.min(self.read.nodes);
        self.read.text -= size.text.min(self.read.text);
        self.node(node, Size { height: size.height + 1, ..size }, false, anchor)
    }

    /// Puts a complete node into the collection around it.
    fn node(&mut self, node: Node, size: Size, is_merge: bool, anchor: usize) -> Result<(), String> {
        // An anchor keeps a copy, and anchors in each other keep one for each level: it counts once more.
        let copies = if anchor > 0 { 2 } else { 1 };
        self.read.nodes += copies * size.nodes;
        self.read.text += copies * size.text;
        if self.read.nodes > MAX_NODES || self.read.text > MAX_TEXT {
            return Err(format!(
                "more than {MAX_NODES} nodes or {MAX_TEXT} bytes, with the copies of aliases and anchors"
            ));
        }
        if self.open.len() + size.height > MAX_DEPTH {
            return Err(format!("deeper than {MAX_DEPTH} levels"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some((open, _, whole)) = self.open.last_mut() else {
            let is_nothing = node == Node::Null || node == Node::Scalar(Scalar::text(""));
            return if is_nothing { Ok(()) } else { count::add(&mut self.documents, node) };
        };
        whole.nodes += size.nodes;
        whole.text += size.text;
        whole.height = whole.height.max(size.height);
        match open {
            Open::List(list) => list.push(node),
            Open::Map(map, key, merged) => match key.take() {
                None => *key = Some(if is_merge { Key::Merge } else { Key::Named(key_name(node)?) }),
                Some(Key::Merge) => merged.push(node),
                Some(Key::Named(name)) => {
                    if let (at, Some(_)) = map.insert_full(name, node) {
                        let name = map.get_index(at).map_or("", |(name, _)| name);
                        return Err(format!("the key {} is a duplicate", excerpt(name)));
                    }
                }
            },
        }
        Ok(())
    }
}

/// Refuses a tag that does not name the collection's own type.
fn check_tag(tag: Option<&Tag>, own: &str) -> Result<(), String> {
    match tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != own) {
        Some(tag) => Err(format!("the tag {} is not supported", excerpt(&tag.to_string()))),
        None => Ok(()),
    }
}

fn key_name(node: Node) -> Result<String, String> {
    match node {
        Node::Scalar(Scalar::Text(text)) => Ok(text),
        Node::Scalar(other) => Ok(format!("[{other}]")),
        Node::Null => Err("a key is null".into()),
        Node::List(_) | Node::Map(_) => Err("a key is a list or a map".into()),
    }
}

/// Adds the maps of `<<` to a map: its own keys win, then the maps in their order.
fn with_merged(mut map: IndexMap<String, Node>, merged: Vec<Node>) -> Result<IndexMap<String, Node>, String> {
    let all = merged.into_iter().flat_map(|node| match node {
        Node::List(list) => list,
        other => vec![other],
    });
    for node in all {
        let Node::Map(other) = node else { return Err("`<<` needs a map, or a list of maps".into()) };
        for (key, value) in other {
            map.entry(key).or_insert(value);
        }
    }
    Ok(map)
}

/// Returns a scalar of the type that its tag or its text gives it.
fn typed(text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<Option<Scalar>, String> {
    let Some(tag) = tag else {
        return Ok(if is_plain { scalar::resolve(text) } else { Some(Scalar::text(text)) });
    };
    let is_core = tag.is_yaml_core_schema();
    let value = scalar::resolve(text);
    match (tag.suffix.as_str(), &value) {
        ("str", _) if is_core => Ok(Some(Scalar::text(text))),
        ("int" | "float", Some(Scalar::Number(_))) | ("bool", Some(Scalar::Bool(_))) if is_core => Ok(value),
        ("null", _) if is_core => Ok(None),
        ("int" | "float" | "bool", _) if is_core => {
            Err(format!("`{}` is not a valid {}", excerpt(text), tag.suffix))
        }
        ("" | "!", _) if !is_core => Ok(value),
        _ => Err(format!("the tag {} is not supported", excerpt(&tag.to_string()))),
    }
}

#[cfg(test)]
mod tests;
