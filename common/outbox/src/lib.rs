//! Hop 5, outbox: messages on disk until the broker has confirmed them.
//!
//! An appended message is not lost when the process dies, the machine loses power, the broker is away, or all of it: the relay
//! publishes it, with the same id each time, until the broker confirms it, and only then removes it
//! (<https://microservices.io/patterns/data/transactional-outbox.html>).
//! It keeps no order. The files are those of the crate [`journal`], which says what damage to them costs.

mod relay;
mod settings;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::future::try_join_all;
use journal::{AppendError, Damage, Journal, State};
use messaging::{Message, PublishError};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
    registry::Registry,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::{
    relay::relay,
    settings::{Settings, SyncTo},
};

/// Largest body in bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// Entries that are read at once.
const BATCH: usize = 1000;

/// Why a message is not in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// It holds as many messages as it may: append again later.
    #[error("the outbox is full: {0} messages wait for the broker")]
    Full(usize),
    /// The disk is full, read-only or broken. It is tried again each second.
    #[error(
        "the outbox {} cannot be written: {why}; make room on this disk, or mend it: what waits is kept, and no restart is needed",
        folder.display()
    )]
    Unwritable {
        /// Its folder.
        folder: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The message can never be published.
    #[error(transparent)]
    Invalid(#[from] PublishError),
}

/// Messages waiting to be published, in a folder.
#[derive(Debug)]
pub struct Outbox {
    journal: Journal,
    folder: PathBuf,
    max: usize,
    damage: Vec<Damage>,
    /// Number of messages that were found damaged when they were to be sent.
    given_up: AtomicUsize,
    is_full: AtomicBool,
}

/// A message, and how it is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the exchange; empty for the default one.
    pub exchange: String,
    /// Routing key; on the default exchange the name of a queue.
    pub routing_key: String,
    /// Whether a queue has to take it.
    pub mandatory: bool,
    /// Message to publish.
    pub message: Message,
    /// Why it is parked, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
}

/// An entry that cannot be published, since it cannot be read.
#[derive(Debug)]
enum Unreadable {
    /// The journal cannot read it.
    Journal(journal::Unreadable),
    /// It is whole and yet no message.
    Foreign(Vec<u8>, String),
}

impl Outbox {
    /// Opens the outbox in a folder; the messages of an earlier run are still there. What is damaged is logged and kept.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn open(folder: &Path, settings: &Settings, registry: &mut Registry) -> Result<Self, String> {
        let options = journal::Options::new(settings.outbox_sync.into(), settings.outbox_max);
        let shown = folder.display();
        let (journal, damage) = Journal::open(folder, options).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => format!(
                "the outbox {shown} is in use by another process: stop that one, or start this one with `--data-dir DIR` or \
                 another INSTANCE_NAME"
            ),
            _ => format!(
                "the outbox {shown} cannot be opened: {error}; what waits in it is kept: mend that and start again"
            ),
        })?;
        for damage in &damage {
            tracing::error!("the outbox is damaged: {shown}/{damage}");
        }
        if !damage.is_empty() {
            tracing::error!(
                "all else in the outbox {shown} was read and is sent; its damaged files stay there, named *.damaged in the end"
            );
        }
        registry.register_collector(Box::new(Depth(journal.waiting())));
        let (max, folder) = (settings.outbox_max, folder.to_owned());
        let (given_up, is_full) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { journal, folder, max, damage, given_up, is_full })
    }

    /// Returns how many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.journal.len()
    }

    /// Returns whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.journal.is_empty()
    }

    /// Returns what was damaged when it was opened, a sentence each.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Returns how many messages were found damaged when they were to be sent.
    #[must_use]
    pub fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Returns how many damaged files are kept in its folder.
    #[must_use]
    pub fn kept_files(&self) -> usize {
        self.journal.kept_files()
    }

    /// Returns a watch on the number of waiting messages.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.journal.waiting()
    }

    /// Waits until no message waits.
    pub async fn drained(&self) {
        let _ = self.waiting().wait_for(|waiting| *waiting == 0).await;
    }

    /// Writes what is left to write. Nothing is appended afterwards.
    ///
    /// # Errors
    /// A sentence on what the disk did not take: messages that were sent are sent once more after the next start.
    pub async fn close(&self) -> Result<(), String> {
        let closed = self.journal.close().await;
        closed.map_err(|why| format!("the outbox {} cannot be closed: {why}", self.folder.display()))
    }

    /// Checks that the outbox accepts messages, for `/readyz`.
    ///
    /// # Errors
    /// A sentence that says why it does not.
    pub fn check(&self) -> Result<String, String> {
        if let Some(why) = self.journal.error() {
            return Err(self.unwritable(why).to_string());
        }
        match (self.len(), self.damage.len() + self.given_up()) {
            (waiting, _) if waiting >= self.max => Err(OutboxError::Full(waiting).to_string()),
            (waiting, 0) => Ok(format!("{waiting} waiting")),
            (waiting, damages) => Ok(format!("{waiting} waiting; damaged, see the log: {damages}")),
        }
    }

    /// Appends a message for `queue`. `Ok` means that it is on disk.
    ///
    /// # Errors
    /// [`OutboxError`]; after [`OutboxError::Unwritable`] the message may still be published.
    pub async fn append(&self, queue: &str, message: &Message) -> Result<(), OutboxError> {
        let (exchange, mandatory) = ("", true);
        let properties = Properties { exchange, routing_key: queue, mandatory, message };
        self.append_encoded(message, &properties).await
    }

    /// Appends a message for any exchange. `Ok` means that it is on disk.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_entry(&self, entry: &Entry) -> Result<(), OutboxError> {
        self.append_encoded(&entry.message, entry).await
    }

    async fn append_encoded(
        &self,
        message: &Message,
        properties: &impl Serialize,
    ) -> Result<(), OutboxError> {
        message.validate(BODY_LIMIT)?;
        let appended = self.journal.append(encode(properties, &message.body)?).await;
        let is_full = matches!(appended, Err(AppendError::Full(_)));
        if self.is_full.swap(is_full, Ordering::Relaxed) != is_full {
            match is_full {
                true => tracing::error!("{}", OutboxError::Full(self.len())),
                false => tracing::info!("the outbox accepts messages again"),
            }
        }
        match appended {
            Ok(_) => Ok(()),
            Err(AppendError::Full(waiting)) => Err(OutboxError::Full(waiting)),
            Err(AppendError::Unwritable(why)) => Err(self.unwritable(why)),
        }
    }

    /// Appends messages in their order, even if more wait than may: those that an earlier version has acknowledged, or that nobody
    /// can take back. `Ok` means that they are on disk.
    ///
    /// # Errors
    /// As [`append`](Self::append), without [`OutboxError::Full`].
    pub async fn append_beyond_limit(&self, entries: &[Entry]) -> Result<(), OutboxError> {
        let mut appends = vec![];
        for entry in entries {
            appends.push(self.journal.append_beyond(encode(entry, &entry.message.body)?));
        }
        let appended = try_join_all(appends).await;
        appended.map(drop).map_err(|error| self.unwritable(error.to_string()))
    }

    /// Keeps bytes of an earlier version that are no entry, for a person.
    ///
    /// # Errors
    /// As [`append`](Self::append), without [`OutboxError::Full`].
    pub async fn move_in_parked(&self, bytes: Vec<u8>) -> Result<(), OutboxError> {
        let unwritable = |error: AppendError| self.unwritable(error.to_string());
        let number = self.journal.append_beyond(bytes.clone()).await.map_err(unwritable)?;
        self.journal.park(number, bytes).await.map_err(unwritable)
    }

    fn unwritable(&self, why: String) -> OutboxError {
        OutboxError::Unwritable { folder: self.folder.clone(), why }
    }

    /// Returns the waiting messages, oldest first. Each item may be a sentence about an entry that cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, String>> {
        self.all(State::Waiting)
    }

    /// Returns the messages that can never be published, oldest first.
    pub fn parked(&self) -> impl Iterator<Item = Result<Entry, String>> {
        self.all(State::Parked)
    }

    fn all(&self, state: State) -> impl Iterator<Item = Result<Entry, String>> {
        let mut last = 0;
        let batches = std::iter::from_fn(move || {
            let batch = self.in_state(state, last, BATCH);
            last = batch.last()?.0;
            Some(batch)
        });
        batches.flatten().map(|(_, entry)| entry.map_err(|unreadable| unreadable.to_string()))
    }

    /// Returns at most so many waiting messages behind a number, each with its own.
    fn after(&self, number: u64, at_most: usize) -> Vec<(u64, Result<Entry, Unreadable>)> {
        self.in_state(State::Waiting, number, at_most)
    }

    fn in_state(&self, state: State, number: u64, at_most: usize) -> Vec<(u64, Result<Entry, Unreadable>)> {
        let read = |bytes: Result<Vec<u8>, _>| {
            let bytes = bytes.map_err(Unreadable::Journal)?;
            Entry::decode(&bytes).map_err(|why| Unreadable::Foreign(bytes, why))
        };
        let entries = self.journal.after(number, state, at_most).into_iter();
        entries.map(|(number, bytes)| (number, read(bytes))).collect()
    }

    fn remove(&self, numbers: &[u64]) {
        self.journal.remove(numbers);
    }

    /// Keeps a message that can never be published for a person.
    async fn park(&self, number: u64, why: &str) -> Result<(), OutboxError> {
        tracing::error!("a message in the outbox is parked, since it can never be published: {why}");
        let Some((_, Ok(entry))) = self.after(number - 1, 1).pop().filter(|(found, _)| *found == number)
        else {
            return Ok(());
        };
        let entry = Entry { parked: Some(why.to_owned()), ..entry };
        let parked = self.journal.park(number, encode(&entry, &entry.message.body)?).await;
        parked.map_err(|error| self.unwritable(error.to_string()))
    }

    /// Takes an entry that cannot be read out of the way of the others; what is left of it is kept. `Err` has a sentence if it
    /// may be read later.
    async fn put_away(&self, number: u64, unreadable: Unreadable) -> Result<(), String> {
        match unreadable {
            Unreadable::Journal(journal::Unreadable::Disk(why)) => return Err(why),
            Unreadable::Journal(journal::Unreadable::Damaged(ref why)) => {
                tracing::error!(
                    "a message in the outbox is damaged and cannot be sent, its file is kept: {why}"
                );
                self.journal.give_up(number);
                self.given_up.fetch_add(1, Ordering::Relaxed);
            }
            Unreadable::Foreign(bytes, why) => {
                tracing::error!("an entry in the outbox is parked, since it is no message: {why}");
                let parked = self.journal.park(number, bytes).await;
                parked.map_err(|error| self.unwritable(error.to_string()).to_string())?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Returns an entry for one queue, which has to take it.
    #[must_use]
    pub fn for_queue(queue: &str, message: Message) -> Self {
        let (exchange, routing_key) = (String::new(), queue.to_owned());
        Self { exchange, routing_key, mandatory: true, message, parked: None }
    }

    /// Returns where it goes, for people: the queue, or the exchange with the routing key.
    #[must_use]
    pub fn target(&self) -> String {
        match self.exchange.as_str() {
            "" => self.routing_key.clone(),
            exchange => format!("{exchange}/{}", self.routing_key),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let end =
            bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no line end after its properties")?;
        let mut entry: Self = serde_json::from_slice(&bytes[..end]).map_err(|e| e.to_string())?;
        entry.message.body = bytes[end + 1..].to_vec().into();
        Ok(entry)
    }
}

/// An [`Entry`] of borrowed parts.
#[derive(Serialize)]
struct Properties<'a> {
    exchange: &'a str,
    routing_key: &'a str,
    mandatory: bool,
    message: &'a Message,
}

/// Writes a line of JSON with everything but the body, then the body unchanged.
fn encode(properties: &impl Serialize, body: &[u8]) -> Result<Vec<u8>, PublishError> {
    let mut bytes = serde_json::to_vec(properties).map_err(|e| PublishError::Invalid(e.to_string()))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    Ok(bytes)
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(why) => why.fmt(f),
            Self::Foreign(_, why) => f.write_str(why),
        }
    }
}

/// The number of waiting messages, read when somebody asks for the metrics.
#[derive(Debug)]
struct Depth(watch::Receiver<usize>);

impl Collector for Depth {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let depth = ConstGauge::new(i64::try_from(*self.0.borrow()).unwrap_or(i64::MAX));
        let help = "Messages that wait to be confirmed by the broker.";
        depth.encode(encoder.encode_descriptor("outbox_depth", help, None, depth.metric_type())?)
    }
}

#[cfg(test)]
mod tests;
