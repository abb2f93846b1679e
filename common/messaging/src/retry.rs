//! The retry policy: a message that fails waits in retry queues, longer in each, and is dead-lettered after the last,
//! with its failure history.
//!
//! The messages of a retry queue go back to the work queue when they expire: back-off without a plugin
//! (<https://www.rabbitmq.com/docs/ttl>, <https://www.rabbitmq.com/docs/dlx>). Each delay has a queue of its own,
//! since a time to live of each message would hold up the messages behind it.
//! Pure: nothing is published here. It is about failures of the message; the broker's are never counted.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Message, header};
use crate::millis;

/// Most characters of a reason: headers travel in one frame.
const MAX_REASON: usize = 1000;
/// Most characters of a reason in the history.
const MAX_HISTORY_REASON: usize = 200;
/// Most failures in the history: the first one, and the newest.
const MAX_HISTORY: usize = 20;

/// The retry queues of a work queue, and its dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    queue: String,
    delays: Vec<Duration>,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Time of the failure.
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
    /// Instance in which it failed.
    pub by: String,
    /// Reason of the failure.
    pub why: String,
}

/// The failures of a message, read from its headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailureHistory {
    /// Number of attempts, as far as its consumers could record them.
    pub attempts: u32,
    /// The failures, oldest first.
    pub failures: Vec<Failure>,
    /// Reason for which it was dead-lettered.
    pub reason: Option<String>,
}

impl RetryPolicy {
    /// Returns the policy of `queue`: a message that fails waits for the first delay, then for the second, and so on.
    #[must_use]
    pub fn new(queue: &str, delays: &[Duration]) -> Self {
        Self { queue: queue.into(), delays: delays.to_vec() }
    }

    /// Returns the work queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Returns the name of the dead-letter queue.
    #[must_use]
    pub fn dead_letter_queue(&self) -> String {
        format!("{}.dead", self.queue)
    }

    /// Returns the names of the retry queues, each with its delay.
    pub fn retry_queues(&self) -> impl Iterator<Item = (String, Duration)> {
        self.delays.iter().map(|delay| (self.retry_queue(*delay), *delay))
    }

    /// Returns the queue for a message that may succeed later, and the copy to publish there.
    #[must_use]
    pub fn retry(&self, message: &Message, failure: Failure) -> (String, Message) {
        let failures_before = FailureHistory::of(message).attempts as usize;
        match self.delays.get(failures_before) {
            Some(delay) => (self.retry_queue(*delay), with_failure(message, failure)),
            None => self.dead_letter(message, failure),
        }
    }

    /// Returns the queue for a message that never succeeds, and the copy to publish there.
    #[must_use]
    pub fn dead_letter(&self, message: &Message, failure: Failure) -> (String, Message) {
        let reason = failure.why.chars().take(MAX_REASON).collect();
        let mut copy = with_failure(message, failure);
        copy.headers.insert(header::REASON.into(), reason);
        (self.dead_letter_queue(), copy)
    }

    fn retry_queue(&self, delay: Duration) -> String {
        format!("{}.retry.{}", self.queue, delay.as_millis())
    }
}

impl FailureHistory {
    /// Reads the headers. Values that others have written into them and that cannot be read are ignored.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let header = |name: &str| message.headers.get(name);
        let failures: Vec<Failure> =
            header(header::HISTORY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let attempts = header(header::ATTEMPT).and_then(|text| text.parse().ok());
        Self { attempts: attempts.unwrap_or(0), failures, reason: header(header::REASON).cloned() }
    }

    /// Returns the number of the attempt that follows these failures, from 1.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        self.attempts.saturating_add(1)
    }
}

/// Returns the message as it was first published: without its failure history.
#[must_use]
pub fn without_history(message: &Message) -> Message {
    let mut copy = message.clone();
    copy.headers.retain(|name, _| {
        !is_broker_header(name)
            && ![header::ATTEMPT, header::HISTORY, header::REASON].contains(&name.as_str())
    });
    copy
}

fn with_failure(message: &Message, mut failure: Failure) -> Message {
    let mut history = FailureHistory::of(message);
    if failure.why.chars().count() > MAX_HISTORY_REASON {
        failure.why = failure.why.chars().take(MAX_HISTORY_REASON).chain(['…']).collect();
    }
    history.failures.push(failure);
    if history.failures.len() > MAX_HISTORY {
        history.failures.remove(1);
    }
    let mut copy = without_history(message);
    copy.headers.insert(header::ATTEMPT.into(), history.next_attempt().to_string());
    if let Ok(failures) = serde_json::to_string(&history.failures) {
        copy.headers.insert(header::HISTORY.into(), failures);
    }
    copy
}

/// The broker's own headers are not copied: a copied `x-death` makes RabbitMQ 3.x drop the copy at its next
/// dead-lettering (cycle detection).
fn is_broker_header(name: &str) -> bool {
    ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-stream-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy::new("vip_queue", &[Duration::from_secs(1), Duration::from_millis(5500)])
    }

    fn failure(second: i64, why: &str) -> Failure {
        Failure { at: Timestamp::from_second(second).unwrap(), by: "vipservice.2".into(), why: why.into() }
    }

    fn message() -> Message {
        let headers =
            [("of-the-producer", "kept"), ("x-delivery-count", "3"), ("x-first-death-reason", "expired")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Message { id: Some("7".into()), headers, body: "{}".into(), ..Message::default() }
    }

    #[test]
    fn a_message_waits_in_one_retry_queue_after_the_other_and_is_dead_lettered_with_its_history() {
        let (policy, mut at, mut message) = (policy(), vec![], message());
        for second in 1..=3 {
            let (queue, copy) = policy.retry(&message, failure(second, &format!("reason {second}")));
            assert_eq!(copy.headers["x-hops-attempt"], second.to_string());
            assert_eq!(copy.headers.contains_key("x-hops-reason"), second == 3);
            at.push(queue);
            message = copy;
        }
        assert_eq!(at, ["vip_queue.retry.1000", "vip_queue.retry.5500", "vip_queue.dead"]);
        let failures = [failure(1, "reason 1"), failure(2, "reason 2"), failure(3, "reason 3")].to_vec();
        let expected = FailureHistory { attempts: 3, failures, reason: Some("reason 3".into()) };
        assert_eq!(FailureHistory::of(&message), expected);
    }

    #[test]
    fn what_never_succeeds_is_dead_lettered_at_once() {
        let (queue, copy) = policy().dead_letter(&message(), failure(1, "no JSON"));
        assert_eq!((queue.as_str(), copy.headers["x-hops-reason"].as_str()), ("vip_queue.dead", "no JSON"));
        assert_eq!(FailureHistory::of(&copy).attempts, 1);
        let without_delays = RetryPolicy::new("vip_queue", &[]);
        assert_eq!(without_delays.retry(&message(), failure(1, "no")).0, "vip_queue.dead");
    }

    #[test]
    fn a_copy_keeps_all_but_the_brokers_own_headers() {
        let (_, copy) = policy().retry(&message(), failure(1, "no"));
        let names: Vec<_> = copy.headers.keys().map(String::as_str).collect();
        assert_eq!(names, ["of-the-producer", "x-hops-attempt", "x-hops-history"]);
        assert_eq!((copy.id.as_deref(), copy.body.as_ref()), (Some("7"), b"{}".as_ref()));
        let (_, dead) = policy().dead_letter(&copy, failure(2, "no"));
        assert_eq!(
            without_history(&dead).headers.into_iter().collect::<Vec<_>>(),
            [("of-the-producer".into(), "kept".into())]
        );
    }

    #[test]
    fn a_history_stays_short_enough_for_a_frame_and_keeps_its_beginning() {
        let policy = RetryPolicy::new("q", &[Duration::from_secs(1); 200]);
        let mut message = message();
        for second in 0..100 {
            message = policy.retry(&message, failure(second, &"€".repeat(5000))).1;
        }
        let (_, dead) = policy.dead_letter(&message, failure(100, &"€".repeat(5000)));
        assert!(dead.validate(1000).is_ok());
        let history = FailureHistory::of(&dead);
        assert_eq!((history.attempts, history.failures.len()), (101, 20));
        assert_eq!(history.failures[0].at.as_second(), 0);
        assert_eq!(history.failures[19].at.as_second(), 100);
    }

    #[test]
    fn headers_that_somebody_else_wrote_are_ignored() {
        for (attempt, expected) in
            [("many", "q.retry.1000"), ("-1", "q.retry.1000"), ("4294967295", "q.dead")]
        {
            let mut message = message();
            message.headers.insert("x-hops-attempt".into(), attempt.into());
            message.headers.insert("x-hops-history".into(), "{".into());
            let (queue, copy) =
                RetryPolicy::new("q", &[Duration::from_secs(1)]).retry(&message, failure(1, "no"));
            assert_eq!(queue, expected, "{attempt}");
            assert_eq!(FailureHistory::of(&copy).failures.len(), 1);
        }
    }
}
