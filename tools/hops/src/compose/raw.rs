//! Checks of the file before it becomes a tree: encoding, characters, directives, and levels of values.

use std::collections::BTreeMap;

use saphyr_parser::Event;

use super::node::error_at;
use crate::failure::Result;

/// Most levels of values in values: the code behind these checks calls itself for each.
const MOST_LEVELS: usize = 100;
const NOT_UTF8: &str = "this is not text in UTF-8: save the file as UTF-8";
const DIRECTIVE: &str = "a line that begins with % is a directive, which is not supported: remove it";

/// Decodes the file.
///
/// # Errors
/// It is not UTF-8; the error names the line.
pub(crate) fn decode(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        error_at(before.split(|byte| *byte == b'\n').count(), "", NOT_UTF8)
    })
}

/// Refuses directives, and characters that Docker refuses or takes for line breaks that are none here.
pub(super) fn check_characters(text: &str) -> Result<()> {
    let mut is_before_document = true;
    for (n, line) in text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let others = ['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'];
        let refused = line.chars().find(|c| others.contains(c) || (c.is_control() && *c != '\t'));
        is_before_document &= line.trim().is_empty() || line.trim().starts_with(['#', '%']);
        let problem = match refused.map(u32::from) {
            // Text in UTF-16 has NULs everywhere.
            Some(0) => NOT_UTF8.to_owned(),
            Some(c) => format!("the character U+{c:04X} cannot be here: in double quotes, write \\u{c:04X}"),
            None if is_before_document && line.starts_with('%') => DIRECTIVE.to_owned(),
            None => continue,
        };
        return Err(error_at(n + 1, "", &problem));
    }
    Ok(())
}

/// Levels of the values, of which an alias has as many as what it stands for.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// Anchor and levels of each value that is not complete.
    open: Vec<(usize, usize)>,
    anchored: BTreeMap<usize, usize>,
}

impl Nesting {
    pub(super) fn add(&mut self, event: &Event<'_>, line: usize) -> Result<()> {
        let mut levels = 0;
        match event {
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => self.open.push((*anchor, 1)),
            Event::SequenceEnd | Event::MappingEnd => {
                let (anchor, complete) = self.open.pop().unwrap_or_default();
                self.anchored.insert(anchor, complete);
                levels = complete;
            }
            Event::Alias(anchor) if self.open.iter().any(|(open, _)| open == anchor) => {
                return Err(error_at(line, "", "an alias stands in the value of its own anchor"));
            }
            Event::Alias(anchor) => levels = self.anchored.get(anchor).copied().unwrap_or(0),
            _ => {}
        }
        if self.open.len() + levels > MOST_LEVELS {
            return Err(error_at(line, "", &format!("values are nested deeper than {MOST_LEVELS} levels")));
        }
        if let Some((_, outer)) = self.open.last_mut() {
            *outer = (levels + 1).max(*outer);
        }
        Ok(())
    }
}
