//! JSON, written by hand: a number goes out with the digits that it came with, however many these are.

use super::{PropertySource, Scalar, yaml::Node};

/// What an Environment says beside its sources: the request's words.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The application, or several.
    pub name: &'a str,
    /// The profiles, as one text.
    pub profiles: &'a str,
    /// The label that was asked for.
    pub label: Option<&'a str>,
    /// The version that the settings give.
    pub version: Option<&'a str>,
}

/// The first version of the JSON of an Environment, with all of its six fields.
#[must_use]
pub fn environment(head: Head<'_>, sources: &[PropertySource]) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str("{\"name\":");
    text(&mut out, head.name);
    out.push_str(",\"profiles\":[");
    text(&mut out, head.profiles);
    out.push_str("],\"label\":");
    optional(&mut out, head.label);
    out.push_str(",\"version\":");
    optional(&mut out, head.version);
    out.push_str(",\"state\":null,\"propertySources\":[");
    for (n, property_source) in sources.iter().enumerate() {
        out.push_str(if n > 0 { ",{\"name\":" } else { "{\"name\":" });
        text(&mut out, &property_source.name);
        out.push_str(",\"source\":{");
        for (n, (key, value)) in property_source.source.iter().enumerate() {
            if n > 0 {
                out.push(',');
            }
            text(&mut out, key);
            out.push(':');
            scalar(&mut out, value);
        }
        out.push_str("}}");
    }
    out.push_str("]}");
    out
}

/// A value.
pub fn scalar(out: &mut String, value: &Scalar) {
    match value {
        Scalar::Bool(true) => out.push_str("true"),
        Scalar::Bool(false) => out.push_str("false"),
        // JSON has no words for the numbers without digits.
        Scalar::Number(number) if !number.ends_with(|c: char| c.is_ascii_digit()) => text(out, number),
        Scalar::Number(number) => out.push_str(number),
        Scalar::Text(value) => text(out, value),
    }
}

fn optional(out: &mut String, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => out.push_str("null"),
    }
}

/// A text in quotes.
pub fn text(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            _ => out.push_str(&format!("\\u{byte:04x}")),
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// A tree.
pub fn node(out: &mut String, tree: &Node) {
    match tree {
        Node::Null => out.push_str("null"),
        Node::Scalar(value) => scalar(out, value),
        Node::List(list) => {
            out.push('[');
            for (n, tree) in list.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                node(out, tree);
            }
            out.push(']');
        }
        Node::Map(map) => {
            out.push('{');
            for (n, (key, tree)) in map.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                text(out, key);
                out.push(':');
                node(out, tree);
            }
            out.push('}');
        }
    }
}
