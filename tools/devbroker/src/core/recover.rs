//! Restores the state of a broker from the records of its log, and writes it as a snapshot of records.
//!
//! Durable queues, exchanges and bindings survive, persistent messages in classic queues, and all messages in quorum
//! queues and streams. An unsettled delivery is requeued, and counts as failed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Core, QueueId,
    exchange::{Binding, Exchange, PREDECLARED},
    message::{Entry, Message, Reason},
    queue::Queue,
    queue_options::{QueueKind, QueueOptions},
    record::{Position, Record},
};

/// A broker whose log is being read. Messages enter their queues at the end, when their later records are known.
#[derive(Debug)]
pub(crate) struct Recovery {
    core: Core,
    entries: HashMap<QueueId, BTreeMap<u64, Recovered>>,
}

#[derive(Debug)]
struct Recovered {
    entry: Entry,
    is_delivered: bool,
    held: Option<Reason>,
}

impl Recovery {
    /// Starts with an empty core.
    pub(crate) fn new(core: Core) -> Self {
        Self { core, entries: HashMap::new() }
    }

    /// Applies one record; those of deleted queues and exchanges are skipped.
    pub(crate) fn take(&mut self, record: Record) {
        let core = &mut self.core;
        match record {
            Record::Ids { last } => core.next_id = core.next_id.max(last),
            Record::Exchange { name, kind, auto_delete, arguments } => {
                core.make_vhost(&name.vhost);
                core.exchanges.insert(name, Exchange { auto_delete, ..Exchange::new(kind, arguments) });
            }
            Record::ExchangeDeleted { name } => core.remove_exchange(&name),
            Record::Queue { id, name, auto_delete, arguments, next } => {
                let Ok(options) = QueueOptions::read(&arguments, &name) else { return };
                core.make_vhost(&name.vhost);
                let mut queue = Queue::new(name.clone(), arguments, options, core.now);
                queue.auto_delete = auto_delete;
                queue.continue_from(next);
                core.queue_ids.insert(name, id);
                core.queues.insert(id, queue);
                core.next_id = core.next_id.max(id);
            }
            Record::QueueDeleted { queue } => {
                core.delete_queue(queue);
                self.entries.remove(&queue);
            }
            Record::Bound { source, binding } => {
                core.make_vhost(&source.vhost);
                if let Some(exchange) = core.exchanges.get_mut(&source) {
                    exchange.bindings.push(binding);
                }
            }
            Record::Unbound { source, binding } => {
                core.remove_bindings(|name, other| *name == source && *other == binding);
            }
            Record::Message { message, positions } => {
                positions.into_iter().for_each(|position| self.take_message(&position, &message));
            }
            Record::Delivered { queue, position } => {
                self.change(queue, position, |it| it.is_delivered = true)
            }
            Record::Returned { queue, position, acquired, failed } => self.change(queue, position, |it| {
                it.is_delivered = false;
                (it.entry.acquired, it.entry.failed) = (acquired, failed);
            }),
            Record::Held { queue, position, reason } => {
                self.change(queue, position, |it| it.held = Some(reason))
            }
            Record::Removed { queue, position } => {
                self.entries.get_mut(&queue).and_then(|entries| entries.remove(&position));
            }
        }
        // These records are in the log already.
        self.core.output.records.clear();
    }

    fn take_message(&mut self, position: &Position, message: &Arc<Message>) {
        let Some(queue) = self.core.queues.get_mut(&position.queue) else { return };
        if queue.kind() == QueueKind::Stream {
            queue.stream.append(Arc::clone(message));
            return;
        }
        // Its position is not used again while the log mentions it.
        queue.continue_from(position.position + 1);
        let entry = Entry {
            priority: queue.priority_of(message),
            expires_at: position.expires_at,
            acquired: position.acquired,
            failed: position.failed,
            persisted: true,
            ..Entry::new(position.position, message)
        };
        let recovered = Recovered { entry, is_delivered: false, held: None };
        self.entries.entry(position.queue).or_default().insert(position.position, recovered);
    }

    fn change(&mut self, queue: QueueId, position: u64, change: impl FnOnce(&mut Recovered)) {
        if let Some(recovered) = self.entries.get_mut(&queue).and_then(|entries| entries.get_mut(&position)) {
            change(recovered);
        }
    }

    /// Puts every message into its queue, at the end of the log.
    pub(crate) fn finish(self, now: u64) -> Core {
        let Self { mut core, entries } = self;
        core.now = now;
        for (id, entries) in entries {
            let Some(queue) = core.queues.get_mut(&id) else { continue };
            for Recovered { mut entry, is_delivered, held } in entries.into_values() {
                if let Some(reason) = held {
                    queue.held.push_back((entry, reason));
                    continue;
                }
                if is_delivered {
                    (entry.acquired, entry.failed) = (entry.acquired + 1, entry.failed + 1);
                }
                queue.put(entry);
            }
        }
        for (id, queue) in &mut core.queues {
            queue.used_at = now;
            core.dirty.insert(*id);
        }
        core.update_queues();
        core
    }
}

impl Core {
    /// Returns all durable state as the shortest log of it.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Ids { last: self.next_id }];
        let mut unacked: HashMap<QueueId, Vec<&Entry>> = HashMap::new();
        let channels = self.connections.values().flat_map(|connection| connection.channels.values());
        for delivery in channels.flat_map(|channel| channel.unacked.values()) {
            unacked.entry(delivery.queue).or_default().extend(&delivery.entry);
        }
        for (id, queue) in self.queues.iter().filter(|(_, queue)| queue.is_persisted()) {
            records.push(Record::of_queue(*id, queue));
            records.extend(queue.stream.iter().map(|(position, message)| Record::Message {
                positions: vec![Position::of(*id, &Entry::new(position, message))],
                message: Arc::clone(message),
            }));
            let message = |entry: &Entry| Record::Message {
                positions: vec![Position::of(*id, entry)],
                message: Arc::clone(&entry.message),
            };
            let waiting = queue.entries().filter(|entry| entry.persisted);
            records.extend(waiting.map(message));
            let delivered = unacked.remove(id).unwrap_or_default();
            for entry in delivered.into_iter().filter(|entry| entry.persisted) {
                let delivered = Record::Delivered { queue: *id, position: entry.position };
                records.extend([message(entry), delivered]);
            }
            for (entry, reason) in queue.held.iter().filter(|(entry, _)| entry.persisted) {
                let held = Record::Held { queue: *id, position: entry.position, reason: *reason };
                records.extend([message(entry), held]);
            }
        }
        for (name, exchange) in self.exchanges.iter().filter(|(_, exchange)| exchange.durable) {
            if PREDECLARED.iter().all(|(predeclared, _)| *predeclared != name.name) {
                records.push(Record::of_exchange(name, exchange));
            }
            let queue = |to: &Binding| self.queue_ids.get(&to.queue).and_then(|id| self.queues.get(id));
            let survives = |to: &&Binding| queue(to).is_some_and(Queue::is_persisted);
            let bindings = exchange.bindings.iter().filter(survives);
            records.extend(
                bindings.map(|binding| Record::Bound { source: name.clone(), binding: binding.clone() }),
            );
        }
        records
    }
}
