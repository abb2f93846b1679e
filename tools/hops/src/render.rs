//! Output: for people, tables like Docker's and lines with a color per service; for programs, JSON.
//!
//! Whatever is printed may be somebody else's text, so nothing but a color of our own reaches the terminal's controls.

use std::{borrow::Cow, io::IsTerminal as _, sync::LazyLock};

use jiff::Timestamp;
use output::printable;
use serde::Serialize;

use crate::{binaries, control::Event};

/// Colors of the stack's services from the 256 of terminals: blue, orange, purple and green, as on the page. They are legible
/// on dark and on light backgrounds, and color-blind people can distinguish them.
const SERVICE_COLORS: [(&str, u8); 4] =
    [("accountservice", 32), ("vipservice", 172), ("configserver", 133), ("rabbitmq", 29)];
/// Color of other services: gray.
const OTHER_COLOR: u8 = 244;

/// Standard output, as text or JSON.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// True for one JSON value per line instead of text.
    pub json: bool,
    /// True for colored text.
    pub color: bool,
    /// True for text on a terminal.
    pub terminal: bool,
}

impl Screen {
    /// Creates the output: text has colors on a terminal, unless `NO_COLOR` is set.
    #[must_use]
    pub fn new(json: bool, no_color: bool) -> Self {
        let terminal = !json && std::io::stdout().is_terminal();
        Self { json, color: terminal && !no_color, terminal }
    }

    /// Prints a line, with its control characters made visible.
    pub fn line(self, text: &str) {
        output::line(text);
    }

    /// Prints lines for people, each as [`line`](Self::line) does; with `--json` it prints nothing.
    pub fn lines(self, text: &str) {
        if !self.json {
            output::lines(&as_typed(text));
        }
    }

    /// Prints a line for people; with `--json` it prints nothing.
    pub fn text(self, text: &str) {
        if !self.json {
            self.line(&as_typed(text));
        }
    }

    /// Prints a value for programs; without `--json` it prints nothing.
    pub fn value(self, value: &impl Serialize) {
        if self.json {
            self.line(&serde_json::to_string(value).unwrap_or_default());
        }
    }

    /// Prints a line with the name of a task between two texts, in the color of its service.
    pub fn task_line(self, before: &str, task: &str, text: &str) {
        let (before, name, text) = (printable(before), printable(task), printable(text));
        output::print(&format!("{before}{} {text}\n", self.colored(task, &format!("{name:<18}"))));
    }

    /// Prints an event with the time of day.
    pub fn event(self, event: &Event) {
        if self.json {
            return self.value(event);
        }
        let at = event.at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
        self.task_line(&format!("{at}  "), &event.who, &as_typed(&event.what));
    }

    /// Returns the text in the color of the task's service.
    #[must_use]
    fn colored(self, task: &str, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let service = task.rsplit_once('.').map_or(task, |(service, _)| service);
        let known = SERVICE_COLORS.iter().find(|(name, _)| *name == service);
        let color = known.map_or(OTHER_COLOR, |(_, color)| *color);
        format!("\u{1b}[38;5;{color}m{text}\u{1b}[0m")
    }

    /// Prints a table with a header.
    pub fn table(self, head: &[&str], rows: &[Vec<String>]) {
        output::lines(table(head, rows).trim_end());
    }
}

/// Returns a text with its commands as they are typed here: in the folder of a release archive, programs without cargo.
#[must_use]
pub fn as_typed(text: &str) -> Cow<'_, str> {
    static IS_ARCHIVE: LazyLock<bool> = LazyLock::new(|| binaries::of_archive().is_some());
    if *IS_ARCHIVE { typed_without_cargo(text).into() } else { text.into() }
}

fn typed_without_cargo(text: &str) -> String {
    text.replace("cargo hops", "./hops").replace("cargo run -p vipservice --", "bin/vipservice")
}

/// Formats a table like Docker's: each column as wide as its widest cell, and three blanks between columns.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<_> = head.iter().map(|name| (*name).to_owned()).collect();
    let rows: Vec<Vec<_>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell).into_owned()).collect()).collect();
    let all: Vec<_> = std::iter::once(&head).chain(&rows).collect();
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

/// Returns the time since `at` in Docker's words.
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
    fn a_release_archive_names_its_own_programs() {
        let text = "`cargo hops up` starts it; see `cargo run -p vipservice -- dead-letters list`";
        let expected = "`./hops up` starts it; see `bin/vipservice dead-letters list`";
        assert_eq!(typed_without_cargo(text), expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["vipservice.1".to_owned(), "1".into()], vec!["x".into(), String::new()]];
        assert_eq!(table(&["NAME", "PID"], &rows), "NAME           PID\nvipservice.1   1\nx\n");
        let forged = [vec!["q\nforged\u{1b}[2J".to_owned()]];
        assert_eq!(table(&["NAME"], &forged), "NAME\nq\\nforged\\u001b[2J\n");
    }

    #[test]
    fn times_are_shown_in_their_largest_unit() {
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
    fn the_tasks_of_a_service_have_one_color_and_other_services_another() {
        let screen = Screen { json: false, color: true, terminal: true };
        let colors = ["accountservice", "vipservice", "configserver", "rabbitmq"]
            .map(|service| screen.colored(&format!("{service}.1"), "text"));
        assert_eq!(screen.colored("vipservice.2", "text"), colors[1]);
        assert!(colors[0].starts_with("\u{1b}["));
        let different: std::collections::BTreeSet<_> = colors.into_iter().collect();
        assert_eq!(different.len(), 4, "{different:?}");
        let plain = Screen { json: false, color: false, terminal: true };
        assert_eq!(plain.colored("vipservice.1", "text"), "text");
    }
}
