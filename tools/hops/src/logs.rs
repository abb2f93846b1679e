//! Logs of the tasks: one file per process of a task, read while it grows, or one container.
//!
//! - `containers`: logs of a stack's containers
//!
//! The services print JSON lines, because their output is not a terminal; this module formats them as text.

mod containers;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use output::printable;
use serde_json::Value;

pub(crate) use self::containers::ContainerLogs;
use crate::failure::Result;

/// Returns the log files of one task, `NAME.SLOT.TIME-ID.log`, in no particular order.
#[must_use]
pub fn of_task(folder: &Path, task: &str) -> Vec<PathBuf> {
    all(folder).into_iter().filter(|(name, _)| name == task).map(|(_, path)| path).collect()
}

/// Returns all log files with the names of their tasks.
fn all(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let logs = entries.filter_map(|entry| {
        let path = entry.path();
        let stem = path.file_name()?.to_str()?.strip_suffix(".log")?;
        let (task, _) = stem.rsplit_once('.')?;
        Some((task.to_owned(), path))
    });
    logs.collect()
}

/// Line of a log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Task that printed it, as in `vipservice.2`.
    pub task: String,
    /// Line as it was printed.
    pub text: String,
    /// Fields of a JSON line; `Null` for any other line.
    pub fields: Value,
    /// Time of the line, or of the line before it if it has none.
    pub time: Option<Timestamp>,
}

impl LogLine {
    /// Parses a line; `before` is the time of the line before it.
    pub(crate) fn new(task: &str, text: &str, before: Option<Timestamp>) -> Self {
        let fields = serde_json::from_str(text).unwrap_or_default();
        let mut line = Self { task: task.to_owned(), text: text.to_owned(), fields, time: None };
        line.time = line.at().or(before);
        line
    }

    /// Returns a field as text, or `""` if there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// Returns the number of the hop that the line logs.
    #[must_use]
    pub fn hop(&self) -> Option<u64> {
        self.fields["hop"].as_u64()
    }

    /// Returns the number and name of the hop that the line logs, the step of a change, or `""`.
    #[must_use]
    pub fn step(&self) -> String {
        match self.hop() {
            Some(hop) => format!("{hop} {}", self.field("name")),
            None => self.field("change.step").to_owned(),
        }
    }

    /// Returns the time of the line.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.field("timestamp").parse().ok()
    }

    /// Returns true if the line belongs to this request. In a line that is not JSON, the id is a word of its own or follows
    /// `=`.
    #[must_use]
    pub fn belongs_to(&self, request: &str) -> bool {
        let ends_with_it = |word: &str| {
            word.strip_suffix(request).is_some_and(|before| before.is_empty() || before.ends_with('='))
        };
        self.field("request") == request
            || self.fields.is_null() && self.text.split_whitespace().any(ends_with_it)
    }

    /// Formats the line for people: the hop or the level, the message, and the fields that are not part of the message.
    #[must_use]
    pub fn formatted(&self) -> String {
        let Value::Object(fields) = &self.fields else { return printable(&self.text).into_owned() };
        let head = match self.hop() {
            Some(hop) => format!("hop={hop} {:<9}", self.field("name")),
            None => format!("{:<15}", self.field("level")),
        };
        const SHOWN_OR_OMITTED: [&str; 6] = ["timestamp", "level", "instance", "message", "trace", "hop"];
        let is_hop = self.hop().is_some();
        let is_omitted =
            |name: &str| SHOWN_OR_OMITTED.contains(&name) || name.contains('.') || (is_hop && name == "name");
        let rest = fields.iter().filter(|(name, _)| !is_omitted(name));
        let rest: String = rest
            .map(|(name, value)| {
                format!("  {name}={}", value.as_str().map_or(value.to_string(), str::to_owned))
            })
            .collect();
        printable(&format!("{head} {}{rest}", self.field("message"))).into_owned()
    }
}

/// Lines of the tasks of a system, each of which is returned once.
#[derive(Debug)]
pub(crate) enum Lines {
    /// Lines of the processes of a checkout.
    Files(Tail),
    /// Lines of a stack.
    Containers(ContainerLogs),
}

impl Lines {
    /// Returns the lines that exist, in the order of their times.
    pub(crate) async fn read_existing(&mut self) -> Result<Vec<LogLine>> {
        match self {
            Self::Files(tail) => Ok(tail.read_new()),
            Self::Containers(logs) => logs.read_existing().await,
        }
    }

    /// Returns the lines since the last call, in the order of their times.
    pub(crate) fn read_new(&mut self) -> Vec<LogLine> {
        match self {
            Self::Files(tail) => tail.read_new(),
            Self::Containers(logs) => logs.read_new(),
        }
    }

    /// Ends the processes that read the lines.
    pub(crate) async fn close(self) {
        if let Self::Containers(logs) = self {
            logs.close().await;
        }
    }
}

/// Reader of the log files of some tasks, which returns each line once.
#[derive(Debug)]
pub struct Tail {
    folder: PathBuf,
    tasks: Vec<String>,
    offsets: BTreeMap<PathBuf, u64>,
    /// Time of the last line of each log.
    last: BTreeMap<PathBuf, Option<Timestamp>>,
}

impl Tail {
    /// Reads from the beginning the logs of these tasks and of the tasks of these services, or of all if none is named.
    #[must_use]
    pub fn new(folder: PathBuf, names: &[String]) -> Self {
        Self { folder, tasks: names.to_vec(), offsets: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Skips the lines that exist.
    pub fn skip(&mut self) {
        for (_, path) in all(&self.folder) {
            let length = fs::metadata(&path).map(|file| file.len()).unwrap_or_default();
            self.offsets.insert(path, length);
        }
    }

    /// Skips the lines that exist, apart from those in the last `bytes` of each log.
    pub fn skip_all_but(&mut self, bytes: u64) {
        self.skip();
        for (path, offset) in &mut self.offsets {
            *offset = start_of_line(path, offset.saturating_sub(bytes));
        }
    }

    /// Returns the lines since the last call, in the order of their times.
    pub fn read_new(&mut self) -> Vec<LogLine> {
        let mut lines = vec![];
        for (task, path, text) in self.read_files() {
            // A line without a time stays behind the line before it.
            let last = self.last.entry(path.clone()).or_insert_with(|| started_at(&path));
            for line in text.lines() {
                let line = LogLine::new(&task, line, *last);
                *last = line.time;
                lines.push(line);
            }
        }
        lines.sort_by_key(|line| line.time);
        lines
    }

    /// Returns the lines since the last call with their tasks, unparsed and log by log.
    pub fn read_new_text(&mut self) -> Vec<(String, String)> {
        let mut lines = vec![];
        for (task, _, text) in self.read_files() {
            lines.extend(text.lines().map(|line| (task.clone(), line.to_owned())));
        }
        lines
    }

    /// Returns what each log has got since the last call.
    fn read_files(&mut self) -> Vec<(String, PathBuf, String)> {
        let mut texts = vec![];
        let mut logs = all(&self.folder);
        logs.sort();
        for (task, path) in logs {
            let service = task.rsplit_once('.').map_or(task.as_str(), |(service, _)| service);
            if !self.tasks.is_empty() && !self.tasks.iter().any(|name| *name == task || name == service) {
                continue;
            }
            let from = self.offsets.entry(path.clone()).or_default();
            let Some(bytes) = complete_lines_from(&path, *from) else { continue };
            *from += bytes.len() as u64;
            texts.push((task, path, String::from_utf8_lossy(&bytes).into_owned()));
        }
        texts
    }
}

/// Returns the offset of the first line that begins at or after an offset.
fn start_of_line(path: &Path, offset: u64) -> u64 {
    let before = offset.saturating_sub(1);
    let rest = if offset == 0 { None } else { complete_lines_from(path, before) };
    rest.and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        .map_or(offset, |end| before + end as u64 + 1)
}

/// Returns the time at which the process of a log was started, from the log's name.
fn started_at(log: &Path) -> Option<Timestamp> {
    let (_, time_and_id) = log.file_stem()?.to_str()?.rsplit_once('.')?;
    Timestamp::from_millisecond(time_and_id.split('-').next()?.parse().ok()?).ok()
}

/// Returns the complete lines after an offset; an incomplete one is left for the next call.
fn complete_lines_from(path: &Path, from: u64) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = vec![];
    file.read_to_end(&mut bytes).ok()?;
    if bytes.is_empty() {
        return None;
    }
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn logs_are_read_in_the_order_of_time_and_each_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| File::create(folder.path().join(name)).unwrap();
        let (mut one, mut two) = (open("vipservice.1.5-a.log"), open("vipservice.2.6-b.log"));
        let mut other = open("rabbitmq.1.1-c.log");
        writeln!(
            one,
            r#"{{"timestamp":"2026-11-20T00:00:02Z","hop":7,"name":"consumer","message":"b","request":"r"}}"#
        )
        .unwrap();
        writeln!(two, r#"{{"timestamp":"2026-11-20T00:00:01Z","level":"INFO","message":"a","port":1}}"#)
            .unwrap();
        write!(two, "not whole").unwrap();
        writeln!(other, "plain").unwrap();

        let mut tail = Tail::new(folder.path().to_owned(), &["vipservice".into()]);
        let shown: Vec<_> =
            tail.read_new().iter().map(|line| format!("{} {}", line.task, line.formatted())).collect();
        assert_eq!(
            shown,
            ["vipservice.2 INFO            a  port=1", "vipservice.1 hop=7 consumer  b  request=r"]
        );
        assert!(tail.read_new().is_empty());
        writeln!(two, ", now").unwrap();
        assert_eq!(tail.read_new()[0].formatted(), "not whole, now");
        assert_eq!(Tail::new(folder.path().to_owned(), &[]).read_new().len(), 4);
        for (bytes, expected) in [(0, 0), (1, 0), (14, 0), (15, 1), (16, 1), (90, 2), (91, 2), (1_000, 2)] {
            let mut tail = Tail::new(folder.path().to_owned(), &["vipservice.2".into()]);
            tail.skip_all_but(bytes);
            let last: Vec<_> = tail.read_new_text().into_iter().map(|(_, text)| text).collect();
            assert_eq!(last.len(), expected, "{bytes}: {last:?}");
            assert!(expected == 0 || last[expected - 1] == "not whole, now", "{last:?}");
        }
        assert_eq!(of_task(folder.path(), "vipservice.2").len(), 1);
    }

    #[test]
    fn a_line_belongs_to_a_request_by_its_whole_id() {
        for (text, expected) in [
            (r#"{"message":"a","request":"vip"}"#, true),
            (r#"{"message":"to vip_queue vip","request":"7f3a"}"#, false),
            ("answered request=vip", true),
            ("answered vip", true),
            ("answered vip_queue and request=vip.1", false),
        ] {
            assert_eq!(LogLine::new("vipservice.1", text, None).belongs_to("vip"), expected, "{text}");
        }
    }
}
