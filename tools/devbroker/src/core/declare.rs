//! Queues: made, compared, emptied, deleted.

use amq_protocol::{
    protocol::{AMQPClass, basic, queue as q},
    types::{FieldTable, ShortString},
};

use super::{
    ConnectionId, Core, Out, QueueId,
    arguments::{Kind, Settings, assert_same, inequivalent},
    exchange::Destination,
    message::short,
    queue::Queue,
    record::Record,
    refusal::Refusal,
    reply_to::REPLY_TO,
};

type Done = Result<(), Refusal>;

impl Core {
    pub(super) fn declare_queue(&mut self, id: ConnectionId, channel: u16, method: q::Declare) -> Done {
        let vhost = self.vhost_of(id);
        let mut name: String = method.queue.into();
        if name.starts_with(REPLY_TO) {
            if name != REPLY_TO && !self.replies.contains_key(&name) {
                return Err(Refusal::no_queue(&name, &vhost));
            }
            self.declared(id, channel, method.nowait, &name, (0, 1));
            return Ok(());
        }
        if method.passive {
            let queue = self.queue(id, &vhost, &name)?;
            let counts = self.counts(queue);
            self.channel(id, channel)?.last_queue.clone_from(&name);
            self.declared(id, channel, method.nowait, &name, counts);
            return Ok(());
        }
        let generated = name.is_empty();
        if generated {
            name = self.name("amq.gen-");
        }
        let owner = method.exclusive.then_some(id);
        let existing = self.vhost(&vhost).queues.get(&name).copied();
        let queue_id = if let Some(existing) = existing {
            let queue = &self.queues[&existing];
            if queue.owner != owner {
                return Err(Refusal::locked(&name, &vhost));
            }
            for (arg, received, current) in [
                ("durable", method.durable, queue.durable),
                ("auto_delete", method.auto_delete, queue.auto_delete),
            ] {
                if received != current {
                    let (received, current) = (format!("'{received}'"), format!("'{current}'"));
                    return Err(inequivalent(arg, "queue", &name, &vhost, &received, &current));
                }
            }
            Settings::read(&method.arguments, &name, &vhost)?;
            assert_same(queue.kind(), &queue.arguments, &method.arguments, &name, &vhost)?;
            existing
        } else {
            if name.starts_with("amq.") && !generated {
                return Err(reserved("queue", &name));
            }
            if self.vhost(&vhost).queues.len() >= self.limits.queues {
                let limit = self.limits.queues;
                return Err(Refusal::precondition(format!(
                    "cannot declare queue '{name}': queue limit ({limit}) is reached"
                )));
            }
            let settings = Settings::read(&method.arguments, &name, &vhost)?;
            if settings.kind != Kind::Classic {
                if generated {
                    let module = settings.kind.module();
                    return Err(Refusal::precondition(format!(
                        "Cannot declare a server-named queue for type {module}"
                    )));
                }
                let wrong = [
                    (!method.durable, "non-durable"),
                    (method.auto_delete, "auto-delete"),
                    (method.exclusive, "exclusive-owner"),
                ];
                if let Some((_, property)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
                    return Err(Refusal::precondition(format!(
                        "invalid property '{property}' for queue '{name}' in vhost '{vhost}'"
                    )));
                }
            }
            let mut queue = Queue::new(&vhost, &name, method.arguments, settings, self.now);
            (queue.durable, queue.auto_delete, queue.owner) = (method.durable, method.auto_delete, owner);
            let queue_id = self.id();
            if queue.durable && owner.is_none() {
                self.output.records.push(Record::queue(queue_id, &queue));
            }
            self.queues.insert(queue_id, queue);
            self.vhost(&vhost).queues.insert(name.clone(), queue_id);
            queue_id
        };
        if let Some(queue) = self.queues.get_mut(&queue_id) {
            queue.used_at = self.now;
        }
        self.dirty.insert(queue_id);
        let counts = self.counts(queue_id);
        self.channel(id, channel)?.last_queue.clone_from(&name);
        self.declared(id, channel, method.nowait, &name, counts);
        Ok(())
    }

    pub(super) fn delete_queue_method(&mut self, id: ConnectionId, channel: u16, method: &q::Delete) -> Done {
        let vhost = self.vhost_of(id);
        let name = self.queue_name(id, channel, &method.queue)?;
        let (mut message_count, mut deleted) = (0, None);
        if self.vhost(&vhost).queues.contains_key(&name) {
            let queue_id = self.queue(id, &vhost, &name)?;
            let queue = &self.queues[&queue_id];
            for (asked, flag, state, is) in [
                (method.if_unused, "if-unused", "in use", !queue.consumers.is_empty()),
                (method.if_empty, "if-empty", "not empty", queue.ready_count() > 0),
            ] {
                if asked && queue.kind() == Kind::Quorum {
                    return Err(Refusal::not_implemented(format!(
                        "cannot delete queue '{name}' in vhost '{vhost}'. queue.delete operations with {flag} \
                         flag set are not supported by quorum queues"
                    )));
                }
                if asked && is && queue.kind() != Kind::Stream {
                    return Err(Refusal::precondition(format!("queue '{name}' in vhost '{vhost}' {state}")));
                }
            }
            message_count = to_u32(queue.ready_count());
            deleted = Some(queue_id);
        }
        let ok = q::AMQPMethod::DeleteOk(q::DeleteOk { message_count });
        self.answer(id, channel, method.nowait, AMQPClass::Queue(ok));
        // Its consumers are told after the one who wanted it, as RabbitMQ does.
        if let Some(queue) = deleted {
            self.delete_queue(queue);
        }
        Ok(())
    }

    pub(super) fn purge(&mut self, id: ConnectionId, channel: u16, method: &q::Purge) -> Done {
        let vhost = self.vhost_of(id);
        let name = self.queue_name(id, channel, &method.queue)?;
        let queue_id = self.queue(id, &vhost, &name)?;
        let Some(queue) = self.queues.get_mut(&queue_id) else { return Ok(()) };
        if queue.kind() == Kind::Stream {
            let why = format!("queue.purge not supported by stream queues queue '{name}' in vhost '{vhost}'");
            return Err(Refusal::not_implemented(why));
        }
        let entries = queue.take_all();
        for entry in &entries {
            self.remove(queue_id, entry);
        }
        let message_count = to_u32(entries.len());
        let ok = q::AMQPMethod::PurgeOk(q::PurgeOk { message_count });
        self.answer(id, channel, method.nowait, AMQPClass::Queue(ok));
        Ok(())
    }

    /// A queue that this connection may use.
    pub(super) fn queue(&mut self, id: ConnectionId, vhost: &str, name: &str) -> Result<QueueId, Refusal> {
        let queue = self.vhost(vhost).queues.get(name).copied();
        let queue = queue.ok_or_else(|| Refusal::no_queue(name, vhost))?;
        match self.queues[&queue].owner {
            Some(owner) if owner != id => Err(Refusal::locked(name, vhost)),
            _ => Ok(queue),
        }
    }

    /// An empty name is the queue that was declared last on the channel.
    pub(super) fn queue_name(
        &mut self,
        id: ConnectionId,
        channel: u16,
        name: &ShortString,
    ) -> Result<String, Refusal> {
        if !name.as_str().is_empty() {
            return Ok(name.to_string());
        }
        let last = self.channel(id, channel)?.last_queue.clone();
        if last.is_empty() { Err(Refusal::not_found("no previously declared queue")) } else { Ok(last) }
    }

    /// Deletes a queue with all that is in it; its consumers are told.
    pub(super) fn delete_queue(&mut self, id: QueueId) {
        let Some(mut queue) = self.queues.remove(&id) else { return };
        self.removed.remove(&id);
        if queue.durable && queue.owner.is_none() {
            self.output.records.push(Record::QueueDeleted { queue: id });
        }
        let vhost = queue.vhost.clone();
        self.vhost(&vhost).queues.remove(&queue.name);
        self.unbind_all(&vhost, &Destination::Queue(queue.name.clone()));
        let waiting = queue.take_all().into_iter().chain(queue.held.drain(..).map(|(entry, _)| entry));
        let freed: usize = waiting.map(|entry| entry.message.cost()).sum();
        let log: usize = queue.log.iter().map(|(_, _, message)| message.cost()).sum();
        self.memory = self.memory.saturating_sub(freed + log);
        for consumer in queue.consumers {
            let Some(consumer) = self.consumers.remove(&consumer) else { continue };
            let Some(connection) = self.connections.get_mut(&consumer.connection) else { continue };
            let notify = wants_cancel(&connection.peer.properties);
            if let Some(channel) = connection.channels.get_mut(&consumer.channel) {
                channel.consumers.remove(consumer.tag.as_str());
                if notify {
                    let cancel = basic::Cancel { consumer_tag: consumer.tag, nowait: true };
                    let cancel = AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel));
                    self.send(consumer.connection, Out::Method(consumer.channel, cancel));
                }
            }
        }
    }

    pub(super) fn answer(&mut self, id: ConnectionId, channel: u16, nowait: bool, method: AMQPClass) {
        if !nowait {
            self.send(id, Out::Method(channel, method));
        }
    }

    fn declared(&mut self, id: ConnectionId, channel: u16, nowait: bool, name: &str, counts: (u32, u32)) {
        let (message_count, consumer_count) = counts;
        let ok = q::DeclareOk { queue: short(name), message_count, consumer_count };
        self.answer(id, channel, nowait, AMQPClass::Queue(q::AMQPMethod::DeclareOk(ok)));
    }

    fn counts(&self, queue: QueueId) -> (u32, u32) {
        let queue = &self.queues[&queue];
        // RabbitMQ does not count who reads a stream.
        let consumers = if queue.kind() == Kind::Stream { 0 } else { queue.consumers.len() };
        (to_u32(queue.ready_count()), to_u32(consumers))
    }
}

/// Counts on the wire have 32 bits.
pub(super) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn reserved(what: &str, name: &str) -> Refusal {
    Refusal::access_refused(format!("{what} name '{name}' contains reserved prefix 'amq.*'"))
}

/// Whether a client said that it understands our `basic.cancel`.
fn wants_cancel(properties: &FieldTable) -> bool {
    capability(properties, "consumer_cancel_notify")
}

/// A capability of a client.
#[must_use]
pub fn capability(properties: &FieldTable, name: &str) -> bool {
    use amq_protocol::types::AMQPValue;
    match properties.inner().get("capabilities") {
        Some(AMQPValue::FieldTable(table)) => table.inner().get(name) == Some(&AMQPValue::Boolean(true)),
        _ => false,
    }
}
