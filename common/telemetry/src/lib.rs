//! Log lines: text for people on a terminal, one JSON object a line for machines.
//!
//! The nine hop lines are a contract: each has the fields `hop`, `name` and `request`.
//! A field of the span that a line is written in - the request's id, its trace - stands beside the
//! line's own.

mod settings;

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
};

use jiff::Timestamp;
use output::printable;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

pub use self::settings::{LogFormat, LogLevel, Settings};

/// The crates that log at the service's level.
const OUR_CRATES: [&str; 8] =
    ["accept", "config_bus", "dead_letters", "hops_config", "messaging", "outbox", "service", "streams"];

/// Which lines are written; it can be changed while the service runs.
#[derive(Debug, Clone)]
pub struct LogFilter {
    service: String,
    handle: reload::Handle<Targets, Registry>,
}

impl LogFilter {
    /// Sets the level of the lines that are written from now on.
    pub fn set(&self, level: LogLevel) {
        // It fails only when there is no log any more.
        let _ = self.handle.reload(targets(&self.service, level));
    }
}

/// Starts logging to standard output, once in a process. `level` is for the project's own crates; of others, warnings
/// and errors are logged.
pub fn init(service: &str, instance: &str, level: LogLevel, format: LogFormat) -> LogFilter {
    let lines = Lines::new(instance, format, false);
    let (filter, handle) = reload::Layer::new(targets(service, level));
    tracing_subscriber::registry().with(filter).with(lines).init();
    LogFilter { service: service.to_owned(), handle }
}

/// Starts logging to standard error, for a command whose result is on standard output: warnings, errors, and the messages that
/// the command moves.
pub fn init_of_command(instance: &str, format: LogFormat) {
    let filter = Targets::new().with_default(Level::WARN).with_target("lapin", LevelFilter::OFF);
    let lines = Lines::new(instance, format, true);
    tracing_subscriber::registry().with(filter.with_target("dead_letters", Level::INFO)).with(lines).init();
}

fn targets(service: &str, LogLevel(level): LogLevel) -> Targets {
    // lapin reports each lost connection as an error; the client says the same once, in its own words.
    Targets::new()
        .with_default(Level::WARN)
        .with_target("lapin", LevelFilter::OFF)
        .with_targets(OUR_CRATES.iter().map(|target| (*target, level)))
        .with_target(service, level)
}

/// A line's or a span's fields, in their order.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(field, _)| *field == name)?;
        Some(self.0.remove(at).1)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), Value::from(format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), Value::from(value)));
    }

    /// A trace's id.
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.0.push((field.name(), Value::from(format!("{value:032x}"))));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), Value::from(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), Value::from(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push((field.name(), Value::from(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), Value::from(value)));
    }
}

/// Writes lines to standard output, or to standard error.
struct Lines {
    instance: String,
    text: bool,
    color: bool,
    to_stderr: bool,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                let new = outer.0.iter().filter(|(name, _)| !fields.0.iter().any(|(own, _)| own == name));
                let new = new.cloned().collect::<Vec<_>>();
                fields.0.extend(new);
            }
        }
        let level = *event.metadata().level();
        let line = if self.text { self.text(level, fields) } else { self.json(level, fields) };
        // A log that cannot be written is no reason to stop working.
        let _ = match self.to_stderr {
            true => io::stderr().lock().write_all(line.as_bytes()),
            false => io::stdout().lock().write_all(line.as_bytes()),
        };
    }
}

impl Lines {
    fn new(instance: &str, format: LogFormat, to_stderr: bool) -> Self {
        let terminal = if to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let text = match format {
            LogFormat::Auto => terminal,
            LogFormat::Text => true,
            LogFormat::Json => false,
        };
        Self { instance: instance.to_owned(), text, color: terminal, to_stderr }
    }

    /// `vipservice.2      hop=7 consumer  got a message: {...}     request=7f3a`
    fn text(&self, level: Level, mut fields: Fields) -> String {
        let message = fields.take("message").map(|message| shown(&message)).unwrap_or_default();
        let head = match (fields.take("hop"), fields.take("name")) {
            (Some(hop), Some(name)) => format!("hop={hop} {:<9}", shown(&name)),
            _ => format!("{level:<15}"),
        };
        let color = match level {
            _ if !self.color => None,
            Level::ERROR => Some(31),
            Level::WARN => Some(33),
            _ if head.starts_with("hop") => Some(36),
            _ => None,
        };
        let head = color.map_or(head.clone(), |color| format!("\u{1b}[{color}m{head}\u{1b}[0m"));
        // What only machines look for - the trace, `message.id` - is in the JSON lines.
        let tail = fields.0.iter().filter(|(name, _)| *name != "trace" && !name.contains('.'));
        let tail: String = tail.map(|(name, value)| format!(" {name}={}", shown(value))).collect();
        format!("{:<17} {head} {message:<60} {tail}\n", self.instance)
    }

    fn json(&self, level: Level, fields: Fields) -> String {
        let mut line = String::with_capacity(512);
        let (now, instance) = (Timestamp::now(), Value::from(self.instance.as_str()));
        // Nothing fails to be written to a `String`, and the names of fields are identifiers.
        let _ = write!(line, "{{\"timestamp\":\"{now:.6}\",\"level\":\"{level}\",\"instance\":{instance}");
        for (name, value) in fields.0 {
            let _ = write!(line, ",\"{name}\":{value}");
        }
        line.push('}');
        // JSON escapes line breaks and `ESC`, but not all that a terminal obeys; what escapes the others is JSON, too.
        printable(&line).into_owned() + "\n"
    }
}

/// A value on one line; nothing in it reaches the terminal's controls.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    printable(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: bool) -> String {
        let lines = Lines { instance: "vipservice.2".into(), text, color: false, to_stderr: false };
        let fields = Fields(vec![
            ("message", "got a message: {}\n\u{1b}\u{9b}forged".into()),
            ("hop", 7.into()),
            ("name", "consumer".into()),
            ("request", "7f3a".into()),
            ("trace", "4bf9".into()),
        ]);
        if text { lines.text(Level::INFO, fields) } else { lines.json(Level::INFO, fields) }
    }

    #[test]
    fn a_hop_line_for_people_is_one_line() {
        let line = line(true);
        assert!(
            line.starts_with(r"vipservice.2      hop=7 consumer  got a message: {}\n\u001b\u009bforged "),
            "{line}"
        );
        assert!(line.ends_with(" request=7f3a\n"), "{line}");
    }

    #[test]
    fn a_line_for_machines_is_one_object_with_every_field_at_its_top() {
        let line = line(false);
        assert_eq!(line.matches(char::is_control).count(), 1, "its end: {line:?}");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&object["hop"], &object["request"], &object["level"]),
            (&7.into(), &"7f3a".into(), &"INFO".into())
        );
        assert_eq!(object["instance"], "vipservice.2");
    }
}
