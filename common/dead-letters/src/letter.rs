//! One dead letter: its headers read, and whether its effect exists already. Pure.

use messaging::{
    Message,
    retry::{Failure, FailureHistory},
};
use serde::{Serialize, Serializer};

/// A dead letter, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its message id, or one derived from its content if it has none. Duplicates share it.
    pub id: String,
    /// Reason for which it was dead-lettered.
    pub reason: String,
    /// Number of attempts.
    pub attempts: u32,
    /// Time of its first failure, if its history has one.
    pub first_failed: Option<String>,
    /// Time of its last failure.
    pub last_failed: Option<String>,
    /// Instance in which it failed last.
    pub by: Option<String>,
    /// Its message type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Request that caused it.
    pub request_id: Option<String>,
    /// Its effect, which is written as a field of the effect's name.
    #[serde(flatten)]
    pub effect: EffectState,
}

impl DeadLetter {
    pub(super) fn new(message: &Message, effect: &dyn Effect) -> Self {
        let exists = message.id.as_ref().map_or(Some(false), |id| effect.exists(id));
        let history = FailureHistory::of(message);
        let at = |failure: Option<&Failure>| failure.map(|failure| format!("{:.3}", failure.at));
        Self {
            id: message_id(message),
            reason: history.reason.unwrap_or_else(|| broker_reason(message)),
            attempts: history.attempts,
            first_failed: at(history.failures.first()),
            last_failed: at(history.failures.last()),
            by: history.failures.last().map(|failure| failure.by.clone()),
            kind: message.kind.clone(),
            request_id: message.correlation_id.clone(),
            effect: EffectState { name: effect.name(), exists },
        }
    }
}

/// The effect of handling a message, such as an offer. A redrive must not repeat an effect that exists already, and the
/// operator is told so.
pub trait Effect: Send + Sync {
    /// Returns the effect's name, a noun.
    fn name(&self) -> &'static str;

    /// Returns whether the effect of the message with this id exists, or `None` if that is unknown.
    fn exists(&self, message_id: &str) -> Option<bool>;
}

/// The state of one message's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectState {
    /// Name of the effect.
    pub name: &'static str,
    /// `true` if it exists; `None` if that is unknown.
    pub exists: Option<bool>,
}

impl Serialize for EffectState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.name, self.exists)])
    }
}

/// The message's id; without one, an id that follows from the content and so is the same in each list.
fn message_id(message: &Message) -> String {
    if let Some(id) = message.id.as_ref().filter(|id| !id.is_empty()) {
        return id.clone();
    }
    let texts = [&message.kind, &message.content_type, &message.correlation_id, &message.app_id];
    let texts = texts.into_iter().flat_map(|text| text.as_deref().unwrap_or_default().bytes().chain([0]));
    let time = message.timestamp.unwrap_or_default().to_be_bytes();
    // FNV-1a: the same in every version and on every machine, which std's hashes do not promise.
    let hash = texts
        .chain(time)
        .chain(message.body.iter().copied())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("no-id-{hash:016x}")
}

/// Returns the reason for which the broker itself dead-lettered a message, from its headers.
fn broker_reason(message: &Message) -> String {
    let header = |name: &str| message.headers.get(name).map(String::as_str);
    match header("x-last-death-reason").or_else(|| header("x-first-death-reason")) {
        Some("delivery_limit") => {
            "the broker moved it here: it was delivered too often without being settled (delivery_limit)"
                .into()
        }
        Some(why) => format!("the broker moved it here: {why}"),
        None => "no reason was given: it was published to this queue".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_an_id_gets_one_that_follows_from_its_content() {
        let of = |id: Option<&str>, body: &'static str| {
            message_id(&Message { id: id.map(str::to_owned), body: body.into(), ..Message::default() })
        };
        assert_eq!(of(Some("7"), "a"), "7");
        // Fixed once and for all: somebody may have written it down.
        assert_eq!(of(None, "a"), "no-id-7c96769f62db8a9c");
        assert_eq!(of(None, "a"), of(Some(""), "a"));
        assert_ne!(of(None, "a"), of(None, "b"));
        let browsed =
            Message { headers: [("x-delivery-count".into(), "3".into())].into(), ..Message::default() };
        assert_eq!(message_id(&browsed), message_id(&Message::default()), "browsing does not change it");
    }
}
