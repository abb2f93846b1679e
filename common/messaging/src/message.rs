//! A message, and the delivery of a message.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use backoff::Backoff;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::PublishError;

/// Names of the headers that this project writes and reads.
pub mod header {
    /// Number of attempts; absent before the first one.
    pub const ATTEMPT: &str = "x-hops-attempt";
    /// Failures, oldest first: a list in JSON, each with the keys `at`, `by` and `why`.
    pub const HISTORY: &str = "x-hops-history";
    /// Reason for dead-lettering.
    pub const REASON: &str = "x-hops-reason";
}

/// Content type of all bodies.
pub const JSON: &str = "application/json";

/// Most bytes of AMQP's short string: of a name, an id, a routing key.
const MAX_SHORT_STRING: usize = 255;

/// A message, as it is published, waits in the outbox and arrives. It is always persistent.
///
/// All properties are optional, since anyone may have published a message that arrives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// `message_id`: the same at every attempt, so that the receiver can detect duplicates.
    pub id: Option<String>,
    /// `type`: the contract and its major version, as in `vip.notification.v1`.
    pub kind: Option<String>,
    /// `content_type`.
    pub content_type: Option<String>,
    /// `content_encoding`: kept for messages of others; this project sets none.
    pub content_encoding: Option<String>,
    /// `correlation_id`: id of the request that caused it.
    pub correlation_id: Option<String>,
    /// `app_id`: name of the service that published it.
    pub app_id: Option<String>,
    /// `timestamp`: seconds since 1970, AMQP's unit.
    pub timestamp: Option<u64>,
    /// Headers; numbers that arrive are kept as text, tables and lists are not kept.
    pub headers: BTreeMap<String, String>,
    /// Content. It is not part of the serialized form: an outbox stores it unchanged, beside the rest.
    #[serde(skip)]
    pub body: Bytes,
}

impl Message {
    /// Returns the id, or words for its absence, for log lines.
    #[must_use]
    pub fn shown_id(&self) -> &str {
        self.id.as_deref().unwrap_or("without an id")
    }

    /// Checks that a broker can accept the message: AMQP's lengths, and at most `limit` bytes of body.
    ///
    /// # Errors
    /// [`PublishError::Invalid`], which names the part that is too long.
    pub fn validate(&self, limit: usize) -> Result<(), PublishError> {
        let too_long = |what: &str, len: usize, max: usize| {
            Err(PublishError::Invalid(format!("{what} has {len} bytes, {max} are allowed")))
        };
        let types = [&self.kind, &self.content_type, &self.content_encoding];
        let properties = [&self.id, &self.correlation_id, &self.app_id].into_iter().chain(types);
        for value in properties.flatten().chain(self.headers.keys()) {
            if value.len() > MAX_SHORT_STRING {
                return too_long("a property or a header's name", value.len(), MAX_SHORT_STRING);
            }
        }
        // Properties travel in one frame, and frames have at least 128 KiB.
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        match (headers, self.body.len()) {
            (64_001.., _) => too_long("the set of headers", headers, 64_000),
            (_, body) if body > limit => too_long("the body", body, limit),
            _ => Ok(()),
        }
    }
}

/// A message that was delivered to a handler.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Whether it was delivered before, to a consumer that may have handled it or not.
    pub redelivered: bool,
    waiting_for_broker: Arc<AtomicBool>,
}

impl Delivery {
    /// Returns a delivery of `message`.
    #[must_use]
    pub fn new(message: Message, redelivered: bool) -> Self {
        Self { message, redelivered, waiting_for_broker: Arc::default() }
    }

    /// Publishes as part of handling this delivery, again and again until the broker confirms: its failures are not the
    /// message's, so they must not lead to a retry or a dead letter. The future is dropped with the handler when the
    /// delivery's channel is closed.
    ///
    /// # Errors
    /// [`PublishError::Invalid`] and [`PublishError::Closed`] only.
    pub async fn until_confirmed<F>(&self, publish: impl Fn() -> F) -> Result<(), PublishError>
    where
        F: Future<Output = Result<(), PublishError>>,
    {
        let _waiting = WaitGuard::new(&self.waiting_for_broker);
        let mut backoff = Backoff::default();
        loop {
            match publish().await {
                done @ (Ok(()) | Err(PublishError::Invalid(_) | PublishError::Closed)) => {
                    return done;
                }
                Err(error) => {
                    tracing::warn!(message.id = self.message.shown_id(), "publishing again: {error}");
                    backoff.wait().await;
                }
            }
        }
    }

    pub(super) fn is_waiting_for_broker(&self) -> bool {
        self.waiting_for_broker.load(Ordering::Relaxed)
    }
}

/// Marks a handler as waiting for the broker until it is dropped.
struct WaitGuard<'a>(&'a AtomicBool);

impl<'a> WaitGuard<'a> {
    fn new(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Relaxed);
        Self(flag)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Message {
        Message {
            id: Some("7".into()),
            kind: Some("vip.notification.v1".into()),
            body: r#"["body"]"#.into(),
            ..Message::default()
        }
    }

    #[test]
    fn what_no_broker_accepts_is_refused_here() {
        assert_eq!(event().validate(1024), Ok(()));
        let invalid = |change: fn(&mut Message)| {
            let mut message = event();
            change(&mut message);
            matches!(message.validate(1024), Err(PublishError::Invalid(_)))
        };
        assert!(invalid(|m| m.body = vec![0; 1025].into()));
        assert!(invalid(|m| m.kind = Some("k".repeat(256))));
        assert!(invalid(|m| drop(m.headers.insert("h".repeat(256), String::new()))));
        assert!(invalid(|m| drop(m.headers.insert("h".into(), "v".repeat(65_000)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_publish_that_the_broker_fails_is_repeated_until_it_is_confirmed() {
        let tries = std::sync::atomic::AtomicU32::new(0);
        let delivery = Delivery::new(event(), false);
        let publish = || {
            std::future::ready(match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(PublishError::Nacked),
                1 => Err(PublishError::Unconfirmed("cut".into())),
                2 => Err(PublishError::Unroutable("312".into())),
                _ => Ok(()),
            })
        };
        assert_eq!(delivery.until_confirmed(publish).await, Ok(()));
        assert_eq!(tries.load(Ordering::Relaxed), 4);
        let never = delivery
            .until_confirmed(|| std::future::ready(Err(PublishError::Invalid("too large".into()))))
            .await;
        assert!(matches!(never, Err(PublishError::Invalid(_))));
    }
}
