//! Declares, purges and deletes queues.

use amq_protocol::{
    protocol::{basic, queue as q},
    types::ShortString,
};

use super::{
    ChannelId, Core, QueueId,
    equivalent::check_same_queue,
    error::AmqpError,
    method::{Answer, answer_unless_nowait},
    queue::Queue,
    queue_options::{QueueKind, QueueOptions},
    record::Record,
    reply_to::REPLY_TO,
    value::{Name, short_string, to_u32},
};

impl Core {
    pub(super) fn declare_queue(&mut self, at: ChannelId, method: q::Declare) -> Answer {
        let (nowait, passive) = (method.nowait, method.passive);
        let mut name = self.name_at(at, method.queue.as_str());
        if name.name.starts_with(REPLY_TO) {
            if name.name != REPLY_TO && !self.replies.contains_key(&name.name) {
                return Err(AmqpError::no_queue(&name));
            }
            return declared(nowait, &name, 0, 1);
        }
        let given = name.name.is_empty() && !passive;
        if given {
            name.name = self.generated_name("amq.gen-");
        }
        let id = match self.queue_ids.get(&name) {
            _ if passive => self.queue(at, &name)?,
            Some(id) => {
                check_same_queue(&self.queues[id], at, &method)?;
                *id
            }
            None => self.make_queue(at, name.clone(), given, method)?,
        };
        self.channel(at)?.last_queue.clone_from(&name.name);
        self.dirty.insert(id);
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(None) };
        queue.used_at = self.now;
        // RabbitMQ does not count the consumers of a stream.
        let consumers = if queue.kind() == QueueKind::Stream { 0 } else { queue.consumers.len() };
        declared(nowait, &name, queue.ready_count(), consumers)
    }

    fn make_queue(
        &mut self,
        at: ChannelId,
        name: Name,
        given: bool,
        method: q::Declare,
    ) -> Result<QueueId, AmqpError> {
        if name.name.starts_with("amq.") && !given {
            return Err(AmqpError::reserved("queue", &name));
        }
        let options = QueueOptions::read(&method.arguments, &name)?;
        if options.kind != QueueKind::Classic {
            if given {
                let module = options.kind.module();
                let why = format!("Cannot declare a server-named queue for type {module}");
                return Err(AmqpError::precondition(why));
            }
            let wrong = [
                (!method.durable, "non-durable"),
                (method.auto_delete, "auto-delete"),
                (method.exclusive, "exclusive-owner"),
            ];
            if let Some((_, property)) = wrong.into_iter().find(|(wrong, _)| *wrong) {
                return Err(AmqpError::precondition(format!(
                    "invalid property '{property}' for queue {name}"
                )));
            }
        }
        let mut queue = Queue::new(name.clone(), method.arguments, options, self.now);
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

    pub(super) fn delete_queue_method(&mut self, at: ChannelId, method: &q::Delete) -> Answer {
        let name = self.named_queue(at, &method.queue)?;
        let ok = |count| q::DeleteOk { message_count: to_u32(count) };
        if !self.queue_ids.contains_key(&name) {
            return answer_unless_nowait(method.nowait, ok(0));
        }
        let id = self.queue(at, &name)?;
        let queue = &self.queues[&id];
        for (asked, flag, state, is) in [
            (method.if_unused, "if-unused", "in use", !queue.consumers.is_empty()),
            (method.if_empty, "if-empty", "not empty", queue.ready_count() > 0),
        ] {
            if asked && queue.kind() == QueueKind::Quorum {
                return Err(AmqpError::not_implemented(format!(
                    "cannot delete queue {name}. queue.delete operations with {flag} flag set are not \
                     supported by quorum queues"
                )));
            }
            if asked && is && queue.kind() == QueueKind::Classic {
                return Err(AmqpError::precondition(format!("queue {name} {state}")));
            }
        }
        // The consumers are notified after the client that deletes the queue, as in RabbitMQ.
        if !method.nowait {
            self.send_method(at, ok(self.queues[&id].ready_count()));
        }
        self.delete_queue(id);
        Ok(None)
    }

    pub(super) fn purge(&mut self, at: ChannelId, method: &q::Purge) -> Answer {
        let name = self.named_queue(at, &method.queue)?;
        let id = self.queue(at, &name)?;
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(None) };
        if queue.kind() == QueueKind::Stream {
            let why = format!("queue.purge not supported by stream queues queue {name}");
            return Err(AmqpError::not_implemented(why));
        }
        let entries = queue.take_all();
        entries.iter().for_each(|entry| self.remove(id, entry));
        answer_unless_nowait(method.nowait, q::PurgeOk { message_count: to_u32(entries.len()) })
    }

    /// Returns a queue that this connection may use.
    pub(super) fn queue(&self, at: ChannelId, name: &Name) -> Result<QueueId, AmqpError> {
        let id = *self.queue_ids.get(name).ok_or_else(|| AmqpError::no_queue(name))?;
        match self.queues[&id].owner {
            Some(owner) if owner != at.connection => Err(AmqpError::exclusive(name)),
            _ => Ok(id),
        }
    }

    /// Returns the name of a queue; an empty name stands for the queue that was declared last on the channel.
    pub(super) fn named_queue(&mut self, at: ChannelId, name: &ShortString) -> Result<Name, AmqpError> {
        if !name.as_str().is_empty() {
            return Ok(self.name_at(at, name.as_str()));
        }
        let last = self.channel(at)?.last_queue.clone();
        if last.is_empty() {
            return Err(AmqpError::not_found("no previously declared queue"));
        }
        Ok(self.name_at(at, &last))
    }

    /// Deletes a queue with its messages, and notifies the consumers that have announced the capability.
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
            if connection.is_some_and(|connection| connection.peer.has_capability("consumer_cancel_notify")) {
                let cancel = basic::Cancel { consumer_tag: consumer.tag, nowait: true };
                self.send_method(consumer.at, cancel);
            }
        }
    }
}

fn declared(nowait: bool, name: &Name, messages: usize, consumers: usize) -> Answer {
    let (message_count, consumer_count) = (to_u32(messages), to_u32(consumers));
    answer_unless_nowait(
        nowait,
        q::DeclareOk { queue: short_string(&name.name), message_count, consumer_count },
    )
}
