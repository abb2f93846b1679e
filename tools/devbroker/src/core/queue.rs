//! A queue: what waits in it, who consumes from it, and in which order.
//!
//! Classic and quorum queues differ in few places, each marked by `Kind`: a quorum queue counts deliveries and
//! has two priorities, a classic queue has `x-max-priority` of them. A stream has its entries in a `Stream` instead.

use std::collections::{BTreeMap, VecDeque};

use amq_protocol::types::FieldTable;

use super::{
    arguments::{Kind, Settings},
    message::{Entry, Message, Reason},
    stream::Stream,
    value::{ConnectionId, ConsumerId, Name},
};

/// Out of three deliveries of a quorum queue two are of high priority, if there are any.
const HIGH_IN_A_ROW: u8 = 2;

/// Where those stand that came back to a quorum queue: before every priority.
const RETURNED: u8 = 0;

/// The lowest priority is the last key.
const LAST: u8 = u8::MAX;

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Name,
    pub(crate) durable: bool,
    /// Whether it goes with its last consumer.
    pub(crate) auto_delete: bool,
    /// The connection that has it for itself.
    pub(crate) owner: Option<ConnectionId>,
    /// Its arguments as they were declared, and as they were read.
    pub(crate) arguments: FieldTable,
    pub(crate) settings: Settings,
    /// Who consumes, next first. With `x-single-active-consumer` only the first gets something.
    pub(crate) consumers: VecDeque<ConsumerId>,
    /// How many messages are delivered and not settled.
    pub(crate) unacked: usize,
    /// Dead letters that nobody has taken yet (at-least-once).
    pub(crate) held: VecDeque<(Entry, Reason)>,
    pub(crate) stream: Stream,
    /// When it was last used, in Unix milliseconds, for `x-expires`.
    pub(crate) used_at: u64,
    /// The time for which a timer is set.
    pub(crate) timer: Option<u64>,
    /// What waits: by priority, the highest first, then by place.
    ready: BTreeMap<(u8, u64), Entry>,
    returned: u64,
    next_place: u64,
    high_in_a_row: u8,
}

impl Queue {
    pub(crate) fn new(name: Name, arguments: FieldTable, settings: Settings, now: u64) -> Self {
        Self {
            name,
            durable: true,
            auto_delete: false,
            owner: None,
            arguments,
            stream: Stream::new(settings.max_bytes),
            settings,
            consumers: VecDeque::new(),
            unacked: 0,
            held: VecDeque::new(),
            used_at: now,
            timer: None,
            ready: BTreeMap::new(),
            returned: 0,
            next_place: 1,
            high_in_a_row: 0,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.settings.kind
    }

    /// Whether the log has it.
    pub(crate) fn is_persisted(&self) -> bool {
        self.durable && self.owner.is_none()
    }

    /// How many messages wait; of a stream, how many it has.
    pub(crate) fn ready_count(&self) -> usize {
        if self.kind() == Kind::Stream { self.stream.len() } else { self.ready.len() }
    }

    /// Whether one message more would be too many: `x-max-length` counts those that wait.
    pub(crate) fn is_full(&self) -> bool {
        self.settings.max_length.is_some_and(|max| self.ready.len() as u64 >= max)
    }

    pub(crate) fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place - 1
    }

    /// The place of the next message; of a stream, the offset of the first.
    pub(crate) fn next_place(&self) -> u64 {
        if self.kind() == Kind::Stream { self.stream.first() } else { self.next_place }
    }

    /// Goes on from there, after a restart.
    pub(crate) fn go_on_from(&mut self, place: u64) {
        if self.kind() == Kind::Stream {
            self.stream.begin_at(place);
        } else {
            self.next_place = self.next_place.max(place);
        }
    }

    /// The priority that a message has here.
    pub(crate) fn priority_of(&self, message: &Message) -> u8 {
        let wanted = message.properties.priority().unwrap_or(0);
        match self.kind() {
            Kind::Classic => wanted.min(self.settings.max_priority),
            Kind::Quorum => u8::from(wanted > 4),
            Kind::Stream => 0,
        }
    }

    /// Puts a message at its place: a new one behind all of its priority, one that comes back where it was.
    pub(crate) fn put(&mut self, entry: Entry) {
        self.ready.insert((LAST - entry.priority, entry.place), entry);
    }

    /// Takes back what was delivered: a classic queue at its old place, a quorum queue before all others, in the
    /// order of its return.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        if self.kind() == Kind::Quorum {
            self.returned += 1;
            self.ready.insert((RETURNED, self.returned), entry);
        } else {
            self.put(entry);
        }
    }

    /// Takes the one that is delivered next.
    pub(crate) fn take_first(&mut self) -> Option<Entry> {
        let mut key = *self.ready.first_key_value()?.0;
        if key.0 != RETURNED && self.kind() == Kind::Quorum && self.high_in_a_row >= HIGH_IN_A_ROW {
            key = self.ready.range((LAST, 0)..).next().map_or(key, |(low, _)| *low);
        }
        let entry = self.ready.remove(&key)?;
        self.high_in_a_row = if entry.priority == 0 { 0 } else { self.high_in_a_row.saturating_add(1) };
        Some(entry)
    }

    /// Takes the first whose time was over then. Only the head of each priority is looked at, as RabbitMQ does.
    pub(crate) fn take_expired(&mut self, then: u64) -> Option<Entry> {
        let key = self.heads().find(|(_, entry)| entry.expires_at.is_some_and(|at| at <= then))?.0;
        self.ready.remove(&key)
    }

    /// When the next head expires.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.heads().filter_map(|(_, entry)| entry.expires_at).min()
    }

    /// When it goes because nobody uses it: `x-expires`.
    pub(crate) fn unused_until(&self) -> Option<u64> {
        self.settings.expires.filter(|_| self.consumers.is_empty()).map(|expires| self.used_at + expires)
    }

    /// Takes all that wait.
    pub(crate) fn take_all(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.ready).into_values().collect()
    }

    /// All that wait, in the order of their delivery.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ready.values()
    }

    fn heads(&self) -> impl Iterator<Item = ((u8, u64), &Entry)> {
        let mut from = Some(0u8);
        std::iter::from_fn(move || {
            let (key, entry) = self.ready.range((from?, 0)..).next()?;
            from = key.0.checked_add(1);
            Some((*key, entry))
        })
    }
}
