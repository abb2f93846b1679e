//! The output of a service: every line of its standard output and error, across restarts, bounded.

use std::{
    collections::VecDeque,
    fmt::Write,
    io::{BufRead, BufReader, Read},
    sync::{Mutex, MutexGuard},
};

use serde_json::Value;

/// More than 500 notifications print at level debug, several restarts included.
const KEPT: usize = 50_000;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output: the log, JSON lines.
    Out,
    /// Standard error: the one line of a failed start.
    Err,
}

/// One line, with its fields when it is a JSON log line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it was printed.
    pub stream: Stream,
    /// As printed.
    pub text: String,
    /// The fields of a log line; `Null` for anything else.
    pub fields: Value,
}

impl Line {
    /// A text field, `""` where it is missing.
    pub fn field(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// The field `hop`, written as a number or as text.
    pub fn hop(&self) -> Option<u64> {
        let hop = &self.fields["hop"];
        hop.as_u64().or_else(|| hop.as_str()?.parse().ok())
    }
}

/// The lines of one service, filled by reader threads while a test looks.
#[derive(Debug, Default)]
pub struct Log {
    lines: Mutex<VecDeque<Line>>,
}

impl Log {
    /// Reads `source` to its end; run on a thread of its own.
    pub(crate) fn fill(&self, stream: Stream, source: impl Read) {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            let fields = serde_json::from_str(&text).unwrap_or_default();
            let mut lines = self.lock();
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(Line { stream, text, fields });
        }
    }

    /// All lines that `wanted` says yes to, oldest first.
    pub fn filter(&self, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        self.lock().iter().filter(|line| wanted(line)).cloned().collect()
    }

    /// Counts the lines for which `wanted` returns true.
    pub fn count(&self, wanted: impl Fn(&Line) -> bool) -> usize {
        self.lock().iter().filter(|line| wanted(line)).count()
    }

    /// The hop lines of one request, in hop order.
    pub fn hops(&self, request: &str) -> Vec<Line> {
        let mut lines = self.filter(|line| line.hop().is_some() && line.field("request") == request);
        lines.sort_by_key(Line::hop);
        lines
    }

    /// Everything on one of the two streams, as printed.
    pub fn text(&self, stream: Stream) -> String {
        let mut text = String::new();
        for line in self.lock().iter().filter(|line| line.stream == stream) {
            let _ = writeln!(text, "{}", line.text);
        }
        text
    }

    /// The last lines, for a failed test's output.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lock();
        let mut text = String::new();
        for line in lines.iter().skip(lines.len().saturating_sub(count)) {
            let _ = writeln!(text, "    {}", line.text);
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().expect("nobody panics while holding the lines")
    }
}
