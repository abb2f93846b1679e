//! YAML as SnakeYAML writes it by default: block style, plain where that reads back as the same text, folded at 80.

use std::iter;

use crate::{Node, Scalar, scalar};

/// Column from which on a space becomes a line break.
const WIDTH: usize = 80;
/// Limit for the characters of a key that stands on one line with its value.
const MAX_SIMPLE_KEY: usize = 123;

/// Returns the YAML of a tree.
#[must_use]
pub fn yaml(node: &Node) -> String {
    let mut dump = Dump { out: String::new() };
    match is_block(node) {
        true => dump.collection(node, 0, true),
        false => dump.leaf(node, 2),
    }
    dump.out
}

struct Dump {
    out: String,
}

impl Dump {
    /// Writes a collection that is not empty. Its first line may have been begun by the dash of a list.
    fn collection(&mut self, node: &Node, indent: usize, begun: bool) {
        match node {
            Node::Map(map) => {
                for (n, (key, value)) in map.iter().enumerate() {
                    self.spaces(if begun && n == 0 { 0 } else { indent });
                    self.key(key, indent);
                    if is_block(value) {
                        self.out.push('\n');
                        // The dashes of a list stand below the key.
                        let deeper = if matches!(value, Node::List(_)) { 0 } else { 2 };
                        self.collection(value, indent + deeper, false);
                    } else {
                        self.out.push(' ');
                        self.leaf(value, indent + 2);
                    }
                }
            }
            Node::List(list) => {
                for (n, value) in list.iter().enumerate() {
                    self.spaces(if begun && n == 0 { 0 } else { indent });
                    self.out.push_str("- ");
                    match is_block(value) {
                        true => self.collection(value, indent + 2, true),
                        false => self.leaf(value, indent + 2),
                    }
                }
            }
            Node::Null | Node::Scalar(_) => {}
        }
    }

    /// Writes a value or an empty collection, to the end of its last line.
    fn leaf(&mut self, node: &Node, indent: usize) {
        match node {
            Node::Null => self.out.push_str("null"),
            Node::List(_) => self.out.push_str("[]"),
            Node::Map(_) => self.out.push_str("{}"),
            Node::Scalar(Scalar::Number(number)) => self.out.push_str(match number.as_str() {
                "Infinity" => ".inf",
                "-Infinity" => "-.inf",
                "NaN" => ".nan",
                number => number,
            }),
            Node::Scalar(Scalar::Text(text)) if is_literal(text) => return self.literal(text, indent),
            Node::Scalar(Scalar::Text(text)) => self.text(text, Some(indent)),
            Node::Scalar(value) => self.out.push_str(&value.to_string()),
        }
        self.out.push('\n');
    }

    fn key(&mut self, key: &str, indent: usize) {
        let is_simple = !key.is_empty() && !key.contains('\n') && key.chars().count() < MAX_SIMPLE_KEY;
        if is_simple {
            self.text(key, None);
        } else {
            self.out.push_str("? ");
            self.text(key, Some(indent + 2));
            self.out.push('\n');
            self.spaces(indent);
        }
        self.out.push(':');
    }

    /// Writes a text in the first style that can hold it. Without an indent it stays on one line.
    fn text(&mut self, text: &str, indent: Option<usize>) {
        if is_plain(text) {
            self.folded(text, indent, false);
        } else if is_single_quoted(text) && !(indent.is_none() && text.contains('\n')) {
            self.out.push('\'');
            self.folded(text, indent, true);
            self.out.push('\'');
        } else {
            self.double_quoted(text, indent);
        }
    }

    fn folded(&mut self, text: &str, indent: Option<usize>, quoted: bool) {
        let mut column = self.column();
        let mut chars = text.chars().peekable();
        let mut before = None;
        while let Some(c) = chars.next() {
            let is_single_space =
                c == ' ' && ![None, Some(' ')].contains(&before) && chars.peek().is_some_and(|c| *c != ' ');
            match indent {
                Some(indent) if is_single_space && column > WIDTH => {
                    self.line_break(indent);
                    column = indent;
                }
                Some(indent) if c == '\n' => {
                    // The first break of a row would be read as a space.
                    self.out.extend((before != Some('\n')).then_some('\n'));
                    self.out.push('\n');
                    if chars.peek() != Some(&'\n') {
                        self.spaces(indent);
                    }
                    column = indent;
                }
                _ => {
                    self.out.extend(iter::repeat_n(c, if quoted && c == '\'' { 2 } else { 1 }));
                    column += 1;
                }
            }
            before = Some(c);
        }
    }

    fn double_quoted(&mut self, text: &str, indent: Option<usize>) {
        self.out.push('"');
        let mut column = self.column();
        let mut chars = text.chars().enumerate().peekable();
        while let Some((n, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            let indent = indent.filter(|_| n > 0 && next.is_some());
            if let Some(indent) = indent.filter(|_| c == ' ' && column > WIDTH) {
                self.out.push('\\');
                self.line_break(indent);
                // Spaces at the beginning of a line are not read.
                self.out.push('\\');
                column = indent + 1;
            }
            let written = escaped(c);
            column += written.chars().count();
            self.out.push_str(&written);
            let is_special = !(' '..='~').contains(&c) || "\"\\".contains(c);
            if let Some(indent) = indent.filter(|_| is_special && column > WIDTH) {
                self.out.push('\\');
                self.line_break(indent);
                column = indent;
                if next == Some(' ') {
                    self.out.push('\\');
                    column += 1;
                }
            }
        }
        self.out.push('"');
    }

    fn literal(&mut self, text: &str, indent: usize) {
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        let body = text.strip_suffix('\n');
        match body {
            None => self.out.push('-'),
            Some(body) if body.is_empty() || body.ends_with('\n') => self.out.push('+'),
            Some(_) => {}
        }
        self.out.push('\n');
        for line in body.unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.spaces(indent);
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }

    /// Returns the number of characters in the last line.
    fn column(&self) -> usize {
        self.out.chars().rev().take_while(|c| *c != '\n').count()
    }

    fn line_break(&mut self, indent: usize) {
        self.out.push('\n');
        self.spaces(indent);
    }

    fn spaces(&mut self, count: usize) {
        self.out.extend(iter::repeat_n(' ', count));
    }
}

/// Returns true for a collection with elements; an empty one is written on one line.
fn is_block(node: &Node) -> bool {
    match node {
        Node::List(list) => !list.is_empty(),
        Node::Map(map) => !map.is_empty(),
        Node::Null | Node::Scalar(_) => false,
    }
}

/// Returns true for a character that stands for itself in every style but double quotes.
fn is_ordinary(c: char) -> bool {
    let is_break_or_mark = "\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}".contains(c);
    (' '..='~').contains(&c) || (c >= '\u{a0}' && !is_break_or_mark)
}

fn is_literal(text: &str) -> bool {
    text.contains('\n') && !text.ends_with(' ') && is_without_control(text)
}

fn is_single_quoted(text: &str) -> bool {
    is_without_control(text) && !text.contains("\n ")
}

fn is_without_control(text: &str) -> bool {
    !text.contains(" \n") && text.chars().all(|c| c == '\n' || is_ordinary(c))
}

/// Returns true for a text that reads back as itself without quotes.
fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let has_leading_zero =
        text.len() > 1 && first == '0' && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let second = text.chars().nth(1);
    let is_indicator = "#,[]{}&*!|>'\"%@`".contains(first)
        || ("?:-".contains(first) && second.is_none_or(|c| " \t".contains(c)));
    let is_mark = text.starts_with("---") || text.starts_with("...");
    let has_mark = [": ", ":\t", " #", "\t#"].iter().any(|mark| text.contains(mark)) || text.ends_with(':');
    // `=` alone is a type of its own in YAML 1.1, as `<<` is, and some readers have no value for it.
    let is_text = matches!(scalar::resolve(text), Some(Scalar::Text(_)))
        && !["<<", "="].contains(&text)
        && !is_timestamp(text);
    is_text
        && !has_leading_zero
        && !is_indicator
        && !is_mark
        && !has_mark
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && text.chars().all(is_ordinary)
}

/// Returns true for a text that another reader of YAML 1.1 might take for a date or a time.
fn is_timestamp(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (year, month, rest) = (parts.next(), parts.next(), parts.next());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_clock = |c: char| c.is_ascii_digit() || "Tt \t:.Z+-".contains(c);
    year.is_some_and(|year| year.len() == 4 && is_number(year))
        && month.is_some_and(|month| month.len() <= 2 && is_number(month))
        && rest
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(is_clock))
}

fn escaped(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c if is_ordinary(c) => return c.to_string(),
        c if u32::from(c) <= 0xff => return format!("\\x{:02x}", u32::from(c)),
        c => return format!("\\u{:04x}", u32::from(c)),
    };
    format!("\\{short}")
}

#[cfg(test)]
mod tests;
