//! Dead letters: messages that were dead-lettered, and what an operator can do about them.
//!
//! They wait in the dead-letter queue of a [`RetryPolicy`] until a person redrives or discards them. Nothing here
//! removes a dead letter unless it was asked to, and listing leaves all of them in the queue.
//! - [`letter`]: one dead letter, as its headers describe it
//! - this file: going through the queue, once for each request
//! - [`http`]: over HTTP, read only, and their number as a metric
//! - [`command`]: from a shell; `print` has its output

pub mod letter;
pub mod http;
pub mod command;
mod print;

use std::{sync::Arc, time::Duration};

use hops_config::Live;
use messaging::{
    Message, MessagingClient, PublishError, header,
    retry::{RetryPolicy, without_history},
};
use queue_browser::{BrowseSession, QueueBrowser};
use serde::Serialize;
use tokio::time::timeout;

use self::letter::{DeadLetter, Effect};

/// Before RabbitMQ 4.3 each browse counts as a delivery, and the broker drops a dead letter after a million of them
/// (`x-delivery-limit` of the queue). Long before that the dead letter is replaced by a copy.
const REPUBLISH_AFTER_DELIVERIES: u64 = 100_000;

/// A choice of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All dead letters.
    All,
    /// Those with this id.
    Id(String),
    /// Those whose id begins with this text.
    IdPrefix(String),
    /// Those whose reason contains this text.
    Reason(String),
}

/// An action on each chosen dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It stays in the queue.
    List,
    /// A copy without its failure history goes to the work queue; then it is removed.
    Redrive,
    /// It is removed.
    Discard,
}

/// The most that one pass through the queue reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Dead letters that match.
    pub letters: usize,
    /// Bytes of bodies and headers of all messages that are read; the message that exceeds it is the last one.
    pub bytes: usize,
}

impl From<usize> for Limit {
    fn from(letters: usize) -> Self {
        Self { letters, bytes: usize::MAX }
    }
}

/// A list of dead letters, as it is printed and answered.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The dead letters, oldest failure first.
    pub dead_letters: Vec<DeadLetter>,
    /// Number of messages in the queue beyond the limits.
    pub more: u32,
}

/// The dead letters of one work queue.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "its parts are traits; nobody prints it")]
pub struct DeadLetters {
    client: Arc<dyn MessagingClient>,
    browser: Arc<dyn QueueBrowser>,
    policy: RetryPolicy,
    effect: Arc<dyn Effect>,
    publish_timeout: Live<Duration>,
}

impl DeadLetters {
    /// Returns access to the dead letters of `policy`; `effect` tells whether a message was handled all the same.
    pub fn new(
        client: Arc<dyn MessagingClient>,
        browser: Arc<dyn QueueBrowser>,
        policy: RetryPolicy,
        effect: Arc<dyn Effect>,
        publish_timeout: impl Into<Live<Duration>>,
    ) -> Self {
        Self { client, browser, policy, effect, publish_timeout: publish_timeout.into() }
    }

    /// Lists dead letters within `limit`, sorted by their last failure. The queue's own order is of no use:
    /// RabbitMQ puts browsed messages behind the others.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub async fn list(&self, filter: &Filter, limit: impl Into<Limit>) -> Result<Page, String> {
        let mut dead_letters: Vec<DeadLetter> = vec![];
        let more =
            self.walk(filter, Action::List, limit, |letter, _| dead_letters.push(letter.clone())).await?;
        dead_letters.sort_by(|one, next| (&one.last_failed, &one.id).cmp(&(&next.last_failed, &next.id)));
        Ok(Page { dead_letters, more })
    }

    /// Applies `action` to the dead letters that match and were there at the start, within `limit`, and reports
    /// each of them afterwards. Returns how many messages it did not reach. A copy is confirmed before its original
    /// is removed, so a failure in between leaves a duplicate and loses nothing.
    ///
    /// # Errors
    /// A sentence for the operator. Dead letters that were not reported are still in the queue.
    pub async fn walk(
        &self,
        filter: &Filter,
        action: Action,
        limit: impl Into<Limit>,
        mut report: impl FnMut(&DeadLetter, &Message) + Send,
    ) -> Result<u32, String> {
        let queue = self.policy.dead_letter_queue();
        let mut session = self.browser.browse(&queue).await.map_err(|e| e.to_string())?;
        let walked = self.each(&mut *session, filter, action, limit.into(), &mut report).await;
        let remaining = session.remaining();
        let closed = session.close().await;
        walked?;
        closed.map_err(|e| format!("the message that was removed last may still be in {queue}: {e}"))?;
        Ok(remaining)
    }

    async fn each(
        &self,
        session: &mut dyn BrowseSession,
        filter: &Filter,
        action: Action,
        limit: Limit,
        report: &mut (dyn FnMut(&DeadLetter, &Message) + Send),
    ) -> Result<(), String> {
        let (mut count, mut bytes, mut invalid) = (0, 0, vec![]);
        while count < limit.letters
            && bytes < limit.bytes
            && let Some(message) = session.next().await.map_err(|e| e.to_string())?
        {
            let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
            bytes += headers.sum::<usize>() + message.body.len();
            let letter = DeadLetter::new(&message, &*self.effect);
            let matches = filter.matches(&letter);
            match action {
                Action::Redrive if matches => match self.redrive(&message).await {
                    Ok(()) => {
                        let (id, queue) = (&letter.id, self.policy.queue());
                        tracing::info!(
                            delivery.outcome = "redriven",
                            delivery.queue = queue,
                            message.id = id,
                            request = letter.request_id,
                            "redriven to {queue}"
                        );
                        session.remove().await.map_err(|e| {
                            format!("{id} is in {queue} again, and may still be a dead letter too: {e}")
                        })?;
                    }
                    // This message alone is at fault: go on with the others.
                    Err(PublishError::Invalid(why)) => {
                        invalid.push(format!("{}: it cannot be published: {why}", letter.id));
                        continue;
                    }
                    Err(error) => return Err(format!("{}: {error}", letter.id)),
                },
                Action::Discard if matches => session.remove().await.map_err(|e| e.to_string())?,
                _ => self.republish_before_limit(&letter, &message, session).await,
            }
            if matches {
                count += 1;
                report(&letter, &message);
            }
        }
        if invalid.is_empty() { Ok(()) } else { Err(invalid.join("; ")) }
    }

    async fn redrive(&self, message: &Message) -> Result<(), PublishError> {
        self.publish(self.policy.queue(), without_history(message)).await?;
        failpoint::reach("redriven");
        Ok(())
    }

    async fn publish(&self, queue: &str, copy: Message) -> Result<(), PublishError> {
        let confirmed = timeout(self.publish_timeout.get(), self.client.publish_on_queue(queue, copy)).await;
        confirmed
            .unwrap_or_else(|_| Err(PublishError::Unconfirmed(self.client.status().publishing.to_string())))
    }

    /// Replaces a dead letter that was delivered very often by a copy with its failure history.
    async fn republish_before_limit(
        &self,
        letter: &DeadLetter,
        message: &Message,
        session: &mut dyn BrowseSession,
    ) {
        let count = message.headers.get("x-delivery-count").and_then(|count| count.parse::<u64>().ok());
        if count.is_none_or(|count| count <= REPUBLISH_AFTER_DELIVERIES) {
            return;
        }
        let mut copy = without_history(message);
        for name in [header::ATTEMPT, header::HISTORY] {
            copy.headers.extend(message.headers.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        copy.headers.insert(header::REASON.into(), letter.reason.clone());
        let replaced = match self.publish(&self.policy.dead_letter_queue(), copy).await {
            Ok(()) => session.remove().await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = replaced {
            tracing::warn!(
                message.id = letter.id,
                "a dead letter was delivered very often and cannot be republished: {why}"
            );
        }
    }
}

impl Filter {
    fn matches(&self, letter: &DeadLetter) -> bool {
        match self {
            Self::All => true,
            Self::Id(id) => letter.id == *id,
            Self::IdPrefix(start) => letter.id.starts_with(start),
            Self::Reason(part) => letter.reason.contains(part),
        }
    }
}

#[cfg(test)]
mod tests;
