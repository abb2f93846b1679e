//! Hop 5, outbox: messages on disk until the broker has confirmed them.
//!
//! An appended message is not lost when the process dies, the broker is away, or both: the relay publishes it, with
//! the same id each time, until the broker confirms it, and only then removes it
//! (<https://microservices.io/patterns/data/transactional-outbox.html>).
//! It does not keep an order, and it does not survive a power loss: sled's flush hands the data to the
//! kernel and does not wait for the disk.

mod relay;
mod settings;

use std::{
    ops::Bound,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use messaging::{Message, PublishError, metrics::gauge};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::sync::{Notify, watch};

pub use self::{relay::relay, settings::Settings};

/// Largest body in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a message is not in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// It holds as many messages as it may: append again later.
    #[error("the outbox is full: {0} messages wait for the broker")]
    Full(usize),
    /// The disk is full, read-only or broken. sled accepts no writes after its first such error.
    #[error("the outbox cannot be written: {0}; fix this and restart the service")]
    Unwritable(#[from] sled::Error),
    /// The message can never be published.
    #[error(transparent)]
    Invalid(#[from] PublishError),
}

/// Messages waiting to be published, in a tree of a sled store.
#[derive(Debug)]
pub struct Outbox {
    store: sled::Db,
    tree: sled::Tree,
    /// Messages that can never be published, for a person.
    parked: sled::Tree,
    max: usize,
    /// Number of waiting messages, counted here, since sled's `len` reads all entries.
    waiting: watch::Sender<usize>,
    depth: Gauge,
    /// Held while a key is generated and inserted, so that no entry appears before one that the relay has read.
    append_lock: Mutex<()>,
    written: AtomicU64,
    flushed: tokio::sync::Mutex<u64>,
    appended: Notify,
    last_error: Mutex<Option<LastError>>,
}

/// Why the last append or removal failed.
#[derive(Debug)]
struct LastError {
    text: String,
    /// Whether it stays until the service is restarted.
    is_permanent: bool,
}

/// A message and the queue that it is published to.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the queue.
    pub queue: String,
    /// Message to publish.
    pub message: Message,
}

impl Outbox {
    /// Opens the outbox in `store`, for at most `max` messages; those of an earlier run are still there. An entry that
    /// cannot be read is parked, so that it blocks no other.
    ///
    /// # Errors
    /// sled's own.
    pub fn open(store: &sled::Db, max: usize, registry: &mut Registry) -> Result<Self, sled::Error> {
        let help = "Messages that wait to be confirmed by the broker";
        let outbox = Self {
            store: store.clone(),
            tree: store.open_tree("outbox")?,
            parked: store.open_tree("outbox_aside")?,
            max,
            waiting: watch::Sender::new(0),
            depth: gauge(registry, "outbox_depth", help),
            append_lock: Mutex::new(()),
            written: AtomicU64::new(0),
            flushed: tokio::sync::Mutex::new(0),
            appended: Notify::new(),
            last_error: Mutex::new(None),
        };
        // From key to key and not by an iterator, which visits each page once: sled's cache drops no page before some
        // 16,000 visits, and would keep all of them. With 100,000 messages this takes 14 MB instead of 65.
        let mut next = outbox.tree.first()?;
        while let Some((key, value)) = next {
            next = outbox.tree.get_gt(&key)?;
            outbox.count(|waiting| waiting + 1);
            if let Err(why) = decode(&value) {
                outbox.park(&key, &why)?;
            }
        }
        Ok(outbox)
    }

    /// Returns how many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Returns whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many messages are parked, since they can never be published.
    #[must_use]
    pub fn parked_len(&self) -> usize {
        self.parked.len()
    }

    /// Returns a watch on the number of waiting messages.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    /// Waits until no message waits.
    pub async fn drained(&self) {
        let _ = self.waiting().wait_for(|waiting| *waiting == 0).await;
    }

    /// Flushes the store, with all that others have in it.
    ///
    /// # Errors
    /// sled's own.
    pub async fn flush_store(&self) -> Result<(), sled::Error> {
        self.store.flush_async().await.map(drop)
    }

    /// Checks that the outbox accepts messages, for `/readyz`.
    ///
    /// # Errors
    /// A sentence that says why it does not.
    pub fn check(&self) -> Result<String, String> {
        match &*self.last_error.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) if error.is_permanent => Err(error.text.clone()),
            _ if self.len() >= self.max => Err(OutboxError::Full(self.len()).to_string()),
            _ => Ok(format!("{} waiting", self.len())),
        }
    }

    /// Appends a message for `queue`. `Ok` means that it is on disk.
    ///
    /// # Errors
    /// [`OutboxError`]; after [`OutboxError::Unwritable`] the message may still be published.
    pub async fn append(&self, queue: &str, message: &Message) -> Result<(), OutboxError> {
        message.validate(BODY_LIMIT)?;
        let value = encode(queue, message)?;
        let result = self.insert_and_flush(value).await;
        self.record_outcome(result.as_ref().err());
        result
    }

    /// Returns the waiting messages, oldest first.
    ///
    /// # Errors
    /// Each item may be an error of sled's, or an entry that cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, String>> {
        self.after(None).map(|item| item.map(|(_, entry)| entry))
    }

    async fn insert_and_flush(&self, value: Vec<u8>) -> Result<(), OutboxError> {
        if !self.count_if(|waiting| waiting < self.max, |waiting| waiting + 1) {
            return Err(OutboxError::Full(self.len()));
        }
        self.insert(value).inspect_err(|_| self.count(|waiting| waiting.saturating_sub(1)))?;
        failpoint::reach("outbox-written");
        // Wakes the relay even if the caller is dropped while it waits for the flush.
        let _wake = Wake(&self.appended);
        self.flush().await?;
        failpoint::reach("outbox-flushed");
        Ok(())
    }

    fn insert(&self, value: Vec<u8>) -> Result<(), sled::Error> {
        let _guard = self.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.store.generate_id()?.to_be_bytes();
        self.tree.insert(key, value)?;
        Ok(())
    }

    /// Flushes once for all entries that were written before it begins: callers that get the lock next find their
    /// entries flushed already.
    async fn flush(&self) -> Result<(), sled::Error> {
        let mine = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        let mut flushed = self.flushed.lock().await;
        if *flushed < mine {
            let all = self.written.load(Ordering::SeqCst);
            self.tree.flush_async().await?;
            *flushed = all;
        }
        Ok(())
    }

    fn remove(&self, keys: &[sled::IVec]) -> Result<(), sled::Error> {
        let mut batch = sled::Batch::default();
        for key in keys {
            batch.remove(key);
        }
        self.tree.apply_batch(batch)?;
        self.count(|waiting| waiting.saturating_sub(keys.len()));
        Ok(())
    }

    fn park(&self, key: &sled::IVec, why: &str) -> Result<(), sled::Error> {
        if let Some(value) = self.tree.get(key)? {
            self.parked.insert(key, value)?;
        }
        tracing::error!("a message in the outbox is parked, since it can never be published: {why}");
        self.remove(std::slice::from_ref(key))
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        self.count_if(|_| true, change);
    }

    fn count_if(&self, allowed: impl FnOnce(usize) -> bool, change: impl FnOnce(usize) -> usize) -> bool {
        self.waiting.send_if_modified(|waiting| {
            let allowed = allowed(*waiting);
            if allowed {
                *waiting = change(*waiting);
                self.depth.set(i64::try_from(*waiting).unwrap_or(i64::MAX));
            }
            allowed
        })
    }

    /// Records the outcome of an append or a removal, and logs it when it changes: not for each of a thousand requests.
    fn record_outcome(&self, error: Option<&OutboxError>) {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let error = error.map(|error| LastError {
            text: error.to_string(),
            is_permanent: matches!(error, OutboxError::Unwritable(_)),
        });
        match (&*last, &error) {
            (None, None) => return,
            (Some(before), Some(now)) if before.is_permanent == now.is_permanent => return,
            (_, Some(now)) => tracing::error!("{}", now.text),
            (Some(_), None) => tracing::info!("the outbox accepts messages again"),
        }
        *last = error;
    }

    /// Returns the messages after a key, each with its key.
    fn after(&self, key: Option<sled::IVec>) -> impl Iterator<Item = Result<(sled::IVec, Entry), String>> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.tree.range((from, Bound::Unbounded)).map(|item| {
            let (key, value) = item.map_err(|e| e.to_string())?;
            decode(&value).map(|entry| (key, entry))
        })
    }
}

/// Wakes the relay when it is dropped.
struct Wake<'a>(&'a Notify);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Writes a line of JSON with everything but the body, then the body unchanged.
fn encode(queue: &str, message: &Message) -> Result<Vec<u8>, PublishError> {
    let mut value =
        serde_json::to_vec(&(queue, message)).map_err(|e| PublishError::Invalid(e.to_string()))?;
    value.push(b'\n');
    value.extend_from_slice(&message.body);
    Ok(value)
}

fn decode(value: &[u8]) -> Result<Entry, String> {
    let end =
        value.iter().position(|byte| *byte == b'\n').ok_or("it has no line end after its properties")?;
    let (queue, message): (String, Message) =
        serde_json::from_slice(&value[..end]).map_err(|e| e.to_string())?;
    let body = value[end + 1..].to_vec().into();
    Ok(Entry { queue, message: Message { body, ..message } })
}

#[cfg(test)]
mod tests;
