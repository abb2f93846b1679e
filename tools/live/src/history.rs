//! The recent events, and those of the messages that are still on their way.
//!
//! A page that is opened late needs the events of each message that is not finished, however long ago they happened, and
//! the last state of everything else. So an event that leaves the ring stays if it is one of those.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::event::Event;

/// Number of recent events; at 500 reads/s that is one second, and a viewer that is further behind skips.
const RING: usize = 5_000;

/// Most messages on their way whose events are kept; the oldest are forgotten first.
const MAX_UNFINISHED: usize = 5_000;

/// Most finished messages that are remembered, so that a hop that is logged late does not bring one back.
const MAX_FINISHED: usize = 5_000;

/// Most events of one message. Those in the middle are forgotten first: its start tells where it comes from.
const MAX_PER_MESSAGE: usize = 32;
const FIRST_PER_MESSAGE: usize = 8;

/// Most states that are kept, far more than a system has tasks and queues.
const MAX_STATES: usize = 1_000;

/// Event as it is sent.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Number of the event, from 1.
    pub seq: u64,
    /// Time of the event.
    pub at: Timestamp,
    /// Id of the message that it is about.
    pub message: Option<Arc<str>>,
    /// Id of the request that it belongs to.
    pub request: Option<Arc<str>>,
    /// Event as one JSON object.
    pub json: Arc<str>,
}

/// Continuation for a viewer that has seen the events up to a number.
#[derive(Debug)]
pub enum Next {
    /// The events that follow.
    Events(Vec<Entry>),
    /// The viewer begins anew, since the next events are gone from the ring: this many.
    Skipped(u64),
}

/// Events for all viewers.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    latest: u64,
    ring: VecDeque<Entry>,
    /// Events of the messages on their way, by the number of the first.
    unfinished: BTreeMap<u64, Vec<Entry>>,
    first_of: HashMap<Arc<str>, u64>,
    /// The last events of finished messages, and their order.
    finished: HashMap<Arc<str>, Entry>,
    finished_order: VecDeque<Arc<str>>,
    states: HashMap<String, Entry>,
}

impl Default for History {
    fn default() -> Self {
        Self { kept: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl History {
    /// Appends events, and wakes up the viewers.
    pub fn append(&self, events: Vec<(Timestamp, Event)>) {
        if events.is_empty() {
            return;
        }
        let latest = self.with(|kept| {
            events.into_iter().for_each(|(at, event)| kept.append(at, &event));
            kept.latest
        });
        self.latest.send_replace(latest);
    }

    /// Returns a receiver of the number of the latest event.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Returns the number of the latest event, and all events that a new viewer needs, in the order of their times.
    #[must_use]
    pub fn snapshot(&self) -> (u64, Vec<Entry>) {
        self.with(|kept| (kept.latest, kept.snapshot()))
    }

    /// Returns at most `limit` events after a number.
    #[must_use]
    pub fn after(&self, seq: u64, limit: usize) -> Next {
        self.with(|kept| {
            let oldest = kept.latest + 1 - kept.ring.len() as u64;
            if seq > kept.latest {
                // Of an earlier server, whose numbers say nothing here.
                return Next::Skipped(0);
            }
            match oldest.saturating_sub(seq + 1) {
                0 => {
                    let seen = usize::try_from(seq + 1 - oldest).unwrap_or(usize::MAX);
                    Next::Events(kept.ring.iter().skip(seen).take(limit).cloned().collect())
                }
                skipped => Next::Skipped(skipped),
            }
        })
    }

    /// Returns the known events of a message, in the order of their times.
    #[must_use]
    pub fn of_message(&self, id: &str) -> Vec<Entry> {
        let mut events = self.with(|kept| kept.snapshot());
        events.retain(|entry| entry.message.as_deref() == Some(id));
        events
    }

    fn with<T>(&self, access: impl FnOnce(&mut Kept) -> T) -> T {
        access(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn append(&mut self, at: Timestamp, event: &Event) {
        self.latest += 1;
        let entry = Entry {
            seq: self.latest,
            at,
            message: event.message().map(Arc::from),
            request: event.request().map(Arc::from),
            json: event.to_json(self.latest, at),
        };
        if let Some(id) = &entry.message {
            self.keep(id, &entry, event.is_final());
        }
        if let Some(key) = event.state_key() {
            if event.is_gone() {
                self.states.remove(&key);
            } else if self.states.len() < MAX_STATES || self.states.contains_key(&key) {
                self.states.insert(key, entry.clone());
            }
        }
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(entry);
    }

    /// Keeps the event of a message for as long as the message is on its way.
    fn keep(&mut self, id: &Arc<str>, entry: &Entry, is_final: bool) {
        if self.finished.contains_key(id) {
            return;
        }
        if is_final {
            if let Some(first) = self.first_of.remove(id) {
                self.unfinished.remove(&first);
            }
            if self.finished.len() == MAX_FINISHED
                && let Some(oldest) = self.finished_order.pop_front()
            {
                self.finished.remove(&oldest);
            }
            self.finished.insert(id.clone(), entry.clone());
            self.finished_order.push_back(id.clone());
            return;
        }
        let first = *self.first_of.entry(id.clone()).or_insert(entry.seq);
        let events = self.unfinished.entry(first).or_default();
        if events.len() == MAX_PER_MESSAGE {
            events.remove(FIRST_PER_MESSAGE);
        }
        events.push(entry.clone());
        if self.unfinished.len() > MAX_UNFINISHED
            && let Some((_, events)) = self.unfinished.pop_first()
        {
            events.first().and_then(|entry| entry.message.as_ref()).map(|id| self.first_of.remove(id));
        }
    }

    fn snapshot(&self) -> Vec<Entry> {
        let oldest = self.ring.front().map_or(u64::MAX, |entry| entry.seq);
        let ids = self.ring.iter().filter_map(|entry| entry.message.as_ref());
        // Without its end, a late hop of a finished message would look like a message on its way.
        let mut ends: Vec<_> = ids.filter_map(|id| self.finished.get(id)).collect();
        ends.sort_by_key(|entry| entry.seq);
        ends.dedup_by_key(|entry| entry.seq);
        let kept = self.unfinished.values().flatten().chain(self.states.values()).chain(ends);
        let mut events: Vec<_> = kept.filter(|entry| entry.seq < oldest).cloned().collect();
        events.extend(self.ring.iter().cloned());
        events.sort_by_key(|entry| (entry.at, entry.seq));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Queue, Task};

    fn hop(hop: u64, id: &str) -> Event {
        Event::Hop {
            hop,
            name: String::new(),
            task: "t.1".into(),
            request: Some(format!("r-{id}")),
            trace: None,
            id: Some(id.into()),
            account: None,
            queue: None,
            attempt: None,
            redelivered: None,
            text: String::new(),
        }
    }

    fn end(id: &str, outcome: &str) -> Event {
        Event::End {
            id: id.into(),
            task: "t.1".into(),
            outcome: outcome.into(),
            queue: None,
            delay_ms: None,
            attempt: None,
            request: None,
            text: String::new(),
        }
    }

    /// Appends events, one a second.
    fn append(history: &History, events: Vec<Event>) {
        let from = *history.latest().borrow();
        let at = |n: u64| Timestamp::from_second(i64::try_from(from + n).unwrap()).unwrap();
        history.append((1..).map(at).zip(events).collect());
    }

    fn fill(history: &History) {
        append(history, vec![Event::Outbox { task: "t.1".into(), waiting: 0 }; RING]);
    }

    fn snapshot(history: &History) -> Vec<u64> {
        let (_, events) = history.snapshot();
        let ring = *history.latest().borrow() + 1 - RING as u64;
        events.iter().map(|entry| entry.seq).take_while(|seq| *seq < ring).collect()
    }

    #[test]
    fn a_message_is_kept_until_its_end() {
        let history = History::default();
        append(
            &history,
            vec![
                hop(5, "waits"),
                hop(5, "done"),
                hop(9, "done"),
                hop(7, "retried"),
                end("retried", "retried"),
            ],
        );
        append(
            &history,
            vec![
                hop(7, "dead"),
                end("dead", "dead-lettered"),
                hop(7, "no"),
                end("no", "declined"),
                hop(1, "x"),
            ],
        );
        fill(&history);
        assert_eq!(snapshot(&history), [1, 4, 5, 6, 7, 10]);
        assert_eq!(history.of_message("retried").len(), 2);
        assert_eq!(history.of_message("retried")[0].request.as_deref(), Some("r-retried"));
        append(&history, vec![hop(9, "retried")]);
        fill(&history);
        assert_eq!(snapshot(&history), [1, 6, 7, 10]);
    }

    #[test]
    fn a_late_hop_does_not_bring_a_finished_message_back() {
        let history = History::default();
        append(&history, vec![hop(9, "m"), hop(5, "m")]);
        fill(&history);
        assert_eq!(snapshot(&history), [0; 0]);
        // And while the late one is still there, the end is, too.
        append(&history, vec![hop(6, "m")]);
        assert_eq!(snapshot(&history), [1]);
    }

    #[test]
    fn of_a_state_the_last_event_is_kept() {
        let history = History::default();
        let task = |process: &str, state: &str| {
            Event::Task(Task { process: process.into(), state: state.into(), ..Task::default() })
        };
        let queue = |ready, gone| Event::Queue(Queue { gone, ..Queue::new("q", None, ready, None, 0) });
        append(
            &history,
            vec![task("a", "ready"), task("a", "gone"), task("b", "ready"), queue(1, false), queue(2, false)],
        );
        fill(&history);
        assert_eq!(snapshot(&history), [3, 5]);
        append(&history, vec![queue(0, true)]);
        fill(&history);
        assert_eq!(snapshot(&history), [3]);
    }

    #[test]
    fn of_a_replica_the_last_position_is_kept() {
        let history = History::default();
        let change = |task: &str, step: &str, offset| Event::Change {
            step: step.into(),
            task: task.into(),
            id: Some("k".into()),
            request: Some("r".into()),
            account: None,
            offset,
            version: None,
            text: String::new(),
        };
        let (one, other) = ("accountservice.1", "accountservice.2");
        append(
            &history,
            vec![
                change(one, "append", None),
                change(one, "applied", Some(141)),
                change(other, "applied", Some(141)),
                change(one, "rejected", Some(142)),
                change(one, "published", None),
            ],
        );
        assert!(history.snapshot().1.iter().all(|entry| entry.request.as_deref() == Some("r")));
        fill(&history);
        assert_eq!(snapshot(&history), [3, 4]);
    }

    #[test]
    fn everything_is_bounded() {
        let history = History::default();
        append(&history, (0..3 * MAX_UNFINISHED).map(|n| hop(5, &n.to_string())).collect());
        append(&history, (0..3 * MAX_FINISHED).map(|n| hop(9, &format!("f{n}"))).collect());
        append(&history, (0..100).map(|_| hop(7, "again")).collect());
        append(
            &history,
            (0..2 * MAX_STATES).map(|n| Event::Outbox { task: n.to_string(), waiting: 0 }).collect(),
        );
        history.with(|kept| {
            assert_eq!((kept.unfinished.len(), kept.first_of.len()), (MAX_UNFINISHED, MAX_UNFINISHED));
            assert_eq!((kept.finished.len(), kept.finished_order.len()), (MAX_FINISHED, MAX_FINISHED));
            assert_eq!((kept.ring.len(), kept.states.len()), (RING, MAX_STATES));
            assert_eq!(kept.unfinished[&kept.first_of["again"]].len(), MAX_PER_MESSAGE);
        });
    }

    #[test]
    fn a_viewer_gets_what_follows_or_learns_how_much_it_has_missed() {
        let history = History::default();
        let seqs = |next| match next {
            Next::Events(events) => Ok(events.iter().map(|entry| entry.seq).collect::<Vec<_>>()),
            Next::Skipped(count) => Err(count),
        };
        assert_eq!(seqs(history.after(0, 9)), Ok(vec![]));
        append(&history, vec![hop(1, "a"), hop(2, "a"), hop(3, "a")]);
        assert_eq!(seqs(history.after(0, 2)), Ok(vec![1, 2]));
        assert_eq!(seqs(history.after(2, 9)), Ok(vec![3]));
        assert_eq!(seqs(history.after(3, 9)), Ok(vec![]));
        assert_eq!(seqs(history.after(4, 9)), Err(0), "numbers of an earlier server");
        fill(&history);
        assert_eq!(seqs(history.after(2, 9)), Err(1));
        assert_eq!(seqs(history.after(3, 1)), Ok(vec![4]));
    }
}
