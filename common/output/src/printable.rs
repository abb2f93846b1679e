//! Text that somebody else wrote, made safe to print: a message's id, a log line, a server's answer.
//!
//! A terminal obeys control characters, and a line break forges a line. So every program prints such text with
//! [`printable`], which shows these characters as JSON does. Printed JSON stays the same JSON.

use std::{borrow::Cow, fmt::Write as _};

/// Returns the text on one line, with each control character as JSON escapes it, such as `\n` and `\u001b`.
///
/// Control characters are those of Unicode (C0, DEL and C1), the separators of lines and paragraphs, and the characters
/// that change the direction of the text around them (Unicode Standard Annex 9).
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.contains(is_control) {
        return Cow::Owned(escaped(text));
    }
    Cow::Borrowed(text)
}

/// Returns the text with its line breaks, each line as [`printable`] returns it: for a text whose lines are our own.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

fn is_control(c: char) -> bool {
    const DIRECTIONS: [char; 12] = [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
        '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
    ];
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || DIRECTIONS.contains(&c)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // Nothing fails to be written to a `String`. No control character is beyond U+FFFF.
            c if is_control(c) => drop(write!(escaped, "\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_all_else_stays() {
        for (text, expected) in [
            ("", ""),
            ("plain ~", "plain ~"),
            ("Größe € 日本 🙂", "Größe € 日本 🙂"),
            (r#"{"a":"\n"}"#, r#"{"a":"\n"}"#),
            ("a\nb\r\tc", r"a\nb\r\tc"),
            ("\u{1b}[2J\u{7}", r"\u001b[2J\u0007"),
            ("\u{7f}\u{9b}31m", r"\u007f\u009b31m"),
            ("a\u{202e}b\u{2069}c", r"a\u202eb\u2069c"),
            ("a\u{2028}b", r"a\u2028b"),
        ] {
            assert_eq!(printable(text), expected, "{text:?}");
            assert_eq!(printable(&printable(text)), expected, "what is printable stays as it is");
        }
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32).filter(|c| c.is_control()) {
            let shown = printable(&c.to_string()).into_owned();
            assert!(shown.is_ascii() && shown.len() >= 2, "{c:?} {shown}");
        }
    }

    #[test]
    fn lines_of_our_own_stay_lines() {
        assert_eq!(printable_lines("one\ntwo\u{1b}[2J\n"), "one\ntwo\\u001b[2J\n");
    }
}
