//! Dead letters: the notifications that were given up, and what a person can do about them.
//!
//! They wait in `vip_queue.dead` until somebody redrives or discards them. Nothing here removes one that nobody
//! asked for, and a look leaves all as it was.
//! - [`page`]: over HTTP, read only, and their number
//! - [`command`]: from a shell; `print` is what that shows

pub mod page;
pub mod command;
mod print;

use std::{sync::Arc, time::Duration};

use contracts::topology::{VIP_DEAD, VIP_QUEUE};
use hops_config::Live;
use messaging::{
    BrowseError, BrowseSession, Message, MessagingClient, PublishError, QueueBrowser, failpoint, header,
    ladder::{Failure, Story, afresh},
};
use serde::Serialize;
use tokio::time::timeout;

use crate::offers::view::{Rows, View};

/// Before RabbitMQ 4.3 every look counts as a delivery, and after a million of them the broker drops a message
/// (`x-delivery-limit` of the queue): long before that a copy takes its place.
const WORN: u64 = 100_000;

/// A dead letter, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// Its message id, or a handle made of its content if it has none. Two letters may have the same.
    pub id: String,
    /// Why it is here.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first, if somebody has noted it.
    pub first_failed: Option<String>,
    /// When it failed last.
    pub last_failed: Option<String>,
    /// The replica that it failed in last.
    pub by: Option<String>,
    /// Its `type`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The request that caused it.
    pub request_id: Option<String>,
    /// Whether there is an offer of its id, so that a redrive makes no other; `None` if nobody can say.
    pub offer: Option<bool>,
}

/// Which letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    All,
    /// Those of this id.
    Id(String),
    /// Those whose id begins so.
    Abbreviated(String),
    /// Those whose reason contains this.
    Reason(String),
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It stays.
    Look,
    /// A copy goes to the work queue, without its story; then it is removed.
    Redrive,
    /// It is removed.
    Discard,
}

/// The letters that a look has shown.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The letters, oldest failure first.
    pub dead_letters: Vec<Letter>,
    /// How many more there are that it has not come to.
    pub more: u32,
}

/// The dead letters of the work queue.
#[derive(Clone)]
pub struct DeadLetters {
    client: Arc<dyn MessagingClient>,
    browser: Arc<dyn QueueBrowser>,
    offers: Arc<View>,
    patience: Live<Duration>,
}

impl DeadLetters {
    /// By `client` and `browser`; whether an offer exists is looked up in `offers`; a publish may take `patience`.
    pub fn new(
        client: Arc<dyn MessagingClient>,
        browser: Arc<dyn QueueBrowser>,
        offers: Arc<View>,
        patience: impl Into<Live<Duration>>,
    ) -> Self {
        Self { client, browser, offers, patience: patience.into() }
    }

    /// At most `limit` of those that are wanted, by the time of their last failure. The queue has no order of its
    /// own that would last: RabbitMQ puts what was looked at behind the rest.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub async fn list(&self, wanted: &Wanted, limit: usize) -> Result<Page, String> {
        let mut dead_letters: Vec<Letter> = vec![];
        let more =
            self.walk(wanted, Verb::Look, limit, |letter, _| dead_letters.push(letter.clone())).await?;
        dead_letters.sort_by(|one, next| (&one.last_failed, &one.id).cmp(&(&next.last_failed, &next.id)));
        Ok(Page { dead_letters, more })
    }

    /// Does `verb` with each letter that is wanted and was there at the start, at most `limit`, and tells of it when
    /// it is done. The answer is how many it has not come to. A copy is confirmed before its original is
    /// removed: at worst it is there twice, and its effect once.
    ///
    /// # Errors
    /// What is in the way. Whatever it has not told of is where it was.
    pub async fn walk(
        &self,
        wanted: &Wanted,
        verb: Verb,
        limit: usize,
        mut tell: impl FnMut(&Letter, &Message) + Send,
    ) -> Result<u32, String> {
        let mut cursor = self.browser.browse(VIP_DEAD).await.map_err(|e| e.to_string())?;
        let done = self.each(&mut *cursor, wanted, verb, limit, &mut tell).await;
        let left = cursor.remaining();
        let closed = cursor.close().await;
        done?;
        closed.map_err(|e| format!("what was removed last may still be there: {e}"))?;
        Ok(left)
    }

    async fn each(
        &self,
        cursor: &mut dyn BrowseSession,
        wanted: &Wanted,
        verb: Verb,
        limit: usize,
        tell: &mut (dyn FnMut(&Letter, &Message) + Send),
    ) -> Result<(), String> {
        let broken = |e: BrowseError| e.to_string();
        let (mut done, mut unfit) = (0, vec![]);
        while done < limit
            && let Some(message) = cursor.next().await.map_err(broken)?
        {
            let letter = self.letter(&message);
            let is_wanted = wanted.takes(&letter);
            match verb {
                Verb::Redrive if is_wanted => match self.redrive(&message).await {
                    Ok(()) => cursor.remove().await.map_err(|e| {
                        format!("{} is in {VIP_QUEUE} again, and perhaps still here too: {e}", letter.id)
                    })?,
                    // It alone is the matter: the others go on.
                    Err(PublishError::Invalid(why)) => {
                        unfit.push(format!("{}: it cannot be published: {why}", letter.id));
                        continue;
                    }
                    Err(error) => return Err(format!("{}: {error}", letter.id)),
                },
                Verb::Discard if is_wanted => cursor.remove().await.map_err(broken)?,
                _ => self.renew_if_worn(&letter, &message, cursor).await,
            }
            if is_wanted {
                done += 1;
                tell(&letter, &message);
            }
        }
        if unfit.is_empty() { Ok(()) } else { Err(unfit.join("; ")) }
    }

    /// What is known of a message in the dead-letter queue.
    fn letter(&self, message: &Message) -> Letter {
        let story = Story::of(message);
        let at = |failure: Option<&Failure>| failure.map(|failure| format!("{:.3}", failure.at));
        let has_offer = |rows: &Rows| message.id.as_ref().map_or(Some(false), |id| rows.knows(id));
        Letter {
            id: handle(message),
            reason: story.reason.unwrap_or_else(|| the_brokers_reason(message)),
            attempts: story.attempts,
            first_failed: at(story.failures.first()),
            last_failed: at(story.failures.last()),
            by: story.failures.last().map(|failure| failure.by.clone()),
            kind: message.kind.clone(),
            request_id: message.correlation_id.clone(),
            offer: self.offers.read(has_offer).flatten(),
        }
    }

    async fn redrive(&self, message: &Message) -> Result<(), PublishError> {
        self.publish(VIP_QUEUE, afresh(message)).await?;
        failpoint::reach("redriven");
        Ok(())
    }

    async fn publish(&self, queue: &str, copy: Message) -> Result<(), PublishError> {
        let confirmed = timeout(self.patience.get(), self.client.publish_on_queue(queue, copy)).await;
        confirmed
            .unwrap_or_else(|_| Err(PublishError::Unconfirmed(self.client.status().publishing.to_string())))
    }

    /// A letter that was looked at very often goes to the back of its queue, as a copy with its story.
    async fn renew_if_worn(&self, letter: &Letter, message: &Message, cursor: &mut dyn BrowseSession) {
        let looks = message.headers.get("x-delivery-count").and_then(|count| count.parse::<u64>().ok());
        if looks.is_none_or(|looks| looks <= WORN) {
            return;
        }
        let mut copy = afresh(message);
        for name in [header::ATTEMPT, header::HISTORY] {
            copy.headers.extend(message.headers.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        copy.headers.insert(header::REASON.into(), letter.reason.clone());
        let renewed = match self.publish(VIP_DEAD, copy).await {
            Ok(()) => cursor.remove().await.map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = renewed {
            tracing::warn!(
                message.id = letter.id,
                "a dead letter that is looked at often stays as it is: {why}"
            );
        }
    }
}

impl std::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetters").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Wanted {
    fn takes(&self, letter: &Letter) -> bool {
        match self {
            Self::All => true,
            Self::Id(id) => letter.id == *id,
            Self::Abbreviated(start) => letter.id.starts_with(start),
            Self::Reason(part) => letter.reason.contains(part),
        }
    }
}

/// The message's id; without one, a name that follows from the content and so is the same in each list.
fn handle(message: &Message) -> String {
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

/// Why the broker itself has moved a message, in words; it says so in headers of its own.
fn the_brokers_reason(message: &Message) -> String {
    let said = |name: &str| message.headers.get(name).map(String::as_str);
    match said("x-last-death-reason").or_else(|| said("x-first-death-reason")) {
        Some("delivery_limit") => {
            "the broker moved it here: it was delivered too often and never settled (delivery_limit)".into()
        }
        Some(why) => format!("the broker moved it here: {why}"),
        None => "nobody said why: it was published here".into(),
    }
}

#[cfg(test)]
mod tests;
