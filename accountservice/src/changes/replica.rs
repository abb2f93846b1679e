//! A replica: it applies the stream of changes to the store, and tells who waits for a change what became of it.
//!
//! It applies all entries that have arrived in one transaction. Events of the changes that it took itself are in the outbox before
//! that, so a kill in between repeats them, and loses none.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use backoff::Backoff;
use contracts::{RequestContext, topology::ACCOUNT_CHANGES};
use messaging::{Message, metrics::counter};
use outbox::Outbox;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use streams::Replay;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    batch::{Applied, Batch, OUTCOMES_KEPT},
    events,
    rule::{Change, Entry, Outcome, Verdict},
};
use crate::store::{SledAccountStore, StoreError, replicated::Position};

/// Bytes of properties that are counted for each entry; its own are about as many.
const PROPERTIES: u64 = 512;

/// The state of a replica.
#[derive(Debug)]
pub struct Replica {
    store: Arc<SledAccountStore>,
    outbox: Arc<Outbox>,
    name: Arc<str>,
    /// Written by the reader of the stream only.
    reading: Mutex<Reading>,
    progress: watch::Sender<Progress>,
    waiting: Mutex<HashMap<String, Vec<oneshot::Sender<Outcome>>>>,
    /// Why the last batch could not be stored.
    error: Mutex<Option<String>>,
    store_failed: CancellationToken,
    applied: Counter,
    rejected: Counter,
    skipped: Counter,
    behind: Gauge,
}

/// What the reader of the stream keeps in memory.
#[derive(Debug)]
struct Reading {
    /// The position that is stored; only its `began` and what names the stream change before they are.
    position: Position,
    /// Offset and id of each outcome in the store.
    outcomes: BTreeSet<(u64, String)>,
    /// Name of the stream that was read before reading began again.
    before: Option<String>,
    /// Whether changes are published as events: not those of a stream that is read from its beginning, which were published before.
    publishes: bool,
    has_logged_skipped: bool,
}

/// How far the stream is applied, for those who wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Position that is stored.
    pub position: Position,
    /// Offset of the last entry when reading began.
    pub end: Option<u64>,
    /// Whether all entries that were there when reading began are applied.
    pub is_caught_up: bool,
}

impl Replica {
    /// Returns the replica of a store; `name` is that of the instance.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(
        store: Arc<SledAccountStore>,
        outbox: Arc<Outbox>,
        name: &str,
        registry: &mut Registry,
    ) -> Result<Self, StoreError> {
        let (position, outcomes) = (store.replicated().position()?, store.replicated().outcomes()?);
        let progress = Progress { position: position.clone(), ..Progress::default() };
        Ok(Self {
            store,
            outbox,
            name: name.into(),
            reading: Mutex::new(Reading {
                position,
                outcomes,
                before: None,
                publishes: true,
                has_logged_skipped: false,
            }),
            progress: watch::Sender::new(progress),
            waiting: Mutex::default(),
            error: Mutex::default(),
            store_failed: CancellationToken::new(),
            applied: counter(registry, "account_changes_applied", "Changes to accounts that count"),
            rejected: counter(
                registry,
                "account_changes_rejected",
                "Changes that do not count, since another one came first",
            ),
            skipped: counter(
                registry,
                "account_changes_skipped",
                "Entries of the stream that are no changes to accounts",
            ),
            behind: streams::behind(registry, ACCOUNT_CHANGES),
        })
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &SledAccountStore {
        &self.store
    }

    /// Returns what is cancelled when the store takes nothing more in this process: sled does not recover from a failure of its disk.
    #[must_use]
    pub fn store_failed(&self) -> &CancellationToken {
        &self.store_failed
    }

    /// Returns the name of this instance.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of accounts, deleted ones included.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.progress.borrow().position.accounts
    }

    /// Returns a watch on how far the stream is applied.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Returns the gauge of the entries that are not applied, for the reader of the stream.
    #[must_use]
    pub fn behind(&self) -> Gauge {
        self.behind.clone()
    }

    /// Returns what will become of the change with this id, once it is applied here.
    pub fn wait_for(&self, change_id: &str) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else removes those who have stopped waiting.
        waiting.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting.entry(change_id.to_owned()).or_default().push(sender);
        receiver
    }

    /// Returns what has become of the change with this id; `None` if it is not applied here, or was forgotten.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn outcome(&self, change_id: &str) -> Result<Option<Outcome>, StoreError> {
        self.store.replicated().outcome(change_id)
    }

    /// Checks that all accounts are here, for `/readyz`; `is_reading` is whether the broker delivers the stream.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn check(&self, is_reading: bool) -> Result<String, String> {
        if let Some(why) = &*self.error.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("the changes to accounts cannot be stored: {why}"));
        }
        let progress = self.progress.borrow();
        let last = progress.position.last.as_ref();
        let at = last.map_or_else(|| "the beginning".into(), |(offset, _)| format!("offset {offset}"));
        if !self.store.is_read() {
            let read_from = "reads are answered from the first accounts";
            return Err(format!("{ACCOUNT_CHANGES} was never read to its end: {read_from}"));
        }
        match (is_reading, progress.is_caught_up, progress.end) {
            (true, true, _) => Ok(format!("{ACCOUNT_CHANGES} is applied up to {at}")),
            (true, false, Some(end)) => Err(format!(
                "replaying {ACCOUNT_CHANGES}: {at} of {end}; reads are answered from the accounts as they were there"
            )),
            _ => Err(format!(
                "{ACCOUNT_CHANGES} cannot be read at the moment: reads are answered from the accounts as of {at}"
            )),
        }
    }

    /// Returns the number of entries that were applied; `None` once all are.
    #[must_use]
    pub fn entries_so_far(&self) -> Option<u64> {
        let progress = self.progress.borrow();
        let at = progress.position.last.as_ref().map_or(0, |(offset, _)| *offset);
        (!progress.is_caught_up && progress.end.is_some()).then_some(at)
    }

    /// Applies steps of the replay, those that follow each other in one transaction. It returns when they are stored.
    pub async fn apply(&self, steps: Vec<Replay>) {
        let mut entries = vec![];
        for step in steps {
            match step {
                Replay::Entry(offset, message) => entries.push((offset, message.body.len(), Some(message))),
                Replay::TooLarge(offset, size) => entries.push((offset, size, None)),
                Replay::Restarted { end } => {
                    self.store_entries(mem::take(&mut entries)).await;
                    let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
                    let name = reading.position.stream.take();
                    reading.before = name.or_else(|| reading.before.take());
                    reading.publishes = false;
                    reading.position.last = None;
                    reading.position.began = reading.position.bytes;
                    let position = reading.position.clone();
                    self.progress.send_replace(Progress { position, end, is_caught_up: false });
                }
                Replay::CaughtUp => {
                    self.store_entries(mem::take(&mut entries)).await;
                    self.reading.lock().unwrap_or_else(PoisonError::into_inner).publishes = true;
                    self.progress.send_modify(|progress| progress.is_caught_up = true);
                    let offset = self.progress.borrow().position.last.as_ref().map(|(offset, _)| *offset);
                    tracing::info!(
                        change.step = "caught-up",
                        change.offset = offset,
                        "all changes to accounts are applied"
                    );
                }
            }
        }
        self.store_entries(entries).await;
    }

    /// Notes that the first accounts are in the stream, and answers reads from what it has made of them.
    pub async fn set_read(&self) {
        self.store.set_read();
        self.commit(&Batch::default(), &[], Position::with_first_accounts).await;
    }

    async fn store_entries(&self, entries: Vec<(u64, usize, Option<Message>)>) {
        if entries.is_empty() {
            return;
        }
        self.forget_another_stream(&entries).await;
        let mut backoff = Backoff::default();
        let (batch, position) = loop {
            match self.read_entries(&entries) {
                Ok(read) => break read,
                Err(error) => self.report_store(&error),
            }
            backoff.wait().await;
        };
        let events = self.events(&batch, &entries);
        let mut backoff = Backoff::default();
        while !events.is_empty() {
            match self.outbox.append_beyond_limit(&events).await {
                Ok(()) => {
                    failpoint::reach("event-in-outbox");
                    break;
                }
                Err(error) => self.report(&error.to_string()),
            }
            backoff.wait().await;
        }
        let forgotten = self.forget(&batch, &position);
        self.commit(&batch, &forgotten, |stored| position.clone().on(stored)).await;
        self.applied.inc_by(batch.applied.len() as u64);
        self.rejected.inc_by(batch.rejected);
        self.log_outcomes(&batch, &entries);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, outcome) in batch.outcomes {
            for sender in waiting.remove(&id).into_iter().flatten() {
                // Nobody may wait any more.
                let _ = sender.send(outcome.clone());
            }
        }
    }

    /// Logs what has become of each change that somebody asked for, unless the stream is read from its beginning.
    fn log_outcomes(&self, batch: &Batch, entries: &[(u64, usize, Option<Message>)]) {
        if !self.reading.lock().unwrap_or_else(PoisonError::into_inner).publishes {
            return;
        }
        for (offset, _, message) in entries {
            let Some(message) = message else { continue };
            let outcome = message.id.as_ref().and_then(|id| batch.outcomes.get_key_value(id));
            let is_here = |outcome: &Outcome| outcome.offset == *offset && !outcome.request.is_empty();
            let Some((id, Outcome { account_id, verdict, .. })) = outcome.filter(|(_, it)| is_here(it))
            else {
                continue;
            };
            let (step, version, effect) = match verdict {
                Verdict::Applied(version) => ("applied", version, "now has"),
                Verdict::Rejected(version) => ("rejected", version, "already has"),
            };
            let context = RequestContext::of(message);
            tracing::info!(
                request = context.request_id.as_str(),
                trace = context.trace.id(),
                account.id = %account_id,
                change.id = id,
                change.step = step,
                change.offset = offset,
                change.version = version,
                "entry {offset} is {step}: account {account_id} {effect} version {version}"
            );
        }
    }

    /// Removes the outcomes of the stream before, if these entries are in another one: their offsets mean nothing in it.
    async fn forget_another_stream(&self, entries: &[(u64, usize, Option<Message>)]) {
        let outcomes = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            let messages = entries.iter().filter_map(|(.., message)| message.as_ref());
            let Some(entry) = messages.filter_map(|message| Entry::read(message).ok()).next() else { return };
            let Some(before) = reading.before.take() else { return };
            if before == entry.stream() {
                return;
            }
            tracing::warn!(
                "{ACCOUNT_CHANGES} is another stream than before: all accounts are appended to it"
            );
            mem::take(&mut reading.outcomes)
        };
        let forgotten: Vec<_> = outcomes.into_iter().map(|(_, id)| id).collect();
        self.commit(&Batch::default(), &forgotten, Position::clone).await;
    }

    /// Makes a batch of entries; returns it with the position behind them.
    fn read_entries(
        &self,
        entries: &[(u64, usize, Option<Message>)],
    ) -> Result<(Batch, Position), StoreError> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, mut position, mut skipped) = (Batch::default(), reading.position.clone(), vec![]);
        for (offset, size, message) in entries {
            position.bytes += *size as u64 + PROPERTIES;
            position.last = Some((*offset, message.as_ref().and_then(|message| message.id.clone())));
            let entry = message.as_ref().map_or_else(|| Err("it is too large".to_owned()), Entry::read);
            match entry {
                Ok(entry) => {
                    position.stream.get_or_insert_with(|| entry.stream().to_owned());
                    batch.apply(self.store.replicated(), entry, *offset, position.bytes)?;
                }
                Err(why) => skipped.push((offset, why)),
            }
        }
        self.skipped.inc_by(skipped.len() as u64);
        if let Some((offset, why)) = skipped.first()
            && !mem::replace(&mut reading.has_logged_skipped, true)
        {
            tracing::warn!(
                offset,
                "entry {offset} of {ACCOUNT_CHANGES} is skipped, since it is no change to an account: {why}; the metric \
                 account_changes_skipped counts further ones"
            );
        }
        Ok((batch, position))
    }

    /// Returns the events of the changes that this replica has taken.
    fn events(&self, batch: &Batch, entries: &[(u64, usize, Option<Message>)]) -> Vec<outbox::Entry> {
        if !self.reading.lock().unwrap_or_else(PoisonError::into_inner).publishes {
            return vec![];
        }
        // The first accounts, which nobody has asked for, are no news.
        let is_own = |change: &Change| change.by == *self.name && !change.request.is_empty();
        let own = batch.applied.iter().filter(|applied| is_own(&applied.change));
        let event = |applied: &Applied| {
            let (.., message) = entries.iter().find(|(offset, ..)| *offset == applied.offset)?;
            let event = events::event(applied, &RequestContext::of(message.as_ref()?));
            event
                .inspect_err(|error| {
                    tracing::error!("no event of change {}: {error}", applied.change.change_id)
                })
                .ok()
        };
        own.filter_map(event).collect()
    }

    /// Returns the ids of the changes that are too old to be asked for at this position, and remembers the outcomes of a batch.
    fn forget(&self, batch: &Batch, position: &Position) -> Vec<String> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, outcome) in &batch.outcomes {
            if let Ok(Some(old)) = self.store.replicated().outcome(id) {
                reading.outcomes.remove(&(old.offset, id.clone()));
            }
            reading.outcomes.insert((outcome.offset, id.clone()));
        }
        let last = position.last.as_ref().map_or(0, |(offset, _)| *offset);
        let mut forgotten = vec![];
        while let Some((offset, _)) = reading.outcomes.first()
            && offset + OUTCOMES_KEPT <= last
            && let Some((_, id)) = reading.outcomes.pop_first()
        {
            forgotten.push(id);
        }
        forgotten
    }

    /// Stores a batch with the position that follows the stored one, again and again until the store takes it.
    async fn commit(&self, batch: &Batch, forgotten: &[String], next: impl Fn(&Position) -> Position) {
        let mut backoff = Backoff::default();
        loop {
            let committed = {
                let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
                let position = next(&reading.position);
                let committed =
                    self.store.replicated().commit(&batch.rows, &batch.outcomes, forgotten, &position);
                committed.map(|position| {
                    reading.position = position.clone();
                    self.progress.send_modify(|progress| progress.position = position);
                })
            };
            match committed {
                Ok(()) => break,
                Err(error) => self.report_store(&error),
            }
            backoff.wait().await;
        }
        if self.error.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            tracing::info!("the changes to accounts can be stored again");
        }
    }

    fn report_store(&self, error: &StoreError) {
        if !matches!(error, StoreError::Sled(_)) {
            return self.report(&error.to_string());
        }
        self.store_failed.cancel();
        self.report(&format!(
            "{error}; make room on this disk, or mend it: then this service ends, to be started again; until then reads are answered \
             from the accounts as they are here"
        ));
    }

    fn report(&self, why: &str) {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).replace(why.to_owned());
        if error.as_deref() != Some(why) {
            tracing::error!("the changes to accounts cannot be stored: {why}");
        }
    }
}
