//! A view of all offers in memory, the same in every replica, since each reads the same stream.
//!
//! It is keyed by the offer's id, and keeps the newest offers; the stream keeps more. An entry is a duplicate if one of
//! the `max` offsets before it has the same id. So the first of duplicates makes the row, and a view depends on a limited
//! part of the stream: whoever begins `max` offsets before the oldest row gets the same rows as all others.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use contracts::{Kind, topology::OFFERS};
use messaging::{Message, metrics::counter};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use streams::{Replay, ReplayOptions, StreamReader};

use super::{MAX_ENTRY, OFFER, OfferAnswer, OfferMade};

/// The view, filled by the stream's reader and read by the HTTP handlers.
///
/// A `RwLock`, since handlers only read; it is never held across an `.await`.
#[derive(Debug)]
pub struct View {
    state: RwLock<State>,
    entries: AtomicU64,
    max: usize,
    duplicates: Counter,
    behind: Gauge,
}

#[derive(Debug, Default)]
struct State {
    rows: Rows,
    caught_up: bool,
    /// Offsets of the entry that was read last, and of the last one when reading began.
    read: Option<u64>,
    end: Option<u64>,
    /// Duplicates that were read before it was caught up.
    duplicates: u64,
}

/// The offers in the view, with their indexes.
#[derive(Debug, Default)]
pub struct Rows {
    by_offset: BTreeMap<u64, Arc<OfferMade>>,
    by_id: HashMap<String, u64>,
    by_replica: BTreeMap<String, usize>,
    /// Entries of the last `max` offsets, oldest first, and the newest of them with each id.
    recent: VecDeque<(u64, Arc<str>)>,
    recent_by_id: HashMap<Arc<str>, u64>,
    /// True if there are older offers, which were dropped or not read.
    is_partial: bool,
}

impl View {
    /// Returns a view of the newest `max` offers.
    #[must_use]
    pub fn new(max: usize, registry: &mut Registry) -> Self {
        let help = "Entries of the stream whose offer exists already: duplicate deliveries";
        let duplicates = counter(registry, "offers_duplicates", help);
        let behind = streams::behind(registry, OFFERS);
        Self { state: RwLock::default(), entries: AtomicU64::default(), max, duplicates, behind }
    }

    /// Returns the options for [`streams::replay`]: it reads as much of the stream as the rows depend on.
    #[must_use]
    pub fn replay_options(self: &Arc<Self>) -> ReplayOptions {
        let (view, max) = (Arc::clone(self), self.max as u64);
        let is_enough = Box::new(move |start: u64| {
            let state = view.state.read().unwrap_or_else(PoisonError::into_inner);
            let oldest = state.rows.by_offset.keys().next();
            state.rows.by_offset.len() >= view.max && oldest.is_some_and(|oldest| oldest - start >= max)
        });
        // `max` for the rows, `max` before them, and a quarter for entries that make no row.
        let (length, behind) = (2 * max + max / 4, self.behind.clone());
        ReplayOptions { length, is_enough, max_body: MAX_ENTRY, after: None, behind }
    }

    /// Returns the reader for [`streams::replay`].
    pub fn reader(self: &Arc<Self>) -> StreamReader {
        let view = Arc::clone(self);
        Box::new(move |step| view.apply(step))
    }

    /// Applies a step of the replay.
    pub fn apply(&self, step: Replay) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match step {
            Replay::Restarted { end } => *state = State { end, ..State::default() },
            Replay::CaughtUp => {
                state.caught_up = true;
                self.duplicates.inc_by(state.duplicates);
                tracing::info!(offers = state.rows.by_offset.len(), "the stream of offers is replayed");
                tracing::debug!(entries = self.entries.load(Ordering::Relaxed), "entries were read for that");
            }
            Replay::TooLarge(..) => {}
            Replay::Entry(offset, message) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                if state.read.replace(offset).is_none() {
                    state.rows.is_partial = offset > 0;
                }
                match read_entry(&message).map(|offer| state.rows.insert(offset, offer, self.max)) {
                    Ok(true) => {}
                    Ok(false) if state.caught_up => drop(self.duplicates.inc()),
                    Ok(false) => state.duplicates += 1,
                    // An entry of somebody else is ignored.
                    Err(why) => tracing::warn!(offset, "an entry of the stream is not an offer: {why}"),
                }
            }
        }
    }

    /// Reads from the offers; returns `None` until all entries that were in the stream at the start are applied.
    pub fn read<T>(&self, query: impl FnOnce(&Rows) -> T) -> Option<T> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.caught_up.then(|| query(&state.rows))
    }

    /// Checks that it can be read, for `/readyz`.
    ///
    /// # Errors
    /// It is still being filled.
    pub fn check(&self) -> Result<String, String> {
        self.read(|rows| format!("{} in view", rows.by_offset.len())).ok_or_else(|| {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            match (state.read, state.end) {
                (Some(read), Some(end)) => format!("replaying: at offset {read} of {end}"),
                _ => "replaying".into(),
            }
        })
    }

    /// Returns the number of entries that were read; `None` once it can be read.
    #[must_use]
    pub fn progress(&self) -> Option<u64> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (!state.caught_up).then(|| self.entries.load(Ordering::Relaxed))
    }
}

impl Rows {
    /// Returns at most `limit` offers after an offset, of one account or of all, oldest first.
    #[must_use]
    pub fn page(&self, after: Option<u64>, account: Option<&str>, limit: usize) -> Vec<OfferAnswer> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.by_offset.range((from, Bound::Unbounded));
        let wanted = rows.filter(|(_, offer)| account.is_none_or(|id| offer.account_id == id));
        wanted.take(limit).map(|(offset, offer)| answer(*offset, offer)).collect()
    }

    /// Returns the offer with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<OfferAnswer> {
        let offset = *self.by_id.get(id)?;
        self.by_offset.get(&offset).map(|offer| answer(offset, offer))
    }

    /// Returns whether there is an offer with this id, or `None` if it may be one of the older offers.
    #[must_use]
    pub fn knows(&self, id: &str) -> Option<bool> {
        match self.by_id.contains_key(id) {
            false if self.is_partial => None,
            known => Some(known),
        }
    }

    /// Returns how many offers each replica has made.
    #[must_use]
    pub fn by_replica(&self) -> BTreeMap<String, usize> {
        self.by_replica.clone()
    }

    /// Adds an offer, unless it is a duplicate: then it returns `false`.
    fn insert(&mut self, offset: u64, offer: OfferMade, max: usize) -> bool {
        while let Some((oldest, _)) = self.recent.front()
            && offset - oldest > max as u64
            && let Some((oldest, id)) = self.recent.pop_front()
        {
            if self.recent_by_id.get(&id) == Some(&oldest) {
                self.recent_by_id.remove(&id);
            }
        }
        let id: Arc<str> = offer.id.as_str().into();
        self.recent.push_back((offset, Arc::clone(&id)));
        if self.recent_by_id.insert(id, offset).is_some() {
            return false;
        }
        // A duplicate that comes later than that takes the place of its first row.
        if let Some(first) = self.by_id.get(&offer.id).copied() {
            self.remove(first);
        }
        *self.by_replica.entry(offer.made_by.clone()).or_default() += 1;
        self.by_id.insert(offer.id.clone(), offset);
        self.by_offset.insert(offset, Arc::new(offer));
        while self.by_offset.len() > max
            && let Some((oldest, _)) = self.by_offset.first_key_value()
        {
            self.is_partial = true;
            self.remove(*oldest);
        }
        true
    }

    fn remove(&mut self, offset: u64) {
        let Some(offer) = self.by_offset.remove(&offset) else { return };
        self.by_id.remove(&offer.id);
        if let Some(count) = self.by_replica.get_mut(&offer.made_by) {
            *count -= 1;
        }
        self.by_replica.retain(|_, count| *count > 0);
    }
}

fn answer(offset: u64, offer: &Arc<OfferMade>) -> OfferAnswer {
    OfferAnswer { offset, offer: Arc::clone(offer) }
}

fn read_entry(message: &Message) -> Result<OfferMade, String> {
    match message.kind.as_deref() {
        Some(kind) if Kind::of(kind, OFFER) != Kind::Ours => Err(format!("its type is {kind}")),
        _ => serde_json::from_slice(&message.body).map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests;
