//! A queue: its waiting messages, its consumers, and the order of both.
//!
//! Classic and quorum queues differ in few places, each of which names `QueueKind`: a quorum queue has 32 priorities, a
//! classic queue has `x-max-priority` of them. A stream keeps its entries in a `Stream` instead.

use std::collections::{BTreeMap, VecDeque};

use amq_protocol::types::FieldTable;

use super::{
    message::{Entry, Message, Reason},
    queue_options::{QueueKind, QueueOptions},
    stream::Stream,
    value::{ConnectionId, ConsumerId, Name},
};

/// The highest priority of a quorum queue, and that of a message which has none.
/// <https://www.rabbitmq.com/docs/quorum-queues#priorities>
const QUORUM_PRIORITIES: (u8, u8) = (31, 4);

/// Key of requeued messages of a quorum queue, which come before all priorities.
const RETURNED: u8 = 0;

/// Key of the lowest priority.
const LAST: u8 = u8::MAX;

/// A queue with its messages.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Name,
    pub(crate) durable: bool,
    /// Deleted with its last consumer.
    pub(crate) auto_delete: bool,
    /// The connection of an exclusive queue.
    pub(crate) owner: Option<ConnectionId>,
    /// Arguments as they were declared; `options` has them parsed.
    pub(crate) arguments: FieldTable,
    pub(crate) options: QueueOptions,
    /// Consumers, the next one first. With `x-single-active-consumer` only the first gets deliveries.
    pub(crate) consumers: VecDeque<ConsumerId>,
    /// Number of unsettled deliveries.
    pub(crate) unacked: usize,
    /// Dead letters whose target queue has not taken them yet (`at-least-once`).
    pub(crate) held: VecDeque<(Entry, Reason)>,
    pub(crate) stream: Stream,
    /// Time of the last use in Unix milliseconds, for `x-expires`.
    pub(crate) used_at: u64,
    /// Time of the timer that is set for it.
    pub(crate) timer: Option<u64>,
    /// Waiting messages by priority, the highest first, then by position.
    ready: BTreeMap<(u8, u64), Entry>,
    returned: u64,
    next_position: u64,
}

impl Queue {
    pub(crate) fn new(name: Name, arguments: FieldTable, options: QueueOptions, now: u64) -> Self {
        Self {
            name,
            durable: true,
            auto_delete: false,
            owner: None,
            arguments,
            stream: Stream::new(options.max_bytes, options.segment_bytes),
            options,
            consumers: VecDeque::new(),
            unacked: 0,
            held: VecDeque::new(),
            used_at: now,
            timer: None,
            ready: BTreeMap::new(),
            returned: 0,
            next_position: 1,
        }
    }

    pub(crate) fn kind(&self) -> QueueKind {
        self.options.kind
    }

    /// Returns whether the queue is in the log.
    pub(crate) fn is_persisted(&self) -> bool {
        self.durable && self.owner.is_none()
    }

    /// Returns the number of waiting messages; of a stream, of all its entries.
    pub(crate) fn ready_count(&self) -> usize {
        if self.kind() == QueueKind::Stream { self.stream.len() } else { self.ready.len() }
    }

    /// Returns whether `x-max-length` is reached, which counts the waiting messages only.
    pub(crate) fn is_full(&self) -> bool {
        self.options.max_length.is_some_and(|max| self.ready.len() as u64 >= max)
    }

    pub(crate) fn take_position(&mut self) -> u64 {
        self.next_position += 1;
        self.next_position - 1
    }

    /// Returns the position of the next message; of a stream, the offset of its first entry.
    pub(crate) fn next_position(&self) -> u64 {
        if self.kind() == QueueKind::Stream { self.stream.first() } else { self.next_position }
    }

    /// Continues from a position after a restart.
    pub(crate) fn continue_from(&mut self, position: u64) {
        if self.kind() == QueueKind::Stream {
            self.stream.begin_at(position);
        } else {
            self.next_position = self.next_position.max(position);
        }
    }

    /// Returns the priority of a message in this queue.
    pub(crate) fn priority_of(&self, message: &Message) -> u8 {
        let wanted = message.properties.priority();
        let (highest, usual) = QUORUM_PRIORITIES;
        match self.kind() {
            QueueKind::Classic => wanted.unwrap_or(0).min(self.options.max_priority),
            QueueKind::Quorum => wanted.unwrap_or(usual).min(highest),
            QueueKind::Stream => 0,
        }
    }

    /// Inserts an entry at its position: a new one is the last of its priority, a requeued one is where it was before.
    pub(crate) fn put(&mut self, entry: Entry) {
        self.ready.insert((LAST - entry.priority, entry.position), entry);
    }

    /// Takes back a delivered message: a classic queue at its old position, a quorum queue before all others, in the
    /// order of requeueing.
    pub(crate) fn requeue(&mut self, entry: Entry) {
        if self.kind() == QueueKind::Quorum {
            self.returned += 1;
            self.ready.insert((RETURNED, self.returned), entry);
        } else {
            self.put(entry);
        }
    }

    /// Takes the next message to deliver.
    pub(crate) fn take_first(&mut self) -> Option<Entry> {
        self.ready.pop_first().map(|(_, entry)| entry)
    }

    /// Takes a message that had expired at this time, if it is at a head of the queue.
    pub(crate) fn take_expired(&mut self, then: u64) -> Option<Entry> {
        let key = self.heads().find(|(_, entry)| entry.expires_at.is_some_and(|at| at <= then))?.0;
        self.ready.remove(&key)
    }

    /// Returns when the next message at a head of the queue expires.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.heads().filter_map(|(_, entry)| entry.expires_at).min()
    }

    /// Returns when the queue expires (`x-expires`) if it stays unused.
    pub(crate) fn unused_until(&self) -> Option<u64> {
        self.options.expires.filter(|_| self.consumers.is_empty()).map(|expires| self.used_at + expires)
    }

    /// Takes all waiting messages.
    pub(crate) fn take_all(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.ready).into_values().collect()
    }

    /// Returns all waiting messages in the order of delivery.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ready.values()
    }

    /// Returns the messages that may expire, as in RabbitMQ: of a classic queue the first one, of a quorum queue the first of each
    /// priority.
    fn heads(&self) -> impl Iterator<Item = ((u8, u64), &Entry)> {
        let most = if self.kind() == QueueKind::Classic { 1 } else { usize::MAX };
        let mut from = Some(0u8);
        std::iter::from_fn(move || {
            let (key, entry) = self.ready.range((from?, 0)..).next()?;
            from = key.0.checked_add(1);
            Some((*key, entry))
        })
        .take(most)
    }
}
