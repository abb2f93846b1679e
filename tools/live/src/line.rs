//! A log line of a service as an event. Lines that say nothing to the page are none.

use jiff::Timestamp;
use serde::Deserialize;

use crate::event::{Event, shortened};

/// Fields of a JSON line that the page needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    timestamp: String,
    level: String,
    message: String,
    hop: Option<u64>,
    name: Option<String>,
    request: Option<String>,
    trace: Option<String>,
    #[serde(rename = "message.id")]
    id: Option<String>,
    #[serde(rename = "message.attempt")]
    attempt: Option<u64>,
    #[serde(rename = "message.redelivered")]
    redelivered: Option<bool>,
    #[serde(rename = "account.id")]
    account: Option<String>,
    #[serde(rename = "delivery.outcome")]
    outcome: Option<String>,
    #[serde(rename = "delivery.queue")]
    queue: Option<String>,
    #[serde(rename = "outbox.waiting")]
    waiting: Option<u64>,
    #[serde(rename = "change.step")]
    step: Option<String>,
    #[serde(rename = "change.id")]
    change: Option<String>,
    #[serde(rename = "change.offset")]
    offset: Option<u64>,
    #[serde(rename = "change.version")]
    version: Option<u64>,
}

/// Returns the event that a task's log line is, with its time.
#[must_use]
pub fn event(task: &str, text: &str) -> Option<(Timestamp, Event)> {
    // Most lines that are not JSON are a program's last words, which the state of its task shows.
    let line: Line = text.starts_with('{').then(|| serde_json::from_str(text).ok())??;
    Some((line.timestamp.parse().ok()?, of_line(task, line)?))
}

/// Cuts the body of the message from hop 7's text: it is shown only on request.
#[must_use]
pub fn without_body(text: &str) -> &str {
    const BEFORE_BODY: &str = "got a message";
    let end = text.find(BEFORE_BODY).map(|at| at + BEFORE_BODY.len());
    end.map_or(text, |end| &text[..end])
}

fn of_line(task: &str, line: Line) -> Option<Event> {
    let (task, text) = (task.to_owned(), shortened(without_body(&line.message)));
    if let Some(hop) = line.hop {
        let queue = match hop {
            5 => line.message.rsplit_once(" to ").map(|(_, queue)| queue.to_owned()),
            6 => confirmed_by(&line.message, line.id.as_deref()),
            _ => None,
        };
        // The relay's line of an event about an account. Nobody may consume it, so it is no card that waits for its end.
        if queue.as_ref().is_some_and(|target| hop == 5 && target.contains('/')) {
            let (step, id, request) = ("published".to_owned(), line.id, line.request);
            let (account, offset, version) = (None, None, None);
            return Some(Event::Change { step, task, id, request, account, offset, version, text });
        }
        let (name, request, trace, id) = (line.name.unwrap_or_default(), line.request, line.trace, line.id);
        let (account, attempt, redelivered) = (line.account, line.attempt, line.redelivered);
        return Some(Event::Hop {
            hop,
            name,
            task,
            request,
            trace,
            id,
            account,
            queue,
            attempt,
            redelivered,
            text,
        });
    }
    if let (Some(outcome), Some(id)) = (line.outcome, &line.id) {
        let delay_ms = line.queue.as_ref().and_then(|queue| queue.rsplit_once(".retry.")?.1.parse().ok());
        let (id, queue, attempt, request) = (id.clone(), line.queue, line.attempt, line.request);
        return Some(Event::End { id, task, outcome, queue, delay_ms, attempt, request, text });
    }
    if let Some(step) = line.step {
        let (id, request, account) = (line.change, line.request, line.account);
        let (offset, version) = (line.offset, line.version);
        return Some(Event::Change { step, task, id, request, account, offset, version, text });
    }
    if let Some(waiting) = line.waiting {
        return Some(Event::Outbox { task, waiting });
    }
    if line.message.starts_with("refresh event sent") {
        return Some(Event::Bus { task, step: "broadcast", changed: vec![], text });
    }
    if let Some((_, changed)) =
        line.message.strip_prefix("settings reloaded").and_then(|rest| rest.split_once("; changed: "))
    {
        let changed = changed.split(", ").map(str::to_owned).collect();
        return Some(Event::Bus { task, step: "applied", changed, text });
    }
    let is_shown = matches!(line.level.as_str(), "WARN" | "ERROR")
        || line.message.starts_with("connected to the broker")
        || line.message.starts_with("listening on");
    let (level, request, id) = (line.level, line.request, line.id);
    is_shown.then_some(Event::Log { task, level, request, id, text })
}

/// Returns the queue in hop 6's "QUEUE has ID: the broker has confirmed it".
fn confirmed_by(message: &str, id: Option<&str>) -> Option<String> {
    let (has, _) = message.rsplit_once(": the broker has confirmed it")?;
    has.strip_suffix(id?)?.strip_suffix(" has ").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(fields: &Value, expected: &Value) {
        let mut line = json!({"timestamp": "2026-11-20T00:00:00Z", "level": "INFO", "instance": "x.1"});
        line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let found = event("x.1", &line.to_string()).map(|(_, event)| event);
        assert_eq!(&found.map_or(Value::Null, |event| serde_json::to_value(event).unwrap()), expected);
    }

    #[test]
    fn each_hop_says_what_its_line_says() {
        let (request, text) = ("r", "the relay publishes m to vip_queue");
        check(
            &json!({"hop": 5, "name": "outbox", "message.id": "m", "message": text, "request": request}),
            &json!({"kind": "hop", "hop": 5, "name": "outbox", "task": "x.1", "id": "m", "queue": "vip_queue", "request": "r", "text": text}),
        );
        // An id may contain anything.
        let (id, text) = (
            "a has b: the broker has confirmed it",
            "q has a has b: the broker has confirmed it: the broker has confirmed it",
        );
        check(
            &json!({"hop": 6, "name": "broker", "message.id": id, "message": text}),
            &json!({"kind": "hop", "hop": 6, "name": "broker", "task": "x.1", "id": id, "queue": "q", "text": text}),
        );
        check(
            &json!({"hop": 7, "name": "consumer", "message.id": "m", "message.redelivered": true, "message.attempt": 2, "message": "got a message: {}"}),
            &json!({"kind": "hop", "hop": 7, "name": "consumer", "task": "x.1", "id": "m", "redelivered": true, "attempt": 2, "text": "got a message"}),
        );
        check(
            &json!({"hop": 4, "name": "notify", "message.id": "m", "account.id": "10000", "trace": "t", "message": "a"}),
            &json!({"kind": "hop", "hop": 4, "name": "notify", "task": "x.1", "id": "m", "account": "10000", "trace": "t", "text": "a"}),
        );
    }

    #[test]
    fn other_lines_are_events_where_the_page_shows_them() {
        check(
            &json!({"level": "WARN", "message.id": "m", "message.attempt": 1, "delivery.outcome": "retried", "delivery.queue": "vip_queue.retry.1000", "message": "w"}),
            &json!({"kind": "end", "id": "m", "task": "x.1", "outcome": "retried", "queue": "vip_queue.retry.1000", "delayMs": 1000, "attempt": 1, "text": "w"}),
        );
        check(
            &json!({"message.id": "m", "delivery.outcome": "declined", "message": "w", "request": "r"}),
            &json!({"kind": "end", "id": "m", "task": "x.1", "outcome": "declined", "request": "r", "text": "w"}),
        );
        check(
            &json!({"message.id": "m", "delivery.outcome": "redriven", "delivery.queue": "vip_queue", "message": "redriven to vip_queue", "request": "r"}),
            &json!({"kind": "end", "id": "m", "task": "x.1", "outcome": "redriven", "queue": "vip_queue", "request": "r", "text": "redriven to vip_queue"}),
        );
        check(
            &json!({"outbox.waiting": 3, "message": "3 waiting"}),
            &json!({"kind": "outbox", "task": "x.1", "waiting": 3}),
        );
        check(
            &json!({"message": "settings reloaded from http://c; changed: a, b"}),
            &json!({"kind": "bus", "task": "x.1", "step": "applied", "changed": ["a", "b"], "text": "settings reloaded from http://c; changed: a, b"}),
        );
        check(
            &json!({"message": "refresh event sent to vipservice:**", "message.id": "e"}),
            &json!({"kind": "bus", "task": "x.1", "step": "broadcast", "text": "refresh event sent to vipservice:**"}),
        );
        check(
            &json!({"level": "WARN", "message": "no connection to the broker: refused"}),
            &json!({"kind": "log", "task": "x.1", "level": "WARN", "text": "no connection to the broker: refused"}),
        );
        check(&json!({"message": "seeded 100 accounts"}), &Value::Null);
    }

    #[test]
    fn each_step_of_a_change_is_an_event_and_no_message_on_its_way() {
        let (append, publish) = ("the writer appends k", "the relay publishes k to accounts/account.changed");
        check(
            &json!({"change.step": "append", "change.id": "k", "account.id": "7", "request": "r", "message": append}),
            &json!({"kind": "change", "step": "append", "task": "x.1", "id": "k", "request": "r", "account": "7", "text": append}),
        );
        check(
            &json!({"change.step": "applied", "change.id": "k", "change.offset": 142, "change.version": 2, "account.id": "7", "message": "a"}),
            &json!({"kind": "change", "step": "applied", "task": "x.1", "id": "k", "account": "7", "offset": 142, "version": 2, "text": "a"}),
        );
        check(
            &json!({"hop": 5, "name": "outbox", "message.id": "k", "request": "r", "message": publish}),
            &json!({"kind": "change", "step": "published", "task": "x.1", "id": "k", "request": "r", "text": publish}),
        );
        check(
            &json!({"change.step": "caught-up", "change.offset": 9, "message": "a"}),
            &json!({"kind": "change", "step": "caught-up", "task": "x.1", "offset": 9, "text": "a"}),
        );
    }

    #[test]
    fn a_line_that_is_not_a_services_is_no_event() {
        for text in
            ["", "plain", "{", "{}", r#"{"timestamp":"yesterday","hop":1}"#, r#"{"timestamp":1}"#, "[]"]
        {
            assert_eq!(event("x.1", text), None, "{text}");
        }
    }
}
