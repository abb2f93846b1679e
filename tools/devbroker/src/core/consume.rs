//! Consumers, their prefetch, and `basic.get`. The deliveries themselves are in `deliver`.
//! <https://www.rabbitmq.com/docs/consumers>, <https://www.rabbitmq.com/docs/consumer-prefetch>

use amq_protocol::protocol::basic;

use super::{
    ChannelId, Core,
    client::Consumer,
    error::AmqpError,
    method::{Answer, ServerMethod as _, answer, answer_unless_nowait},
    queue::Queue,
    queue_options::QueueKind,
    reply_to::REPLY_TO,
    value::{ConsumerId, Name, short_string, to_u32},
};

impl Core {
    pub(super) fn qos(&mut self, at: ChannelId, method: &basic::Qos) -> Answer {
        if method.global {
            return Err(AmqpError::not_implemented("basic.qos with global=true"));
        }
        self.channel(at)?.prefetch = method.prefetch_count;
        answer(basic::QosOk {})
    }

    pub(super) fn consume(&mut self, at: ChannelId, method: &basic::Consume) -> Answer {
        let tag = match method.consumer_tag.as_str() {
            "" => short_string(&self.generated_name("amq.ctag-")),
            _ => method.consumer_tag.clone(),
        };
        if method.queue.as_str() == REPLY_TO {
            return self.consume_replies(at, tag, method);
        }
        let name = self.named_queue(at, &method.queue)?;
        if self.channel(at)?.consumers.contains_key(tag.as_str()) {
            return Err(AmqpError::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        let queue = self.queue(at, &name)?;
        let prefetch = self.channel(at)?.prefetch;
        let offset = first_offset(&self.queues[&queue], &name, method, prefetch)?;
        let basic::Consume { no_ack, exclusive, .. } = *method;
        self.check_exclusive_use(&self.queues[&queue], exclusive)?;
        let id = self.id();
        let consumer =
            Consumer { at, queue, tag: tag.clone(), no_ack, exclusive, prefetch, unacked: 0, offset };
        self.consumers.insert(id, consumer);
        self.channel(at)?.consumers.insert(tag.to_string(), id);
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.consumers.push_back(id);
        }
        self.dirty.insert(queue);
        answer_unless_nowait(method.nowait, basic::ConsumeOk { consumer_tag: tag })
    }

    /// Refuses a new consumer if it or the present one is exclusive. Quorum queues and streams ignore the flag, as in RabbitMQ.
    fn check_exclusive_use(&self, queue: &Queue, exclusive: bool) -> Result<(), AmqpError> {
        let present = queue.consumers.front().and_then(|id| self.consumers.get(id));
        let is_taken = present.is_some_and(|present| present.exclusive || exclusive);
        if queue.kind() == QueueKind::Classic && (is_taken || exclusive && queue.options.single_active) {
            return Err(AmqpError::access_refused(format!("queue {} in exclusive use", queue.name)));
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, at: ChannelId, method: basic::Cancel) -> Answer {
        let consumer_tag = method.consumer_tag;
        let channel = self.channel(at)?;
        let consumer = channel.consumers.remove(consumer_tag.as_str());
        if let Some((_, address)) = channel.reply.take_if(|(tag, _)| *tag == consumer_tag) {
            self.replies.remove(&address);
        }
        if let Some(consumer) = consumer {
            self.remove_consumer(consumer);
        }
        answer_unless_nowait(method.nowait, basic::CancelOk { consumer_tag })
    }

    /// Removes a consumer, and an auto-delete queue with its last consumer.
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

    pub(super) fn get(&mut self, at: ChannelId, method: &basic::Get) -> Answer {
        let name = self.named_queue(at, &method.queue)?;
        let id = self.queue(at, &name)?;
        let options = &self.queues[&id].options;
        match (options.kind, options.single_active) {
            (QueueKind::Stream, _) => {
                let why = format!("basic.get not supported by stream queues queue {name}");
                return Err(AmqpError::not_implemented(why));
            }
            (QueueKind::Quorum, true) => {
                return Err(AmqpError::locked(format!(
                    "cannot obtain access to locked queue {name}. basic.get operations are not supported by \
                     <<\"quorum\">> queues with single active consumer"
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
        if queue.kind() == QueueKind::Classic {
            // Messages behind it that have expired do not count; in a quorum queue they count until it drops them.
            self.drop_expired(id, self.now);
        }
        let message_count = to_u32(self.queues[&id].ready_count());
        self.send_delivery(at, (id, None), entry, method.no_ack, |delivery_tag, entry| {
            let message = &entry.message;
            let (exchange, routing_key) = (message.exchange.clone(), message.routing_key.clone());
            let redelivered = entry.is_redelivered();
            basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count }.class()
        });
        Ok(None)
    }
}

/// Returns the offset at which a new consumer begins, or the error if the queue does not accept it.
fn first_offset(
    queue: &Queue,
    name: &Name,
    method: &basic::Consume,
    prefetch: u16,
) -> Result<u64, AmqpError> {
    let argument = |name: &str| method.arguments.inner().get(name);
    for (what, is_used) in [
        ("x-priority", argument("x-priority").is_some()),
        ("x-stream-filter", argument("x-stream-filter").is_some()),
    ] {
        if is_used {
            return Err(AmqpError::not_implemented(what));
        }
    }
    let offset = argument("x-stream-offset");
    match queue.kind() {
        QueueKind::Stream if method.no_ack => Err(AmqpError::not_implemented(format!(
            "automatic acknowledgement not supported by stream queue {name}"
        ))),
        QueueKind::Stream if prefetch == 0 => {
            let why = format!("consumer prefetch count is not set for stream queue {name}");
            Err(AmqpError::precondition(why))
        }
        QueueKind::Stream => queue.stream.start(name, offset),
        kind if offset.is_some() => {
            let module = kind.module();
            let why = format!("invalid arg 'x-stream-offset' for queue {name} of queue type {module}");
            Err(AmqpError::precondition(why))
        }
        _ => Ok(0),
    }
}
