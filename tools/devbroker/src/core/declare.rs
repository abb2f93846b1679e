//! Queues: made, compared, emptied, deleted.

use amq_protocol::{
    protocol::{basic, queue as q},
    types::ShortString,
};

use super::{
    At, Core, QueueId,
    arguments::{Kind, Settings},
    equivalent::same_queue,
    method::{Answer, unless},
    queue::Queue,
    record::Record,
    refusal::Refusal,
    reply_to::REPLY_TO,
    value::{Name, short, to_u32},
};

impl Core {
    pub(super) fn declare_queue(&mut self, at: At, method: q::Declare) -> Answer {
        let (nowait, passive) = (method.nowait, method.passive);
        let mut name = self.name_at(at, method.queue.as_str());
        if name.name.starts_with(REPLY_TO) {
            if name.name != REPLY_TO && !self.replies.contains_key(&name.name) {
                return Err(Refusal::no_queue(&name));
            }
            return declared(nowait, &name, 0, 1);
        }
        let given = name.name.is_empty() && !passive;
        if given {
            name.name = self.given_name("amq.gen-");
        }
        let id = match self.queue_ids.get(&name) {
            _ if passive => self.queue(at, &name)?,
            Some(id) => {
                same_queue(&self.queues[id], at, &method)?;
                *id
            }
            None => self.make_queue(at, name.clone(), given, method)?,
        };
        self.channel(at)?.last_queue.clone_from(&name.name);
        self.dirty.insert(id);
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(None) };
        queue.used_at = self.now;
        // RabbitMQ does not count who reads a stream.
        let consumers = if queue.kind() == Kind::Stream { 0 } else { queue.consumers.len() };
        declared(nowait, &name, queue.ready_count(), consumers)
    }

    fn make_queue(
        &mut self,
        at: At,
        name: Name,
        given: bool,
        method: q::Declare,
    ) -> Result<QueueId, Refusal> {
        if name.name.starts_with("amq.") && !given {
            return Err(Refusal::reserved("queue", &name));
        }
        let settings = Settings::read(&method.arguments, &name)?;
        if settings.kind != Kind::Classic {
            if given {
                let module = settings.kind.module();
                let why = format!("Cannot declare a server-named queue for type {module}");
                return Err(Refusal::precondition(why));
            }
            let wrong = [
                (!method.durable, "non-durable"),
                (method.auto_delete, "auto-delete"),
                (method.exclusive, "exclusive-owner"),
            ];
            if let Some((_, property)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
                return Err(Refusal::precondition(format!("invalid property '{property}' for queue {name}")));
            }
        }
        let mut queue = Queue::new(name.clone(), method.arguments, settings, self.now);
        (queue.durable, queue.auto_delete) = (method.durable, method.auto_delete);
        queue.owner = method.exclusive.then_some(at.connection);
        let id = self.id();
        if queue.is_persisted() {
            self.log(Record::of_queue(id, &queue));
        }
        self.queue_ids.insert(name, id);
        self.queues.insert(id, queue);
        Ok(id)
    }

    pub(super) fn delete_queue_method(&mut self, at: At, method: &q::Delete) -> Answer {
        let name = self.named_queue(at, &method.queue)?;
        let ok = |count| q::DeleteOk { message_count: to_u32(count) };
        if !self.queue_ids.contains_key(&name) {
            return unless(method.nowait, ok(0));
        }
        let id = self.queue(at, &name)?;
        let queue = &self.queues[&id];
        for (asked, flag, state, is) in [
            (method.if_unused, "if-unused", "in use", !queue.consumers.is_empty()),
            (method.if_empty, "if-empty", "not empty", queue.ready_count() > 0),
        ] {
            if asked && queue.kind() == Kind::Quorum {
                return Err(Refusal::not_implemented(format!(
                    "cannot delete queue {name}. queue.delete operations with {flag} flag set are not \
                     supported by quorum queues"
                )));
            }
            if asked && is && queue.kind() == Kind::Classic {
                return Err(Refusal::precondition(format!("queue {name} {state}")));
            }
        }
        // Its consumers are told after the one who wanted it, as RabbitMQ does.
        if !method.nowait {
            self.send_method(at, ok(self.queues[&id].ready_count()));
        }
        self.delete_queue(id);
        Ok(None)
    }

    pub(super) fn purge(&mut self, at: At, method: &q::Purge) -> Answer {
        let name = self.named_queue(at, &method.queue)?;
        let id = self.queue(at, &name)?;
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(None) };
        if queue.kind() == Kind::Stream {
            let why = format!("queue.purge not supported by stream queues queue {name}");
            return Err(Refusal::not_implemented(why));
        }
        let entries = queue.take_all();
        entries.iter().for_each(|entry| self.remove(id, entry));
        unless(method.nowait, q::PurgeOk { message_count: to_u32(entries.len()) })
    }

    /// A queue that this connection may use.
    pub(super) fn queue(&self, at: At, name: &Name) -> Result<QueueId, Refusal> {
        let id = *self.queue_ids.get(name).ok_or_else(|| Refusal::no_queue(name))?;
        match self.queues[&id].owner {
            Some(owner) if owner != at.connection => Err(Refusal::exclusive(name)),
            _ => Ok(id),
        }
    }

    /// An empty name is the queue that was declared last on the channel.
    pub(super) fn named_queue(&mut self, at: At, name: &ShortString) -> Result<Name, Refusal> {
        if !name.as_str().is_empty() {
            return Ok(self.name_at(at, name.as_str()));
        }
        let last = self.channel(at)?.last_queue.clone();
        if last.is_empty() {
            return Err(Refusal::not_found("no previously declared queue"));
        }
        Ok(self.name_at(at, &last))
    }

    /// Deletes a queue with all that is in it; its consumers are told, if they said that they understand it.
    pub(super) fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(&id) else { return };
        self.queue_ids.remove(&queue.name);
        self.timers.retain(|(_, other)| *other != id);
        if queue.is_persisted() {
            self.log(Record::QueueDeleted { queue: id });
        }
        self.remove_bindings(|_, binding| binding.queue == queue.name);
        for consumer in queue.consumers {
            let Some(consumer) = self.consumers.remove(&consumer) else { continue };
            if let Ok(channel) = self.channel(consumer.at) {
                channel.consumers.remove(consumer.tag.as_str());
            }
            let connection = self.connections.get(&consumer.at.connection);
            if connection.is_some_and(|connection| connection.peer.is_capable("consumer_cancel_notify")) {
                let cancel = basic::Cancel { consumer_tag: consumer.tag, nowait: true };
                self.send_method(consumer.at, cancel);
            }
        }
    }
}

fn declared(nowait: bool, name: &Name, messages: usize, consumers: usize) -> Answer {
    let (message_count, consumer_count) = (to_u32(messages), to_u32(consumers));
    unless(nowait, q::DeclareOk { queue: short(&name.name), message_count, consumer_count })
}
