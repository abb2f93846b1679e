//! Hop 5, outbox: messages on disk until the broker has confirmed them.
//!
//! What is appended here is not lost when the process dies, the broker is away, or both: the relay
//! publishes it, with the same id each time, until it is confirmed, and only then removes it
//! (<https://microservices.io/patterns/data/transactional-outbox.html>).
//! It does not keep an order, and it does not survive a power loss: sled's flush hands the data to the
//! kernel and does not wait for the disk.

mod relay;

use std::{
    ops::Bound,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use messaging::{Message, PublishError, failpoint, metrics::gauge};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::sync::{Notify, watch};

pub use self::relay::relay;

/// The largest body, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a message is not in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// As many messages as it may hold are waiting already: try later.
    #[error("the outbox is full: {0} messages wait for the broker")]
    Full(usize),
    /// The disk refuses: full, read-only, broken. sled takes nothing more after its first such error.
    #[error("the outbox cannot be written: {0}; put that right and restart this service")]
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
    /// Messages that can never be published, kept for a person.
    aside: sled::Tree,
    max: usize,
    /// Number of messages that wait. Our own count: sled's `len` reads everything.
    waiting: watch::Sender<usize>,
    depth: Gauge,
    /// Held from taking a key to using it, so that an entry never appears behind the relay's back.
    in_order: Mutex<()>,
    written: AtomicU64,
    flushed: tokio::sync::Mutex<u64>,
    appended: Notify,
    /// Why the last append failed, if it did; and whether that is for good.
    trouble: Mutex<Option<(String, bool)>>,
}

/// A message and the queue it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The queue.
    pub queue: String,
    /// The message.
    pub message: Message,
}

impl Outbox {
    /// Opens the outbox in `store`, for at most `max` messages; what it held is still there. An entry that
    /// cannot be read is put aside, so that it holds up no other.
    ///
    /// # Errors
    /// sled's own.
    pub fn open(store: &sled::Db, max: usize, registry: &mut Registry) -> Result<Self, sled::Error> {
        let help = "Messages that wait to be confirmed by the broker";
        let outbox = Self {
            store: store.clone(),
            tree: store.open_tree("outbox")?,
            aside: store.open_tree("outbox_aside")?,
            max,
            waiting: watch::Sender::new(0),
            depth: gauge(registry, "outbox_depth", help),
            in_order: Mutex::new(()),
            written: AtomicU64::new(0),
            flushed: tokio::sync::Mutex::new(0),
            appended: Notify::new(),
            trouble: Mutex::new(None),
        };
        // From key to key: an iterator looks at each page once, and sled's cache, which drops nothing before it was
        // looked at some 16,000 times, would keep them all. With 100,000 messages that is 65 MB, and so it is 14.
        let mut next = outbox.tree.first()?;
        while let Some((key, value)) = next {
            next = outbox.tree.get_gt(&key)?;
            outbox.count(|waiting| waiting + 1);
            if let Err(why) = decode(&value) {
                outbox.put_aside(&key, &why)?;
            }
        }
        Ok(outbox)
    }

    /// Returns the number of messages that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Returns true if no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of messages that are parked, since they can never be published.
    #[must_use]
    pub fn put_aside_len(&self) -> usize {
        self.aside.len()
    }

    /// The number of waiting messages, to be watched.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    /// Waits until no message waits.
    pub async fn drained(&self) {
        let _ = self.waiting().wait_for(|waiting| *waiting == 0).await;
    }

    /// Checks that it accepts messages, for `/readyz`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self) -> Result<String, String> {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((trouble, true)) => Err(trouble.clone()),
            _ if self.len() >= self.max => Err(OutboxError::Full(self.len()).to_string()),
            _ => Ok(format!("{} waiting", self.len())),
        }
    }

    /// Appends a message for `queue`. `Ok` means: it is on disk.
    ///
    /// # Errors
    /// [`OutboxError`]; after [`OutboxError::Unwritable`] the message may be published all the same.
    pub async fn append(&self, queue: &str, message: &Message) -> Result<(), OutboxError> {
        message.validate(BODY_LIMIT)?;
        let value = encode(queue, message)?;
        let result = self.insert_and_flush(value).await;
        self.tell(result.as_ref().err());
        result
    }

    /// The messages that wait, oldest first.
    ///
    /// # Errors
    /// Each item: sled's own, or an entry that cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, String>> {
        self.after(None).map(|item| item.map(|(_, entry)| entry))
    }

    async fn insert_and_flush(&self, value: Vec<u8>) -> Result<(), OutboxError> {
        if !self.count_if(|waiting| waiting < self.max, |waiting| waiting + 1) {
            return Err(OutboxError::Full(self.len()));
        }
        self.insert(value).inspect_err(|_| self.count(|waiting| waiting.saturating_sub(1)))?;
        failpoint::reach("outbox-written");
        // The relay is woken even if the caller is dropped while it waits for the flush.
        let _wake = Wake(&self.appended);
        self.flush().await?;
        failpoint::reach("outbox-flushed");
        Ok(())
    }

    fn insert(&self, value: Vec<u8>) -> Result<(), sled::Error> {
        let _in_order = self.in_order.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.store.generate_id()?.to_be_bytes();
        self.tree.insert(key, value)?;
        Ok(())
    }

    /// Flushes once for all who have written by the time it begins: whoever gets the lock next finds
    /// that it is done already.
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

    fn put_aside(&self, key: &sled::IVec, why: &str) -> Result<(), sled::Error> {
        if let Some(value) = self.tree.get(key)? {
            self.aside.insert(key, value)?;
        }
        tracing::error!("a message in the outbox is put aside: {why}");
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

    /// Remembers how the last append went, and logs when that changes: not for each of a thousand requests.
    fn tell(&self, trouble: Option<&OutboxError>) {
        let mut before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = trouble.map(|error| (error.to_string(), matches!(error, OutboxError::Unwritable(_))));
        match (&*before, &trouble) {
            (None, None) => return,
            (Some((_, was_for_good)), Some((_, is_for_good))) if was_for_good == is_for_good => return,
            (_, Some((trouble, _))) => tracing::error!("{trouble}"),
            (Some(_), None) => tracing::info!("the outbox takes messages again"),
        }
        *before = trouble;
    }

    /// The messages after a key, each with its own.
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

/// A line of JSON with everything but the body, then the body as it is.
fn encode(queue: &str, message: &Message) -> Result<Vec<u8>, PublishError> {
    let mut value =
        serde_json::to_vec(&(queue, message)).map_err(|e| PublishError::Invalid(e.to_string()))?;
    value.push(b'\n');
    value.extend_from_slice(&message.body);
    Ok(value)
}

fn decode(value: &[u8]) -> Result<Entry, String> {
    let end = value.iter().position(|byte| *byte == b'\n').ok_or("its head has no end")?;
    let (queue, message): (String, Message) =
        serde_json::from_slice(&value[..end]).map_err(|e| e.to_string())?;
    let body = value[end + 1..].to_vec().into();
    Ok(Entry { queue, message: Message { body, ..message } })
}

#[cfg(test)]
mod tests;
