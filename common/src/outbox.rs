//! Hop 5, outbox: messages on disk until the broker has confirmed them.
//!
//! What is appended here is not lost when the process dies, the broker is away, or both: the relay
//! publishes it, with the same id each time, until it is confirmed, and only then removes it
//! (<https://microservices.io/patterns/data/transactional-outbox.html>).
//! It does not keep an order, and it does not survive a power loss: sled's flush hands the data to the
//! kernel and does not wait for the disk.

use std::{
    ops::Bound,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use tokio::sync::{Notify, watch};
use tracing::Instrument as _;

use crate::{
    backoff::Backoff,
    messaging::{Message, MessagingClient, PublishError},
};

/// How many messages the relay has on their way: two full batches of the publisher.
const WINDOW: usize = 1000;
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
    max: usize,
    /// Held from taking a key to using it, so that an entry never appears behind the relay's back.
    in_order: Mutex<()>,
    /// Our own count: sled's `len` reads everything.
    len: AtomicUsize,
    empty: watch::Sender<bool>,
    written: AtomicU64,
    flushed: tokio::sync::Mutex<u64>,
    appended: Notify,
    trouble: Mutex<Option<String>>,
    depth: Gauge,
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
    /// Opens the outbox in `store`, for at most `max` messages; what it held is still there.
    ///
    /// # Errors
    /// sled's own.
    pub fn open(store: &sled::Db, max: usize) -> Result<Self, sled::Error> {
        let tree = store.open_tree("outbox")?;
        let len = tree.iter().keys().try_fold(0, |n, key| key.map(|_| n + 1))?;
        let depth = Gauge::default();
        depth.set(i64::try_from(len).unwrap_or(i64::MAX));
        Ok(Self {
            store: store.clone(),
            tree,
            max,
            in_order: Mutex::new(()),
            len: AtomicUsize::new(len),
            empty: watch::Sender::new(len == 0),
            written: AtomicU64::new(0),
            flushed: tokio::sync::Mutex::new(0),
            appended: Notify::new(),
            trouble: Mutex::new(None),
            depth,
        })
    }

    /// Shows the number of waiting messages in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "outbox_depth",
            "Messages that wait to be confirmed by the broker",
            self.depth.clone(),
        );
    }

    /// How many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until no message waits.
    pub async fn drained(&self) {
        let _ = self.empty.subscribe().wait_for(|empty| *empty).await;
    }

    /// Whether it takes messages, for `/readyz`.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self) -> Result<String, String> {
        if let Some(trouble) = &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(trouble.clone());
        }
        match self.len() {
            full if full >= self.max => Err(OutboxError::Full(full).to_string()),
            waiting => Ok(format!("{waiting} waiting")),
        }
    }

    /// Appends a message for `queue`. Ready means: it is on disk.
    ///
    /// # Errors
    /// [`OutboxError`]; after [`OutboxError::Unwritable`] the message may be published all the same.
    pub async fn append(&self, queue: &str, message: &Message) -> Result<(), OutboxError> {
        message.validate(BODY_LIMIT)?;
        let value = encode(queue, message)?;
        let room = |len| (len < self.max).then_some(len + 1);
        self.len.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).map_err(OutboxError::Full)?;
        let written = self.insert(value).inspect_err(|_| self.count_down(1));
        // Even if the caller goes away in the middle of the flush.
        let _wake = Wake(&self.appended);
        let result = match written {
            Ok(()) => self.flush().await,
            Err(error) => Err(error),
        };
        let result = result.map_err(OutboxError::Unwritable);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) =
            result.as_ref().err().map(ToString::to_string);
        result
    }

    /// The messages that wait, oldest first; one that cannot be read says why.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, String>> {
        self.after(None).map(|(_, entry)| entry)
    }

    fn insert(&self, value: Vec<u8>) -> Result<(), sled::Error> {
        let _in_order = self.in_order.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.store.generate_id()?.to_be_bytes();
        self.tree.insert(key, value)?;
        self.depth.inc();
        self.empty.send_replace(false);
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
        self.depth.dec_by(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        self.count_down(keys.len());
        Ok(())
    }

    fn count_down(&self, n: usize) {
        let before = self.len.fetch_sub(n, Ordering::SeqCst);
        self.empty.send_if_modified(|empty| {
            let changed = before == n && !*empty && self.is_empty();
            *empty |= changed;
            changed
        });
    }

    /// The messages after a key, each with its own; what cannot be read says why.
    fn after(&self, key: Option<sled::IVec>) -> impl Iterator<Item = (sled::IVec, Result<Entry, String>)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        // sled's own errors end it: they come again, and louder, with the next write.
        let items = self.tree.range((from, Bound::Unbounded)).map_while(Result::ok);
        items.map(|(key, value)| (key, decode(&value)))
    }
}

/// Wakes the relay when it is dropped.
struct Wake<'a>(&'a Notify);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Publishes what is in the outbox and removes what is confirmed, until it is dropped. A message that
/// is not confirmed stays, and is published again after a back-off, with the same id.
pub async fn relay(outbox: &Outbox, client: &dyn MessagingClient) {
    let mut backoff = Backoff::default();
    let mut newest = None;
    loop {
        let setback = pass(outbox, client, &mut newest).await;
        tracing::warn!("{} messages wait in the outbox: {}", outbox.len(), setback.why);
        if setback.confirmed > 0 {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// How a pass ended.
struct Setback {
    confirmed: usize,
    why: String,
}

/// Publishes from the oldest message on, and those that are appended meanwhile, until one fails; then waits
/// for those on their way. `newest` is the newest message that was ever sent.
async fn pass(outbox: &Outbox, client: &dyn MessagingClient, newest: &mut Option<sled::IVec>) -> Setback {
    let mut sent_up_to: Option<sled::IVec> = None;
    let mut on_their_way = FuturesUnordered::new();
    let (mut confirmed, mut failure) = (0, None);
    loop {
        let room = if failure.is_none() { WINDOW - on_their_way.len() } else { 0 };
        for (key, entry) in outbox.after(sent_up_to.clone()).take(room) {
            let is_new = newest.as_ref() < Some(&key);
            sent_up_to = Some(key.clone());
            match entry {
                Ok(entry) => on_their_way.push(async move { (key, send(client, entry, is_new).await) }),
                // It stays where it is, for a person; the others must not wait for it.
                Err(why) if is_new => tracing::error!("a message in the outbox cannot be read: {why}"),
                Err(_) => {}
            }
        }
        *newest = newest.take().max(sent_up_to.clone());
        tokio::select! {
            Some(first) = on_their_way.next() => {
                let more = std::iter::from_fn(|| on_their_way.next().now_or_never().flatten());
                let mut done = Vec::new();
                for (key, result) in std::iter::once(first).chain(more) {
                    match result {
                        Ok(()) => done.push(key),
                        Err(error) => failure = Some(error.to_string()),
                    }
                }
                match outbox.remove(&done) {
                    Ok(()) => confirmed += done.len(),
                    Err(error) => failure = Some(error.to_string()),
                }
            }
            () = outbox.appended.notified(), if failure.is_none() && on_their_way.len() < WINDOW => {}
            else => {}
        }
        if on_their_way.is_empty()
            && let Some(why) = failure
        {
            return Setback { confirmed, why };
        }
    }
}

/// Publishes one message; its line is logged the first time.
async fn send(client: &dyn MessagingClient, entry: Entry, is_new: bool) -> Result<(), PublishError> {
    let Entry { queue, message } = entry;
    let context = message.context();
    let span = tracing::info_span!("relay", request = %context.request_id, trace = %context.trace.trace_id());
    if is_new {
        let _in_span = span.enter();
        let id = message.shown_id();
        tracing::info!(hop = 5, name = "outbox", message.id = id, "the relay publishes {id} to {queue}");
    }
    client.publish_on_queue(&queue, message).instrument(span).await
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
