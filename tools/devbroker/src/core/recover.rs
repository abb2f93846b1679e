//! The way to the log and back: the state from records, and all of it as records.
//!
//! Durable queues, exchanges and bindings survive, persistent messages in classic queues, and all messages in quorum
//! queues and streams. A message that was delivered and not settled comes back `redelivered`, and counted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    Core, QueueId,
    arguments::{Kind, Settings},
    exchange::{Binding, Exchange, PREDECLARED},
    message::{Entry, Message, Reason},
    queue::Queue,
    record::{Place, Record},
};

/// The broker while its log is read: messages are not in their queues before it is known what became of them.
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
    /// Begins with an empty broker.
    pub(crate) fn new(core: Core) -> Self {
        Self { core, entries: HashMap::new() }
    }

    /// Takes one record; those that mean nothing any more are passed over.
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
                let Ok(settings) = Settings::read(&arguments, &name) else { return };
                core.make_vhost(&name.vhost);
                let mut queue = Queue::new(name.clone(), arguments, settings, core.now);
                queue.auto_delete = auto_delete;
                queue.go_on_from(next);
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
            Record::Message { message, places } => {
                places.into_iter().for_each(|place| self.take_message(&place, &message));
            }
            Record::Delivered { queue, place } => self.change(queue, place, |it| it.is_delivered = true),
            Record::Returned { queue, place, count } => self.change(queue, place, |it| {
                it.is_delivered = false;
                (it.entry.delivery_count, it.entry.redelivered) = (count, true);
            }),
            Record::Held { queue, place, reason } => self.change(queue, place, |it| it.held = Some(reason)),
            Record::Removed { queue, place } => {
                self.entries.get_mut(&queue).and_then(|entries| entries.remove(&place));
            }
        }
        // What is in the log already need not be written again.
        self.core.output.records.clear();
    }

    fn take_message(&mut self, place: &Place, message: &Arc<Message>) {
        let Some(queue) = self.core.queues.get_mut(&place.queue) else { return };
        if queue.kind() == Kind::Stream {
            queue.stream.append(Arc::clone(message));
            return;
        }
        // Whatever became of it, its place is not given again while the log speaks of it.
        queue.go_on_from(place.place + 1);
        let entry = Entry {
            priority: queue.priority_of(message),
            expires_at: place.expires_at,
            redelivered: place.returned.is_some(),
            delivery_count: place.returned.unwrap_or(0),
            persisted: true,
            ..Entry::new(place.place, message)
        };
        let recovered = Recovered { entry, is_delivered: false, held: None };
        self.entries.entry(place.queue).or_default().insert(place.place, recovered);
    }

    fn change(&mut self, queue: QueueId, place: u64, change: impl FnOnce(&mut Recovered)) {
        if let Some(recovered) = self.entries.get_mut(&queue).and_then(|entries| entries.get_mut(&place)) {
            change(recovered);
        }
    }

    /// The log is read: every message goes where it was.
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
                    entry.redelivered = true;
                    entry.delivery_count += u32::from(queue.kind() == Kind::Quorum);
                }
                queue.put(entry);
            }
        }
        for (id, queue) in &mut core.queues {
            queue.used_at = now;
            core.dirty.insert(*id);
        }
        core.tend_all();
        core
    }
}

impl Core {
    /// All that has to survive, as the shortest log that says it.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Ids { last: self.next_id }];
        let mut unacked: HashMap<QueueId, Vec<&Entry>> = HashMap::new();
        let channels = self.connections.values().flat_map(|connection| connection.channels.values());
        for delivery in channels.flat_map(|channel| channel.unacked.values()) {
            unacked.entry(delivery.queue).or_default().extend(&delivery.entry);
        }
        for (id, queue) in self.queues.iter().filter(|(_, queue)| queue.is_persisted()) {
            records.push(Record::of_queue(*id, queue));
            records.extend(queue.stream.iter().map(|(place, message)| Record::Message {
                places: vec![Place { queue: *id, place, expires_at: None, returned: None }],
                message: Arc::clone(message),
            }));
            let message = |entry: &Entry| Record::Message {
                places: vec![Place::of(*id, entry)],
                message: Arc::clone(&entry.message),
            };
            let waiting = queue.entries().filter(|entry| entry.persisted);
            records.extend(waiting.map(message));
            let delivered = unacked.remove(id).unwrap_or_default();
            for entry in delivered.into_iter().filter(|entry| entry.persisted) {
                let delivered = Record::Delivered { queue: *id, place: entry.place };
                records.extend([message(entry), delivered]);
            }
            for (entry, reason) in queue.held.iter().filter(|(entry, _)| entry.persisted) {
                let held = Record::Held { queue: *id, place: entry.place, reason: *reason };
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
