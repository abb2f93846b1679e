//! Tabs that SnakeYAML refuses.

use saphyr_parser::Span;

/// Finds tabs between tokens where SnakeYAML refuses them and the parser takes them for spaces: at the beginning of a
/// line, and right in front of a token.
#[derive(Default)]
pub(super) struct Tabs<'a> {
    text: &'a str,
    any: bool,
    /// End of the last token, in characters and in bytes.
    end: (usize, usize),
}

impl<'a> Tabs<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, any: text.contains('\t'), end: (0, 0) }
    }

    /// Checks the text in front of a token, or of the end.
    pub(super) fn check(&mut self, span: Span, is_end: bool) -> Result<(), String> {
        if !self.any {
            return Ok(());
        }
        let (_, from) = self.end;
        self.skip_to(span.start.index());
        let between = &self.text[from..self.end.1];
        self.skip_to(span.end.index());
        let mut lines = between.split('\n');
        let first = lines.next().filter(|_| from == 0);
        let begins_with_tab = |line: &str| line.trim_start_matches(' ').starts_with('\t');
        let ends_with_tab = between.trim_end_matches(' ').ends_with('\t') && !is_end;
        match ends_with_tab || first.into_iter().chain(lines).any(begins_with_tab) {
            true => Err("a tab is not allowed here: use spaces".into()),
            false => Ok(()),
        }
    }

    fn skip_to(&mut self, index: usize) {
        let (seen, offset) = self.end;
        let width: usize =
            self.text[offset..].chars().take(index.saturating_sub(seen)).map(char::len_utf8).sum();
        self.end = (index.max(seen), offset + width);
    }
}
