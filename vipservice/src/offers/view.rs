//! A view of all offers in memory, the same in every replica, since each reads the same stream.
//!
//! It is keyed by the offer's id; among entries with the same id the one with the lowest offset wins. It keeps the
//! newest offers; the stream keeps more.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use contracts::Kind;
use messaging::{Message, metrics::counter};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use streams::{Replay, StreamReader};

use super::{OFFER, OfferAnswer, OfferMade};

/// The view, filled by the stream's reader and read by the HTTP handlers.
///
/// A `RwLock`, since handlers only read; it is never held across an `.await`.
#[derive(Debug)]
pub struct View {
    state: RwLock<State>,
    max: usize,
    duplicates: Counter,
}

#[derive(Debug, Default)]
struct State {
    rows: Rows,
    caught_up: bool,
}

/// The offers in the view, with their indexes.
#[derive(Debug, Default)]
pub struct Rows {
    by_offset: BTreeMap<u64, Arc<OfferMade>>,
    by_id: HashMap<String, u64>,
    by_replica: BTreeMap<String, usize>,
    /// Whether older offers were dropped.
    has_dropped: bool,
}

impl View {
    /// Returns a view of the newest `max` offers.
    #[must_use]
    pub fn new(max: usize, registry: &mut Registry) -> Self {
        let help = "Entries of the stream whose offer exists already: duplicate deliveries";
        let duplicates = counter(registry, "offers_duplicates", help);
        Self { state: RwLock::default(), max, duplicates }
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
            Replay::Restarted => *state = State::default(),
            Replay::CaughtUp => {
                state.caught_up = true;
                tracing::info!(offers = state.rows.by_offset.len(), "the stream of offers is replayed");
            }
            Replay::Entry(offset, message) => match read_entry(&message) {
                Ok(offer) if state.rows.by_id.contains_key(&offer.id) => {
                    self.duplicates.inc();
                }
                Ok(offer) => state.rows.insert(offset, offer, self.max),
                // An entry of somebody else is ignored.
                Err(why) => tracing::warn!(offset, "an entry of the stream is not an offer: {why}"),
            },
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
        self.read(|rows| format!("{} in view", rows.by_offset.len())).ok_or_else(|| "replaying".into())
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

    /// Returns whether there is an offer with this id, or `None` if it may be one of those that were dropped.
    #[must_use]
    pub fn knows(&self, id: &str) -> Option<bool> {
        match self.by_id.contains_key(id) {
            false if self.has_dropped => None,
            known => Some(known),
        }
    }

    /// Returns how many offers each replica has made.
    #[must_use]
    pub fn by_replica(&self) -> BTreeMap<String, usize> {
        self.by_replica.clone()
    }

    fn insert(&mut self, offset: u64, offer: OfferMade, max: usize) {
        *self.by_replica.entry(offer.made_by.clone()).or_default() += 1;
        self.by_id.insert(offer.id.clone(), offset);
        self.by_offset.insert(offset, Arc::new(offer));
        while self.by_offset.len() > max
            && let Some((_, oldest)) = self.by_offset.pop_first()
        {
            self.has_dropped = true;
            self.by_id.remove(&oldest.id);
            if let Some(count) = self.by_replica.get_mut(&oldest.made_by) {
                *count -= 1;
            }
            self.by_replica.retain(|_, count| *count > 0);
        }
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
mod tests {
    use super::*;

    fn entry(offset: u64, id: &str, account: &str, replica: &str) -> Replay {
        let body = format!(
            r#"{{"id":"{id}","accountId":"{account}","text":"t","readAt":"2026-11-20T06:27:33.757Z",
            "madeAt":"2026-11-20T06:27:34Z","validUntil":"2026-11-27T06:27:33Z","requestId":"r-{id}",
            "madeBy":"{replica}","ofANewerVersion":true}}"#
        );
        Replay::Entry(offset, Message { body: body.into(), ..Message::default() })
    }

    fn view(max: usize, steps: impl IntoIterator<Item = Replay>) -> View {
        let view = View::new(max, &mut Registry::default());
        view.apply(Replay::Restarted);
        steps.into_iter().for_each(|step| view.apply(step));
        view
    }

    fn offsets(view: &View) -> Vec<u64> {
        view.read(|rows| rows.page(None, None, 1000)).unwrap().iter().map(|answer| answer.offset).collect()
    }

    #[test]
    fn nothing_is_answered_before_all_that_was_there_is_applied() {
        let view = view(10, [entry(0, "a", "1", "v.1")]);
        assert!(view.read(|_| ()).is_none());
        assert_eq!(view.check().unwrap_err(), "replaying");
        view.apply(Replay::CaughtUp);
        assert_eq!(offsets(&view), [0]);
    }

    #[test]
    fn of_several_entries_with_one_id_the_lowest_offset_wins() {
        let steps = [
            entry(0, "a", "1", "v.1"),
            entry(1, "a", "1", "v.2"),
            entry(2, "b", "1", "v.2"),
            Replay::CaughtUp,
        ];
        let view = view(10, steps);
        assert_eq!(offsets(&view), [0, 2]);
        assert_eq!(view.read(|rows| rows.find("a").unwrap().offer.made_by.clone()).unwrap(), "v.1");
        let counts = view.read(Rows::by_replica).unwrap();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("v.1".into(), 1), ("v.2".into(), 1)]);
        assert_eq!(view.duplicates.get(), 1);
    }

    #[test]
    fn the_newest_are_kept_in_every_index() {
        let steps =
            (0..5).map(|n| entry(n, &format!("id-{n}"), "1", &format!("v.{n}"))).chain([Replay::CaughtUp]);
        let view = view(2, steps);
        assert_eq!(offsets(&view), [3, 4]);
        assert!(view.read(|rows| rows.find("id-2")).unwrap().is_none());
        let known = |id: &str| view.read(|rows| rows.knows(id)).unwrap();
        assert_eq!((known("id-4"), known("id-2")), (Some(true), None), "nobody can say");
        assert_eq!(view.read(Rows::by_replica).unwrap().len(), 2);
    }

    #[test]
    fn a_page_goes_on_after_an_offset_and_can_be_of_one_account() {
        let steps =
            (0..6).map(|n| entry(n, &n.to_string(), &(n % 2).to_string(), "v.1")).chain([Replay::CaughtUp]);
        let view = view(10, steps);
        let page = |after, account, limit| {
            let page = view.read(|rows| rows.page(after, account, limit)).unwrap();
            page.iter().map(|answer| answer.offset).collect::<Vec<_>>()
        };
        assert_eq!(page(None, None, 2), [0, 1]);
        assert_eq!(page(Some(1), None, 2), [2, 3]);
        assert_eq!(page(Some(1), Some("0"), 9), [2, 4]);
        assert_eq!(page(Some(5), None, 9), [0_u64; 0]);
    }

    #[test]
    fn an_entry_that_is_not_an_offer_is_ignored_and_a_new_stream_replaces_the_view() {
        let strange = Replay::Entry(0, Message { body: "hello".into(), ..Message::default() });
        let Replay::Entry(_, newer) = entry(0, "z", "1", "v.1") else { unreachable!() };
        let newer = Replay::Entry(0, Message { kind: Some("offer.v2".into()), ..newer });
        let view = view(10, [strange, newer, entry(1, "a", "1", "v.1"), Replay::CaughtUp]);
        assert_eq!(offsets(&view), [1]);
        view.apply(Replay::Restarted);
        assert!(view.read(|_| ()).is_none());
        view.apply(entry(0, "b", "1", "v.1"));
        view.apply(Replay::CaughtUp);
        assert_eq!(offsets(&view), [0]);
    }
}
