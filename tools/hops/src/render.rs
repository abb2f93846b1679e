//! What a person sees: tables as Docker prints them, lines with a color per task; and JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use jiff::Timestamp;
use serde::Serialize;

use crate::control::Event;

/// Colors that are read on dark and on light.
const COLORS: [u8; 6] = [36, 32, 33, 35, 34, 31];

/// The standard output, in one of two languages.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// For programs: one JSON value per line.
    pub json: bool,
    /// With colors.
    pub color: bool,
}

impl Screen {
    /// JSON where it was asked for, colors on a terminal unless `NO_COLOR` is set.
    #[must_use]
    pub fn new(json: bool, no_color: bool) -> Self {
        Self { json, color: !json && !no_color && std::io::stdout().is_terminal() }
    }

    /// A line, which may be the last that its reader wanted.
    pub fn line(self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// Text for people; in JSON nothing.
    pub fn say(self, text: &str) {
        if !self.json {
            self.line(text);
        }
    }

    /// A value for programs; else nothing.
    pub fn value(self, value: &impl Serialize) {
        if self.json {
            self.line(&serde_json::to_string(value).unwrap_or_default());
        }
    }

    /// A line of someone's.
    pub fn of(self, who: &str, what: &str) {
        self.line(&format!("{} {what}", self.painted(who, &format!("{who:<18}"))));
    }

    /// An event, with the time of day.
    pub fn event(self, event: &Event) {
        if self.json {
            return self.value(event);
        }
        let at = event.at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
        self.line(&format!(
            "{at}  {} {}",
            self.painted(&event.who, &format!("{:<18}", event.who)),
            event.what
        ));
    }

    /// Text in the color of its task.
    #[must_use]
    pub fn painted(self, who: &str, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let sum = who.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        format!("\u{1b}[{}m{text}\u{1b}[0m", COLORS[sum % COLORS.len()])
    }

    /// A table with a head.
    pub fn table(self, head: &[&str], rows: &[Vec<String>]) {
        self.line(table(head, rows).trim_end());
    }
}

/// Columns as wide as they must be, three blanks between them, as Docker has them.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<_> = head.iter().map(|name| (*name).to_owned()).collect();
    let all: Vec<_> = std::iter::once(&head).chain(rows).collect();
    let width =
        |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line += &format!("{cell:<width$}   ", width = width(column).unwrap_or_default());
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// How long ago, as Docker says it.
#[must_use]
pub fn ago(at: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(at).as_secs().max(0);
    let (count, unit) = match seconds {
        0 => return "less than a second ago".into(),
        1..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["vipservice.1".to_owned(), "1".into()], vec!["x".into(), String::new()]];
        assert_eq!(table(&["NAME", "PID"], &rows), "NAME           PID\nvipservice.1   1\nx\n");
    }

    #[test]
    fn times_are_said_in_their_largest_unit() {
        let now = Timestamp::now();
        for (seconds, expected) in [
            (0, "less than a second ago"),
            (1, "1 second ago"),
            (150, "2 minutes ago"),
            (90_000, "1 day ago"),
        ] {
            assert_eq!(ago(now - jiff::SignedDuration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_task_keeps_its_color() {
        let screen = Screen { json: false, color: true };
        assert_eq!(screen.painted("a", "text"), screen.painted("a", "text"));
        assert!(screen.painted("a", "text").starts_with("\u{1b}["));
        assert_eq!(Screen { json: true, color: false }.painted("a", "text"), "text");
    }
}
