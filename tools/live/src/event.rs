//! Events: what the page is told, as JSON.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

/// Longest text of an event, in characters; a log line may be much longer.
const MAX_TEXT: usize = 500;

/// Something that happened in the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "the names of the JSON fields, which the page's state module explains")]
pub enum Event {
    /// A message or a request passed one of the nine hops.
    Hop {
        hop: u64,
        name: String,
        task: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        redelivered: Option<bool>,
        text: String,
    },
    /// A delivery ended without hop 9.
    End {
        id: String,
        task: String,
        outcome: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        delay_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        text: String,
    },
    /// A task entered a state.
    Task(Task),
    /// Number of messages in the outbox of a task.
    Outbox { task: String, waiting: u64 },
    /// Numbers of a queue, as the broker counts.
    Queue(Queue),
    /// The broker answers, or no longer does.
    Broker { up: bool, address: String, text: String },
    /// A change of settings was broadcast, or a task has applied it.
    Bus {
        task: String,
        step: &'static str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        changed: Vec<String>,
        text: String,
    },
    /// A step of a change to an account: `append`, `applied`, `rejected`, `published`, or `caught-up` of a replica that has read
    /// all changes.
    Change {
        step: String,
        task: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        text: String,
    },
    /// Answer to a read that was made on the page.
    Answer { request: String, status: u16, ms: u64, account: String },
    /// A warning, an error, or a connection to the broker.
    Log {
        task: String,
        level: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        text: String,
    },
}

/// State of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Name of the task, as in `vipservice.2`.
    pub task: String,
    /// Name of its service.
    pub service: String,
    /// Number of the task within the service.
    pub slot: u32,
    /// Id of this process or container, which distinguishes it from those before it.
    pub process: String,
    /// `starting`, `ready`, `running` (alive but not ready), `paused`, `stopping`, `waiting`, `failed` or `gone`.
    pub state: String,
    /// Process id on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Image with its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Node of the swarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Numbers of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Name of the queue.
    pub name: String,
    /// Purpose of the queue: `work`, `retry`, `dead`, `stream` or `other`.
    pub role: &'static str,
    /// Type, if it is known: classic, quorum or stream.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Number of messages that wait for delivery.
    pub ready: u64,
    /// Number of messages that are delivered but not settled, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unacked: Option<u64>,
    /// Number of consumers.
    pub consumers: u64,
    /// Exchange that it is bound to; the default exchange is `""`.
    pub exchange: &'static str,
    /// True if the queue no longer exists.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

impl Queue {
    /// Creates the numbers of a queue; its name and type tell its purpose.
    #[must_use]
    pub fn new(name: &str, kind: Option<&str>, ready: u64, unacked: Option<u64>, consumers: u64) -> Self {
        let is_of_bus = name.starts_with("springCloudBus");
        let role = match name {
            _ if is_of_bus => "other",
            _ if name.ends_with(".dead") => "dead",
            _ if name.contains(".retry.") => "retry",
            _ if kind == Some("stream") || name == "offers" => "stream",
            _ if kind == Some("quorum") || name == "vip_queue" => "work",
            _ => "other",
        };
        let exchange = if is_of_bus { "springCloudBus" } else { "" };
        let (name, kind) = (name.to_owned(), kind.map(str::to_owned));
        Self { name, role, kind, ready, unacked, consumers, exchange, gone: false }
    }
}

impl Event {
    /// Returns the id of the message that it is about, if any.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Hop { id, .. } => id.as_deref(),
            Self::End { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Returns the id of the request that it belongs to, if any.
    #[must_use]
    pub fn request(&self) -> Option<&str> {
        match self {
            Self::Hop { request, .. } | Self::End { request, .. } | Self::Change { request, .. } => {
                request.as_deref()
            }
            _ => None,
        }
    }

    /// Returns true if nothing more is expected of its message.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Hop { hop, id, .. } => *hop == 9 && id.is_some(),
            Self::End { outcome, .. } => matches!(outcome.as_str(), "declined" | "dropped"),
            _ => false,
        }
    }

    /// Returns the key under which the last event of its kind replaces the earlier ones, for events that describe a state.
    #[must_use]
    pub fn state_key(&self) -> Option<String> {
        match self {
            Self::Task(task) => Some(format!("task {} {}", task.task, task.process)),
            Self::Outbox { task, .. } => Some(format!("outbox {task}")),
            // The replica's position.
            Self::Change { task, offset: Some(_), .. } => Some(format!("change {task}")),
            Self::Queue(queue) => Some(format!("queue {}", queue.name)),
            Self::Broker { .. } => Some("broker".into()),
            _ => None,
        }
    }

    /// Returns true if its state is one that nobody needs to know later.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Task(task) => task.state == "gone",
            Self::Queue(queue) => queue.gone,
            _ => false,
        }
    }

    /// Returns the event as one JSON object.
    #[must_use]
    pub fn to_json(&self, seq: u64, at: Timestamp) -> Arc<str> {
        let event = serde_json::to_string(self).unwrap_or_default();
        // The event's own object continues behind the two fields that all events have.
        format!("{{\"seq\":{seq},\"at\":\"{at:.6}\",{}", event.get(1..).unwrap_or("}")).into()
    }
}

/// Shortens a text to what an event may contain.
#[must_use]
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_object_with_its_number_and_time_first() {
        let at = "2026-11-20T00:00:00Z".parse().unwrap();
        let outbox = Event::Outbox { task: "a.1".into(), waiting: 2 };
        let expected =
            r#"{"seq":7,"at":"2026-11-20T00:00:00.000000Z","kind":"outbox","task":"a.1","waiting":2}"#;
        assert_eq!(&*outbox.to_json(7, at), expected);
        let queue = Event::Queue(Queue::new("vip_queue", Some("quorum"), 3, None, 1)).to_json(1, at);
        assert!(queue.ends_with(r#""kind":"queue","name":"vip_queue","role":"work","type":"quorum","ready":3,"consumers":1,"exchange":""}"#), "{queue}");
    }

    #[test]
    fn the_name_and_the_type_of_a_queue_tell_its_purpose() {
        for (name, kind, role, exchange) in [
            ("vip_queue", Some("quorum"), "work", ""),
            ("vip_queue", None, "work", ""),
            ("vip_queue.retry.5000", Some("quorum"), "retry", ""),
            ("vip_queue.dead", Some("quorum"), "dead", ""),
            ("offers", Some("stream"), "stream", ""),
            ("springCloudBus.anonymous.1", Some("classic"), "other", "springCloudBus"),
            ("mine", Some("classic"), "other", ""),
        ] {
            let queue = Queue::new(name, kind, 0, None, 0);
            assert_eq!((queue.role, queue.exchange), (role, exchange), "{name}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shortened("é"), "é");
        assert_eq!(shortened(&"é".repeat(600)), format!("{}…", "é".repeat(500)));
    }
}
