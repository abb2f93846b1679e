//! The way to the log and back: the state from records, and all of it as records.
//!
//! Durable queues, exchanges and bindings survive, persistent messages in classic queues, and all messages in quorum
//! queues and streams. A message that was delivered and not settled comes back `redelivered`, and counted.

use std::sync::Arc;

use super::{
    Core, QueueId,
    arguments::{Kind, Settings},
    exchange::Exchange,
    message::{Entry, Message},
    queue::Queue,
    record::Record,
};

impl Core {
    /// Takes one record of the log back; those that mean nothing any more are passed over.
    pub fn load(&mut self, now: u64, record: Record) {
        self.now = now;
        match record {
            Record::Ids { next } => self.next_id = self.next_id.max(next),
            Record::Exchange { vhost, name, kind, flags: (auto_delete, internal), arguments } => {
                let exchange = Exchange { auto_delete, internal, arguments, ..Exchange::predeclared(kind) };
                self.vhost(&vhost).exchanges.insert(name, exchange);
            }
            Record::ExchangeDeleted { vhost, name } => {
                self.remove_exchange(&vhost, &name);
            }
            Record::Queue { id, vhost, name, auto_delete, arguments, next } => {
                let Ok(settings) = Settings::read(&arguments, &name, &vhost) else { return };
                let mut queue = Queue::new(&vhost, &name, arguments, settings, now);
                (queue.durable, queue.auto_delete) = (true, auto_delete);
                queue.set_next_seq(next);
                queue.log.begin_at(if queue.kind() == Kind::Stream { next } else { 0 });
                self.vhost(&vhost).queues.insert(name, id);
                self.queues.insert(id, queue);
                self.next_id = self.next_id.max(id + 1);
            }
            Record::QueueDeleted { queue } => self.delete_queue(queue),
            Record::Bound { vhost, source, binding } => {
                if let Some(exchange) = self.vhost(&vhost).exchanges.get_mut(&source) {
                    exchange.bindings.push(binding);
                }
            }
            Record::Unbound { vhost, source, binding } => {
                if let Some(exchange) = self.vhost(&vhost).exchanges.get_mut(&source) {
                    exchange.bindings.retain(|other| *other != binding);
                }
            }
            Record::Message { message, places } => self.load_message(&message, places),
            Record::Removed { queue, places } => {
                let Some(queue) = self.queues.get_mut(&queue) else { return };
                for place in places {
                    queue.outstanding.remove(&place);
                    queue.held.retain(|(entry, _)| entry.seq != place);
                    if let Some(entry) = queue.take_seq_of(place) {
                        self.memory = self.memory.saturating_sub(entry.message.cost());
                    }
                }
            }
            Record::Requeued { queue, place, count } => {
                let Some(queue) = self.queues.get_mut(&queue) else { return };
                queue.outstanding.remove(&place);
                if let Some(mut entry) = queue.take_seq_of(place) {
                    (entry.delivery_count, entry.redelivered) = (count, true);
                    queue.put(entry);
                }
            }
            Record::Delivered { queue, places } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.outstanding.extend(places);
                }
            }
            Record::Held { queue, place, reason } => {
                let Some(queue) = self.queues.get_mut(&queue) else { return };
                if let Some(entry) = queue.take_seq_of(place) {
                    queue.held.push_back((entry, reason));
                }
            }
        }
        self.output = super::Output::default();
    }

    fn load_message(&mut self, message: &Arc<Message>, places: Vec<(QueueId, u64, Option<u64>)>) {
        for (id, place, at) in places {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            self.memory += message.cost();
            if queue.kind() == Kind::Stream {
                queue.log.append(at.unwrap_or(self.now), Arc::clone(message));
                self.memory = self.memory.saturating_sub(queue.log.trim(self.now));
            } else {
                let priority = queue.priority_of(message);
                queue.put(Entry { priority, expires_at: at, ..Entry::new(place, message, true) });
            }
        }
    }

    /// The log is read: what was delivered and not settled is marked so, and timers are set.
    pub fn loaded(&mut self, now: u64) {
        self.now = now;
        for (id, queue) in &mut self.queues {
            for place in std::mem::take(&mut queue.outstanding) {
                let Some(mut entry) = queue.take_seq_of(place) else { continue };
                entry.redelivered = true;
                entry.delivery_count += u32::from(queue.kind() == Kind::Quorum);
                queue.put(entry);
            }
            self.dirty.insert(*id);
        }
        self.tend_all();
    }

    /// All that has to survive, as the shortest log that says it.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = vec![Record::Ids { next: self.next_id }];
        let mut bindings = vec![];
        for (vhost, content) in &self.vhosts {
            for (name, exchange) in content.exchanges.iter().filter(|(_, exchange)| exchange.durable) {
                if !super::predeclared(name) {
                    records.push(Record::exchange(vhost, name, exchange));
                }
                let durable = exchange.bindings.iter().filter(|binding| match &binding.to {
                    super::exchange::Destination::Queue(name) => {
                        let queue = content.queues.get(name).and_then(|id| self.queues.get(id));
                        queue.is_some_and(|queue| queue.durable && queue.owner.is_none())
                    }
                    super::exchange::Destination::Exchange(name) => {
                        content.exchanges.get(name).is_some_and(|exchange| exchange.durable)
                    }
                });
                bindings.extend(durable.map(|binding| Record::Bound {
                    vhost: vhost.clone(),
                    source: name.clone(),
                    binding: binding.clone(),
                }));
            }
        }
        let mut unacked: std::collections::HashMap<QueueId, Vec<&Entry>> = std::collections::HashMap::new();
        for channel in self.connections.values().flat_map(|connection| connection.channels.values()) {
            for delivery in channel.unacked.values() {
                unacked.entry(delivery.queue).or_default().extend(&delivery.entry);
            }
        }
        for (id, queue) in self.queues.iter().filter(|(_, queue)| queue.durable && queue.owner.is_none()) {
            records.push(Record::queue(*id, queue));
            for (offset, at, message) in queue.log.iter() {
                let places = vec![(*id, offset, Some(at))];
                records.push(Record::Message { message: Arc::clone(message), places });
            }
            let held = queue.held.iter().map(|(entry, reason)| (entry, Some(*reason)));
            let delivered = unacked.remove(id).unwrap_or_default();
            let waiting = queue.entries().chain(delivered.iter().copied());
            let all = waiting.map(|entry| (entry, None)).chain(held);
            for (entry, reason) in all.filter(|(entry, _)| entry.persisted) {
                let (place, count) = (entry.seq, entry.delivery_count);
                let places = vec![(*id, place, entry.expires_at)];
                records.push(Record::Message { message: Arc::clone(&entry.message), places });
                if count > 0 || entry.redelivered {
                    records.push(Record::Requeued { queue: *id, place, count });
                }
                records.extend(reason.map(|reason| Record::Held { queue: *id, place, reason }));
            }
            if !delivered.is_empty() {
                let places = delivered.iter().map(|entry| entry.seq).collect();
                records.push(Record::Delivered { queue: *id, places });
            }
        }
        records.append(&mut bindings);
        records
    }
}
