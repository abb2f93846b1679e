//! A queue: what waits in it, who consumes from it, and in which order.
//!
//! Classic and quorum queues differ in few places, each marked by `Kind`: a quorum queue counts deliveries and
//! has two priorities, a classic queue has `x-max-priority` of them. A stream holds a `Log` instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use amq_protocol::types::FieldTable;

use super::{
    ConnectionId, ConsumerId,
    arguments::{Kind, Settings},
    message::{Entry, Message},
    stream::Log,
};

/// Out of three deliveries of a quorum queue two are of high priority, if there are any.
const HIGH_IN_A_ROW: u8 = 2;

/// Where those stand that came back to a quorum queue: before every priority.
const RETURNED: u8 = 0;

/// A queue.
#[derive(Debug)]
pub struct Queue {
    /// Its vhost.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that has it for itself.
    pub owner: Option<ConnectionId>,
    /// Its arguments as they were declared.
    pub arguments: FieldTable,
    /// Its arguments, read.
    pub settings: Settings,
    /// Who consumes, next first; those of higher `x-priority` stand before the others.
    pub consumers: VecDeque<ConsumerId>,
    /// The one that gets all, with `x-single-active-consumer`.
    pub active: Option<ConsumerId>,
    /// How many messages are delivered and not settled.
    pub unacked: usize,
    /// Dead letters that nobody has taken yet (at-least-once), with their reason.
    pub held: VecDeque<(Entry, &'static str)>,
    /// The entries of a stream.
    pub log: Log,
    /// When it was last used, in Unix milliseconds, for `x-expires`.
    pub used_at: u64,
    /// The time for which a timer is set.
    pub timer: Option<u64>,
    /// What was delivered and not settled, as the log says: of use only until it is read.
    pub outstanding: BTreeSet<u64>,
    ready: BTreeMap<(u8, u64), Entry>,
    ready_bytes: u64,
    returned: u64,
    next_seq: u64,
    high_in_a_row: u8,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(vhost: &str, name: &str, arguments: FieldTable, settings: Settings, now: u64) -> Self {
        let log = Log::new(&settings);
        Self {
            vhost: vhost.into(),
            name: name.into(),
            durable: false,
            auto_delete: false,
            owner: None,
            arguments,
            settings,
            consumers: VecDeque::new(),
            active: None,
            unacked: 0,
            held: VecDeque::new(),
            log,
            used_at: now,
            timer: None,
            outstanding: BTreeSet::new(),
            ready: BTreeMap::new(),
            ready_bytes: 0,
            returned: 0,
            next_seq: 1,
            high_in_a_row: 0,
        }
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.settings.kind
    }

    /// How many messages wait; of a stream, how many it has.
    #[must_use]
    pub fn ready_count(&self) -> usize {
        if self.kind() == Kind::Stream { self.log.len() } else { self.ready.len() }
    }

    /// Whether one message more would be too many. A quorum queue counts all that it has, a classic
    /// queue those that wait (<https://www.rabbitmq.com/docs/maxlength>).
    #[must_use]
    pub fn is_full(&self, body: usize) -> bool {
        let ready = self.ready.len() as u64;
        self.settings.max_length.is_some_and(|max| ready >= max)
            || self.settings.max_bytes.is_some_and(|max| self.ready_bytes + body as u64 > max)
    }

    /// Whether the first should go because there are too many.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.settings.max_length.is_some_and(|max| self.ready.len() as u64 > max)
            || self.settings.max_bytes.is_some_and(|max| self.ready_bytes > max)
    }

    /// The place of the next message.
    pub fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// The place after the last; of no meaning to a stream, which counts by itself.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Goes on behind this place, after a restart.
    pub fn set_next_seq(&mut self, next: u64) {
        self.next_seq = self.next_seq.max(next);
    }

    /// The priority that a message has here.
    #[must_use]
    pub fn priority_of(&self, message: &Message) -> u8 {
        let wanted = message.properties.priority().unwrap_or(0);
        match self.kind() {
            Kind::Classic => wanted.min(self.settings.max_priority),
            Kind::Quorum => u8::from(wanted > 4),
            Kind::Stream => 0,
        }
    }

    /// Puts a message at its place: a new one behind all of its priority, one that comes back where it was.
    pub fn put(&mut self, entry: Entry) {
        self.next_seq = self.next_seq.max(entry.seq + 1);
        self.ready_bytes += entry.message.body.len() as u64;
        self.ready.insert((u8::MAX - entry.priority, entry.seq), entry);
    }

    /// Takes back what was delivered: a classic queue at its old place, a quorum queue before all others, in the
    /// order of its return.
    pub fn put_back(&mut self, entry: Entry) {
        if self.kind() == Kind::Quorum {
            self.ready_bytes += entry.message.body.len() as u64;
            self.returned += 1;
            self.ready.insert((RETURNED, self.returned), entry);
        } else {
            self.put(entry);
        }
    }

    /// The one that is delivered next.
    #[must_use]
    pub fn first(&self) -> Option<&Entry> {
        self.ready.get(&self.first_key()?)
    }

    /// Takes it.
    pub fn take_first(&mut self) -> Option<Entry> {
        let key = self.first_key()?;
        let entry = self.remove(key)?;
        if self.kind() == Kind::Quorum {
            self.high_in_a_row = if entry.priority == 0 { 0 } else { self.high_in_a_row + 1 };
        }
        Some(entry)
    }

    /// Takes the oldest, whatever its priority: what `drop-head` drops is the one of the lowest priority.
    pub fn take_oldest(&mut self) -> Option<Entry> {
        let lowest = self.ready.last_key_value()?.0.0;
        let key = *self.ready.range((lowest, 0)..).next()?.0;
        self.remove(key)
    }

    /// Takes the first whose time is over. Only the head of each priority is looked at, as RabbitMQ does: a
    /// message behind one that lives longer waits for it.
    pub fn take_expired(&mut self, now: u64) -> Option<Entry> {
        let key = self.heads().find(|(_, entry)| entry.expires_at.is_some_and(|at| at <= now))?.0;
        self.remove(key)
    }

    /// When the next head expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.heads().filter_map(|(_, entry)| entry.expires_at).min()
    }

    /// Takes all that wait.
    pub fn take_all(&mut self) -> Vec<Entry> {
        self.ready_bytes = 0;
        std::mem::take(&mut self.ready).into_values().collect()
    }

    /// Takes one by its place, after a restart.
    pub fn take_seq_of(&mut self, seq: u64) -> Option<Entry> {
        let key = (0..=u8::MAX).find_map(|priority| {
            let key = (priority, seq);
            self.ready.contains_key(&key).then_some(key)
        });
        // Nearly all messages have the priority 0, so it is looked at first.
        let plain = (u8::MAX, seq);
        let key = if self.ready.contains_key(&plain) { Some(plain) } else { key };
        self.remove(key?)
    }

    /// All that wait, in the order of their delivery.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ready.values()
    }

    /// Puts a consumer that just got a message behind its equals, or a new one there.
    pub fn put_behind(&mut self, consumer: ConsumerId, priority_of: impl Fn(ConsumerId) -> i64) {
        self.consumers.retain(|other| *other != consumer);
        let mine = priority_of(consumer);
        let place = self.consumers.iter().position(|other| priority_of(*other) < mine);
        self.consumers.insert(place.unwrap_or(self.consumers.len()), consumer);
    }

    fn heads(&self) -> impl Iterator<Item = ((u8, u64), &Entry)> {
        let mut from = Some(0u8);
        std::iter::from_fn(move || {
            let (key, entry) = self.ready.range((from?, 0)..).next()?;
            from = key.0.checked_add(1);
            Some((*key, entry))
        })
    }

    fn first_key(&self) -> Option<(u8, u64)> {
        let first = *self.ready.first_key_value()?.0;
        if first.0 != RETURNED && self.kind() == Kind::Quorum && self.high_in_a_row >= HIGH_IN_A_ROW {
            let low = self.ready.range((u8::MAX, 0)..).next();
            return Some(low.map_or(first, |(key, _)| *key));
        }
        Some(first)
    }

    fn remove(&mut self, key: (u8, u64)) -> Option<Entry> {
        let entry = self.ready.remove(&key)?;
        self.ready_bytes -= entry.message.body.len() as u64;
        Some(entry)
    }
}
