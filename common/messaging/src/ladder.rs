//! What becomes of a message that fails: it waits on a ladder of queues, longer on each rung, and after the
//! last with the dead, with its story.
//!
//! Each rung is a queue whose messages go back to the work queue when their time is over: back-off without a
//! plugin (<https://www.rabbitmq.com/docs/ttl>, <https://www.rabbitmq.com/docs/dlx>). A queue for each delay,
//! since a time of a message's own would hold up those behind it.
//! Pure: nothing is published here. It is about failures of the message; the broker's are never counted.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Message, header};
use crate::millis;

/// How much of a reason is kept, in characters: headers travel in one frame.
const REASON_LENGTH: usize = 1000;
/// How much of it is kept in the history, in characters.
const HISTORY_REASON_LENGTH: usize = 200;
/// How many failures the history keeps: the first, and the newest.
const HISTORY_LENGTH: usize = 20;

/// The rungs of a work queue, and its dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder {
    queue: String,
    delays: Vec<Duration>,
}

/// One failed attempt, as the history has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
    /// The instance that tried.
    pub by: String,
    /// Why it failed.
    pub why: String,
}

/// What a message's own headers say of its failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// How often it was tried, as far as its consumers could say.
    pub attempts: u32,
    /// The failures, oldest first.
    pub failures: Vec<Failure>,
    /// Why it was given up.
    pub reason: Option<String>,
}

impl Ladder {
    /// The ladder of `queue`: a message that has failed waits for the first delay, then for the second, and so on.
    #[must_use]
    pub fn new(queue: &str, delays: &[Duration]) -> Self {
        Self { queue: queue.into(), delays: delays.to_vec() }
    }

    /// The queue that messages are tried from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The dead-letter queue.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}.dead", self.queue)
    }

    /// The rungs' queues, each with its delay.
    pub fn rungs(&self) -> impl Iterator<Item = (String, Duration)> {
        self.delays.iter().map(|delay| (self.rung(*delay), *delay))
    }

    /// Where a message goes that may succeed later, and what goes there.
    #[must_use]
    pub fn retry(&self, message: &Message, failure: Failure) -> (String, Message) {
        let failures_before = Story::of(message).attempts as usize;
        match self.delays.get(failures_before) {
            Some(delay) => (self.rung(*delay), with_failure(message, failure)),
            None => self.give_up(message, failure),
        }
    }

    /// Where a message goes that will never succeed, and what goes there.
    #[must_use]
    pub fn give_up(&self, message: &Message, failure: Failure) -> (String, Message) {
        let reason = failure.why.chars().take(REASON_LENGTH).collect();
        let mut copy = with_failure(message, failure);
        copy.headers.insert(header::REASON.into(), reason);
        (self.dead(), copy)
    }

    fn rung(&self, delay: Duration) -> String {
        format!("{}.retry.{}", self.queue, delay.as_millis())
    }
}

impl Story {
    /// Reads the headers. What somebody else has written into them is passed over.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let header = |name: &str| message.headers.get(name);
        let failures: Vec<Failure> =
            header(header::HISTORY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let attempts = header(header::ATTEMPT).and_then(|text| text.parse().ok());
        Self { attempts: attempts.unwrap_or(0), failures, reason: header(header::REASON).cloned() }
    }
}

/// The message as it was when it was first published: without its story.
#[must_use]
pub fn afresh(message: &Message) -> Message {
    let mut copy = message.clone();
    copy.headers.retain(|name, _| {
        !is_the_brokers(name) && ![header::ATTEMPT, header::HISTORY, header::REASON].contains(&name.as_str())
    });
    copy
}

fn with_failure(message: &Message, mut failure: Failure) -> Message {
    let mut story = Story::of(message);
    if failure.why.chars().count() > HISTORY_REASON_LENGTH {
        failure.why = failure.why.chars().take(HISTORY_REASON_LENGTH).chain(['…']).collect();
    }
    story.failures.push(failure);
    if story.failures.len() > HISTORY_LENGTH {
        story.failures.remove(1);
    }
    let mut copy = afresh(message);
    let attempts = story.attempts.saturating_add(1);
    copy.headers.insert(header::ATTEMPT.into(), attempts.to_string());
    if let Ok(history) = serde_json::to_string(&story.failures) {
        copy.headers.insert(header::HISTORY.into(), history);
    }
    copy
}

/// The broker's own headers stay behind: a copied `x-death` makes RabbitMQ 3.x drop the copy at its next
/// dead-lettering (cycle detection).
fn is_the_brokers(name: &str) -> bool {
    ["x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-stream-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder() -> Ladder {
        Ladder::new("vip_queue", &[Duration::from_secs(1), Duration::from_millis(5500)])
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
    fn a_message_climbs_rung_by_rung_and_ends_with_the_dead_and_its_whole_story() {
        let (ladder, mut at, mut message) = (ladder(), vec![], message());
        for second in 1..=3 {
            let (queue, copy) = ladder.retry(&message, failure(second, &format!("reason {second}")));
            assert_eq!(copy.headers["x-hops-attempt"], second.to_string());
            assert_eq!(copy.headers.contains_key("x-hops-reason"), second == 3);
            at.push(queue);
            message = copy;
        }
        assert_eq!(at, ["vip_queue.retry.1000", "vip_queue.retry.5500", "vip_queue.dead"]);
        let failures = [failure(1, "reason 1"), failure(2, "reason 2"), failure(3, "reason 3")].to_vec();
        let told = Story { attempts: 3, failures, reason: Some("reason 3".into()) };
        assert_eq!(Story::of(&message), told);
    }

    #[test]
    fn what_will_never_succeed_is_dead_at_once() {
        let (queue, copy) = ladder().give_up(&message(), failure(1, "no JSON"));
        assert_eq!((queue.as_str(), copy.headers["x-hops-reason"].as_str()), ("vip_queue.dead", "no JSON"));
        assert_eq!(Story::of(&copy).attempts, 1);
        let without_rungs = Ladder::new("vip_queue", &[]);
        assert_eq!(without_rungs.retry(&message(), failure(1, "no")).0, "vip_queue.dead");
    }

    #[test]
    fn a_copy_keeps_all_but_the_brokers_own_headers() {
        let (_, copy) = ladder().retry(&message(), failure(1, "no"));
        let names: Vec<_> = copy.headers.keys().map(String::as_str).collect();
        assert_eq!(names, ["of-the-producer", "x-hops-attempt", "x-hops-history"]);
        assert_eq!((copy.id.as_deref(), copy.body.as_ref()), (Some("7"), b"{}".as_ref()));
        let (_, dead) = ladder().give_up(&copy, failure(2, "no"));
        assert_eq!(
            afresh(&dead).headers.into_iter().collect::<Vec<_>>(),
            [("of-the-producer".into(), "kept".into())]
        );
    }

    #[test]
    fn a_story_stays_short_enough_for_a_frame_and_keeps_its_beginning() {
        let ladder = Ladder::new("q", &[Duration::from_secs(1); 200]);
        let mut message = message();
        for second in 0..100 {
            message = ladder.retry(&message, failure(second, &"€".repeat(5000))).1;
        }
        let (_, dead) = ladder.give_up(&message, failure(100, &"€".repeat(5000)));
        assert!(dead.validate(1000).is_ok());
        let story = Story::of(&dead);
        assert_eq!((story.attempts, story.failures.len()), (101, 20));
        assert_eq!(story.failures[0].at.as_second(), 0);
        assert_eq!(story.failures[19].at.as_second(), 100);
    }

    #[test]
    fn headers_that_somebody_else_wrote_are_passed_over() {
        for (attempt, rung) in [("many", "q.retry.1000"), ("-1", "q.retry.1000"), ("4294967295", "q.dead")] {
            let mut message = message();
            message.headers.insert("x-hops-attempt".into(), attempt.into());
            message.headers.insert("x-hops-history".into(), "{".into());
            let (queue, copy) = Ladder::new("q", &[Duration::from_secs(1)]).retry(&message, failure(1, "no"));
            assert_eq!(queue, rung, "{attempt}");
            assert_eq!(Story::of(&copy).failures.len(), 1);
        }
    }
}
