//! Messages go out: consumers, their share, and `basic.get`.
//! <https://www.rabbitmq.com/docs/consumers>, <https://www.rabbitmq.com/docs/consumer-prefetch>

use std::sync::Arc;

use amq_protocol::{
    protocol::{AMQPClass, basic},
    types::ShortString,
};

use super::{
    At, ConsumerId, Core, Extra, MOST_OUTPUT, Out, QueueId,
    arguments::Kind,
    channel::{Answer, unless},
    message::{Entry, Message},
    queue::Queue,
    refusal::Refusal,
    reply_to::REPLY_TO,
    settle::Unacked,
    value::{Name, short, to_u32},
};

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) at: At,
    pub(super) queue: QueueId,
    pub(super) tag: ShortString,
    pub(super) no_ack: bool,
    pub(super) prefetch: u16,
    pub(super) unacked: usize,
    /// The next offset of a stream.
    pub(super) offset: u64,
}

impl Core {
    pub(super) fn qos(&mut self, at: At, method: &basic::Qos) -> Answer {
        if method.global {
            return Err(Refusal::not_implemented("basic.qos with global=true"));
        }
        self.channel(at)?.prefetch = method.prefetch_count;
        Ok(Some(AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))))
    }

    pub(super) fn consume(&mut self, at: At, method: &basic::Consume) -> Answer {
        let tag = match method.consumer_tag.as_str() {
            "" => short(&self.given_name("amq.ctag-")),
            _ => method.consumer_tag.clone(),
        };
        if method.queue.as_str() == REPLY_TO {
            return self.consume_replies(at, tag, method);
        }
        let name = self.named_queue(at, &method.queue)?;
        if self.channel(at)?.consumers.contains_key(tag.as_str()) {
            return Err(Refusal::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        let queue = self.queue(at, &name)?;
        let prefetch = self.channel(at)?.prefetch;
        let offset = first_offset(&self.queues[&queue], &name, method, prefetch)?;
        let (id, no_ack) = (self.id(), method.no_ack);
        let consumer = Consumer { at, queue, tag: tag.clone(), no_ack, prefetch, unacked: 0, offset };
        self.consumers.insert(id, consumer);
        self.channel(at)?.consumers.insert(tag.to_string(), id);
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.consumers.push_back(id);
        }
        self.dirty.insert(queue);
        let ok = basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: tag });
        unless(method.nowait, AMQPClass::Basic(ok))
    }

    pub(super) fn cancel(&mut self, at: At, method: basic::Cancel) -> Answer {
        let consumer_tag = method.consumer_tag;
        let channel = self.channel(at)?;
        let consumer = channel.consumers.remove(consumer_tag.as_str());
        if let Some((_, address)) = channel.reply.take_if(|(tag, _)| *tag == consumer_tag) {
            self.replies.remove(&address);
        }
        if let Some(consumer) = consumer {
            self.remove_consumer(consumer);
        }
        let ok = basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag });
        unless(method.nowait, AMQPClass::Basic(ok))
    }

    /// Takes a consumer off its queue; an auto-delete queue goes with its last.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else { return };
        let Some(queue) = self.queues.get_mut(&consumer.queue) else { return };
        queue.consumers.retain(|other| *other != id);
        queue.used_at = self.now;
        self.dirty.insert(consumer.queue);
        if queue.consumers.is_empty() && queue.auto_delete {
            self.delete_queue(consumer.queue);
        }
    }

    pub(super) fn get(&mut self, at: At, method: &basic::Get) -> Answer {
        let name = self.named_queue(at, &method.queue)?;
        let id = self.queue(at, &name)?;
        let settings = &self.queues[&id].settings;
        match (settings.kind, settings.single_active) {
            (Kind::Stream, _) => {
                let why = format!("basic.get not supported by stream queues queue {name}");
                return Err(Refusal::not_implemented(why));
            }
            (Kind::Quorum, true) => {
                return Err(Refusal::locked(format!(
                    "cannot obtain access to locked queue {name}. basic.get operations are not supported by \
                     quorum queues with single active consumer"
                )));
            }
            _ => {}
        }
        self.drop_expired(id, self.now);
        self.dirty.insert(id);
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(None) };
        queue.used_at = self.now;
        let Some(entry) = queue.take_first() else {
            return Ok(Some(AMQPClass::Basic(basic::AMQPMethod::GetEmpty(basic::GetEmpty {}))));
        };
        let message_count = to_u32(queue.ready_count());
        self.hand_over(at, (id, None), entry, method.no_ack, |delivery_tag, entry| {
            let Entry { redelivered, message, .. } = entry;
            let (exchange, routing_key) = (message.exchange.clone(), message.routing_key.clone());
            let redelivered = *redelivered;
            let ok = basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count };
            AMQPClass::Basic(basic::AMQPMethod::GetOk(ok))
        });
        Ok(None)
    }

    /// Delivers as much as consumers will take.
    pub(super) fn deliver(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(&id) else { return };
        if queue.kind() == Kind::Stream {
            queue.consumers.clone().into_iter().for_each(|consumer| self.deliver_stream(id, consumer));
            return;
        }
        while let Some(consumer) = self.next_consumer(id)
            && let Some(queue) = self.queues.get_mut(&id)
            && let Some(entry) = queue.take_first()
        {
            if !queue.settings.single_active {
                // Its turn comes again after the others'.
                queue.consumers.retain(|other| *other != consumer);
                queue.consumers.push_back(consumer);
            }
            self.deliver_to(consumer, entry);
        }
    }

    /// Whose turn it is, of those that have room.
    fn next_consumer(&self, id: QueueId) -> Option<ConsumerId> {
        let queue = self.queues.get(&id)?;
        let most = if queue.settings.single_active { 1 } else { usize::MAX };
        queue.consumers.iter().take(most).copied().find(|consumer| self.may_take(*consumer))
    }

    fn deliver_stream(&mut self, id: QueueId, consumer_id: ConsumerId) {
        while self.may_take(consumer_id)
            && let Some(consumer) = self.consumers.get_mut(&consumer_id)
            && let Some(queue) = self.queues.get(&id)
            && let Some((offset, message)) = queue.stream.at_or_after(consumer.offset)
        {
            consumer.offset = offset + 1;
            let entry = Entry::new(offset, message);
            self.deliver_to(consumer_id, entry);
        }
    }

    fn deliver_to(&mut self, id: ConsumerId, entry: Entry) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.unacked += usize::from(!consumer.no_ack);
        let (at, no_ack, queue, tag) = (consumer.at, consumer.no_ack, consumer.queue, consumer.tag.clone());
        self.hand_over(at, (queue, Some(id)), entry, no_ack, |delivery_tag, entry| {
            deliver_method(tag, delivery_tag, entry.redelivered, &entry.message)
        });
    }

    /// Sends a message on a channel, where it stays in hand until it is settled, if it has to be.
    fn hand_over(
        &mut self,
        at: At,
        (id, consumer): (QueueId, Option<ConsumerId>),
        entry: Entry,
        no_ack: bool,
        method: impl FnOnce(u64, &Entry) -> AMQPClass,
    ) {
        let Ok(channel) = self.channel(at) else { return };
        channel.last_tag += 1;
        let tag = channel.last_tag;
        let (message, method) = (Arc::clone(&entry.message), method(tag, &entry));
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let is_stream = queue.kind() == Kind::Stream;
        let extra = match (queue.kind(), entry.delivery_count) {
            (Kind::Stream, _) => Extra::StreamOffset(entry.place),
            (Kind::Quorum, count) if count > 0 => Extra::DeliveryCount(count),
            _ => Extra::None,
        };
        if no_ack {
            self.remove(id, &entry);
        } else {
            queue.unacked += usize::from(!is_stream);
            if entry.persisted {
                self.log(super::Record::Delivered { queue: id, place: entry.place });
            }
            let unacked = Unacked { queue: id, consumer, entry: (!is_stream).then_some(entry) };
            if let Ok(channel) = self.channel(at) {
                channel.unacked.insert(tag, unacked);
            }
        }
        self.send(at.connection, Out::Content(at.channel, method, message, extra));
    }

    /// Whether a consumer has room, and its connection.
    fn may_take(&self, id: ConsumerId) -> bool {
        let Some(consumer) = self.consumers.get(&id) else { return false };
        let connection = self.connections.get(&consumer.at.connection);
        connection.is_some_and(|connection| connection.output < MOST_OUTPUT)
            && (consumer.no_ack || consumer.prefetch == 0 || consumer.unacked < consumer.prefetch.into())
    }
}

/// Where a new consumer begins, if the queue takes it.
fn first_offset(queue: &Queue, name: &Name, method: &basic::Consume, prefetch: u16) -> Result<u64, Refusal> {
    let argument = |name: &str| method.arguments.inner().get(name);
    for (what, is_used) in [
        ("exclusive consumers", method.exclusive),
        ("x-priority", argument("x-priority").is_some()),
        ("x-stream-filter", argument("x-stream-filter").is_some()),
    ] {
        if is_used {
            return Err(Refusal::not_implemented(what));
        }
    }
    let offset = argument("x-stream-offset");
    match queue.kind() {
        Kind::Stream if method.no_ack => Err(Refusal::not_implemented(format!(
            "automatic acknowledgement not supported by stream queue {name}"
        ))),
        Kind::Stream if prefetch == 0 => {
            let why = format!("consumer prefetch count is not set for stream queue {name}");
            Err(Refusal::precondition(why))
        }
        Kind::Stream => queue.stream.start(offset),
        kind if offset.is_some() => {
            let module = kind.module();
            let why = format!("invalid arg 'x-stream-offset' for queue {name} of queue type {module}");
            Err(Refusal::precondition(why))
        }
        _ => Ok(0),
    }
}

/// `basic.deliver`.
pub(super) fn deliver_method(
    consumer_tag: ShortString,
    delivery_tag: u64,
    redelivered: bool,
    message: &Message,
) -> AMQPClass {
    let (exchange, routing_key) = (message.exchange.clone(), message.routing_key.clone());
    let deliver = basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key };
    AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))
}
