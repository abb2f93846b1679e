//! From a YAML text to the trees of its documents, as Spring Boot has SnakeYAML read it.
//!
//! The syntax is `saphyr-parser`'s, event by event; what the events mean is decided here, and bounded: a text that is
//! deep, or grows large through its aliases, is refused before it is built.

mod escapes;
mod tabs;

use std::collections::HashMap;

use indexmap::IndexMap;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use self::{escapes::joined, tabs::Tabs};
use super::{
    scalar::{self, Scalar},
    shown,
};

/// How deep collections lie in each other: SnakeYAML's limit.
const DEEPEST: usize = 50;
/// How many nodes a file has, those that its aliases repeat and its anchors keep included.
const MOST_NODES: usize = 250_000;
/// How many bytes of text a file has, those that its aliases repeat and its anchors keep included.
const MOST_TEXT: usize = 4 * 1024 * 1024;
/// What the parser says of an escape that is no character.
const NO_CHARACTER: &str = "invalid Unicode character escape";

/// A tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `~`, or nothing at all.
    Null,
    /// A value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Self>),
    /// A map. A key that is no text stands in brackets: `[1]`, `[true]`.
    Map(IndexMap<String, Self>),
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// The documents of a text. Those that are null, or an empty text, are left out.
///
/// # Errors
/// The first thing that is wrong.
pub fn documents(text: &str) -> Result<Vec<Node>, Unreadable> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text)?;
    // JSON has no escape for a character above U+FFFF, and writes two of UTF-16 for it: `"\ud83d\ude00"`. The parser
    // refuses them one by one. Only then they are joined, since without quotes the same letters are a text.
    match read(text) {
        Err(error) if error.why.contains(NO_CHARACTER) => {
            joined(text).map_or(Err(error), |joined| read(&joined))
        }
        result => result,
    }
}

fn read(text: &str) -> Result<Vec<Node>, Unreadable> {
    let unended = if text.ends_with('\n') { 0 } else { text.chars().count() };
    let mut reader = Reader { tabs: Tabs::new(text), unended, ..Reader::default() };
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|e| Unreadable { line: e.marker().line(), why: e.info().to_owned() })?;
        reader.take(event, span).map_err(|why| Unreadable { line: span.start.line(), why })?;
    }
    Ok(reader.documents)
}

/// Those that SnakeYAML does not call printable are refused.
fn check_characters(text: &str) -> Result<(), Unreadable> {
    let refused = |c: char| match c {
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c < '\u{a0}',
    };
    let Some(at) = text.find(refused) else { return Ok(()) };
    let line = text[..at].matches('\n').count() + 1;
    let code = text[at..].chars().next().map_or(0, u32::from);
    Err(Unreadable { line, why: format!("the character U+{code:04X} is not allowed") })
}

/// A collection that is not complete yet.
enum Open {
    List(Vec<Node>),
    /// The key is there once it was read and its value was not; the maps are those of `<<`.
    Map(IndexMap<String, Node>, Option<Key>, Vec<Node>),
}

enum Key {
    Named(String),
    Merge,
}

/// How much a node is, all below it included.
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
    /// How many characters there are, if the last is no line's end.
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
                let (node, size) = known.ok_or("an alias inside of what it stands for")?;
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
                self.open(Open::List(vec![]), anchor, tag.as_deref(), "seq", span)
            }
            Event::MappingStart(anchor, tag) => {
                self.open(Open::Map(IndexMap::new(), None, vec![]), anchor, tag.as_deref(), "map", span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(
        &mut self,
        open: Open,
        anchor: usize,
        tag: Option<&Tag>,
        usual: &str,
        span: Span,
    ) -> Result<(), String> {
        self.tabs.check(Span::empty(span.start), false)?;
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema() || tag.suffix != usual) {
            return Err(format!("the tag {} is not known", shown(&tag.to_string())));
        }
        if self.open.len() >= DEEPEST {
            return Err(format!("deeper than {DEEPEST} levels"));
        }
        self.open.push((open, anchor, Size { nodes: 1, ..Size::default() }));
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let (open, anchor, size) = self.open.pop().ok_or("the end of nothing")?;
        let node = match open {
            Open::List(list) => Node::List(list),
            Open::Map(map, _, merged) => Node::Map(with_merged(map, merged)?),
        };
        // What is in it was counted when it came.
        self.read.nodes -= size.nodes.min(self.read.nodes);
        self.read.text -= size.text.min(self.read.text);
        self.node(node, Size { height: size.height + 1, ..size }, false, anchor)
    }

    /// Puts a complete node where it belongs.
    fn node(&mut self, node: Node, size: Size, is_merge: bool, anchor: usize) -> Result<(), String> {
        // What an anchor keeps is a copy, and anchors in each other keep one for each level: it counts once more.
        let copies = if anchor > 0 { 2 } else { 1 };
        self.read.nodes += copies * size.nodes;
        self.read.text += copies * size.text;
        if self.read.nodes > MOST_NODES || self.read.text > MOST_TEXT {
            return Err(format!(
                "more than {MOST_NODES} nodes or {MOST_TEXT} bytes, with what aliases and anchors repeat"
            ));
        }
        if self.open.len() + size.height > DEEPEST {
            return Err(format!("deeper than {DEEPEST} levels"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some((open, _, whole)) = self.open.last_mut() else {
            let is_nothing = node == Node::Null || node == Node::Scalar(Scalar::text(""));
            self.documents.extend((!is_nothing).then_some(node));
            return Ok(());
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
                        return Err(format!("the key {} is there twice", shown(name)));
                    }
                }
            },
        }
        Ok(())
    }
}

fn key_name(node: Node) -> Result<String, String> {
    match node {
        Node::Scalar(Scalar::Text(text)) => Ok(text),
        Node::Scalar(other) => Ok(format!("[{other}]")),
        Node::Null => Err("a key that is null".into()),
        Node::List(_) | Node::Map(_) => Err("a key that is a list or a map".into()),
    }
}

/// A map with those that it names by `<<`: its own keys win, then the maps in their order.
fn with_merged(mut map: IndexMap<String, Node>, merged: Vec<Node>) -> Result<IndexMap<String, Node>, String> {
    let all = merged.into_iter().flat_map(|node| match node {
        Node::List(list) => list,
        other => vec![other],
    });
    for node in all {
        let Node::Map(other) = node else { return Err("`<<` takes a map, or a list of maps".into()) };
        for (key, value) in other {
            map.entry(key).or_insert(value);
        }
    }
    Ok(map)
}

/// A scalar by its tag, or by its looks.
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
        ("int" | "float" | "bool", _) if is_core => Err(format!("`{}` is no {}", shown(text), tag.suffix)),
        ("" | "!", _) if !is_core => Ok(value),
        _ => Err(format!("the tag {} is not known", shown(&tag.to_string()))),
    }
}

#[cfg(test)]
mod tests;
