//! Who wants messages: consumers, their prefetch, and `basic.get`. What they then get is in `deliver`.
//! <https://www.rabbitmq.com/docs/consumers>, <https://www.rabbitmq.com/docs/consumer-prefetch>

use amq_protocol::protocol::basic;

use super::{
    At, Core,
    arguments::Kind,
    client::Consumer,
    message::Entry,
    method::{Answer, Say as _, answer, unless},
    queue::Queue,
    refusal::Refusal,
    reply_to::REPLY_TO,
    value::{ConsumerId, Name, short, to_u32},
};

impl Core {
    pub(super) fn qos(&mut self, at: At, method: &basic::Qos) -> Answer {
        if method.global {
            return Err(Refusal::not_implemented("basic.qos with global=true"));
        }
        self.channel(at)?.prefetch = method.prefetch_count;
        answer(basic::QosOk {})
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
        unless(method.nowait, basic::ConsumeOk { consumer_tag: tag })
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
        unless(method.nowait, basic::CancelOk { consumer_tag })
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
            return answer(basic::GetEmpty {});
        };
        let message_count = to_u32(queue.ready_count());
        self.hand_over(at, (id, None), entry, method.no_ack, |delivery_tag, entry| {
            let Entry { redelivered, message, .. } = entry;
            let (exchange, routing_key) = (message.exchange.clone(), message.routing_key.clone());
            let redelivered = *redelivered;
            basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count }.class()
        });
        Ok(None)
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
