//! Messages go out: consumers, their share, and `basic.get`.
//! <https://www.rabbitmq.com/docs/consumers>, <https://www.rabbitmq.com/docs/consumer-prefetch>

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic};

use super::{
    ConnectionId, ConsumerId, Core, Extra, Out, QueueId,
    arguments::Kind,
    declare::to_u32,
    message::{Entry, number, short, type_name},
    queue::Queue,
    refusal::Refusal,
    reply_to::REPLY_TO,
    session::{Consumer, Unacked},
};

type Done = Result<(), Refusal>;

impl Core {
    pub(super) fn qos(&mut self, id: ConnectionId, number: u16, method: &basic::Qos) -> Done {
        let channel = self.channel(id, number)?;
        if method.global {
            channel.global_prefetch = method.prefetch_count;
            self.wake(id, number);
        } else {
            channel.prefetch = method.prefetch_count;
        }
        self.answer(id, number, false, AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {})));
        Ok(())
    }

    pub(super) fn consume(&mut self, id: ConnectionId, number: u16, method: &basic::Consume) -> Done {
        let vhost = self.vhost_of(id);
        let tag = match method.consumer_tag.as_str() {
            "" => short(&self.name("amq.ctag-")),
            _ => method.consumer_tag.clone(),
        };
        if method.queue.as_str() == REPLY_TO {
            return self.consume_replies(id, number, tag, method);
        }
        let name = self.queue_name(id, number, &method.queue)?;
        if self.channel(id, number)?.consumers.contains_key(tag.as_str()) {
            return Err(Refusal::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        if self.channel(id, number)?.consumers.len() >= self.limits.consumers {
            let limit = self.limits.consumers;
            return Err(Refusal::not_allowed(format!("reached maximum ({limit}) of consumers per channel")));
        }
        let queue_id = self.queue(id, &vhost, &name)?;
        let (prefetch, global) = {
            let channel = self.channel(id, number)?;
            (channel.prefetch, channel.global_prefetch)
        };
        let queue = &self.queues[&queue_id];
        let at = format!("queue '{name}' in vhost '{vhost}'");
        let kind = queue.kind();
        let argument = |name: &str| method.arguments.inner().get(name);
        for (name, known) in [("x-stream-offset", kind == Kind::Stream), ("x-priority", kind != Kind::Stream)]
        {
            if argument(name).is_some() && !known {
                return Err(Refusal::precondition(format!(
                    "invalid arg '{name}' for {at} of queue type {}",
                    kind.module()
                )));
            }
        }
        if argument("x-stream-filter").is_some() {
            return Err(Refusal::not_implemented("x-stream-filter"));
        }
        let priority = match argument("x-priority") {
            None => 0,
            Some(value) => number_of_priority(value, &at)?,
        };
        let mut offset = 0;
        if kind == Kind::Stream {
            if method.no_ack {
                let why = format!("automatic acknowledgement not supported by stream {at}");
                return Err(Refusal::not_implemented(why));
            }
            if prefetch == 0 {
                let why = format!("consumer prefetch count is not set for stream {at}");
                return Err(Refusal::precondition(why));
            }
            offset = queue.log.start(argument("x-stream-offset"), self.now)?;
        } else if kind == Kind::Quorum {
            if global > 0 {
                return Err(Refusal::not_implemented(format!("{at} does not support global qos")));
            }
        } else {
            let exclusive =
                |id: &ConsumerId| self.consumers.get(id).is_some_and(|consumer| consumer.exclusive);
            let alone = method.exclusive && (!queue.consumers.is_empty() || queue.settings.single_active);
            if alone || queue.consumers.iter().any(exclusive) {
                return Err(Refusal::access_refused(format!("{at} in exclusive use")));
            }
        }
        let consumer = self.id();
        self.consumers.insert(
            consumer,
            Consumer {
                connection: id,
                channel: number,
                queue: queue_id,
                tag: tag.clone(),
                no_ack: method.no_ack,
                exclusive: method.exclusive,
                priority,
                prefetch,
                unacked: 0,
                offset,
            },
        );
        self.channel(id, number)?.consumers.insert(tag.to_string(), consumer);
        let ok = basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: tag });
        self.answer(id, number, method.nowait, AMQPClass::Basic(ok));
        if let Some(queue) = self.queues.get_mut(&queue_id) {
            let consumers = &self.consumers;
            queue.put_behind(consumer, |id| consumers.get(&id).map_or(0, |consumer| consumer.priority));
            queue.active = queue.active.or(Some(consumer));
        }
        self.dirty.insert(queue_id);
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: ConnectionId, number: u16, method: &basic::Cancel) -> Done {
        let channel = self.channel(id, number)?;
        let tag = method.consumer_tag.clone();
        let consumer = channel.consumers.remove(tag.as_str());
        if channel.reply.as_ref().is_some_and(|(reply, _)| *reply == tag)
            && let Some((_, address)) = channel.reply.take()
        {
            self.replies.remove(&address);
        }
        let ok = basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag: tag });
        self.answer(id, number, method.nowait, AMQPClass::Basic(ok));
        if let Some(consumer) = consumer {
            self.remove_consumer(consumer);
        }
        Ok(())
    }

    /// Takes a consumer off its queue; an auto-delete queue goes with its last.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else { return };
        let Some(queue) = self.queues.get_mut(&consumer.queue) else { return };
        queue.consumers.retain(|other| *other != id);
        if queue.active == Some(id) {
            queue.active = queue.consumers.front().copied();
        }
        queue.used_at = self.now;
        self.dirty.insert(consumer.queue);
        if queue.consumers.is_empty() && queue.auto_delete {
            self.delete_queue(consumer.queue);
        }
    }

    pub(super) fn get(&mut self, id: ConnectionId, number: u16, method: &basic::Get) -> Done {
        let vhost = self.vhost_of(id);
        let name = self.queue_name(id, number, &method.queue)?;
        let queue_id = self.queue(id, &vhost, &name)?;
        if self.queues[&queue_id].kind() == Kind::Stream {
            let why = format!("basic.get not supported by stream queues queue '{name}' in vhost '{vhost}'");
            return Err(Refusal::not_implemented(why));
        }
        let (kind, single) = (self.queues[&queue_id].kind(), self.queues[&queue_id].settings.single_active);
        if kind == Kind::Quorum && single {
            return Err(Refusal::locked_by_type(&name, &vhost));
        }
        self.drop_expired(queue_id, self.now);
        let Some(queue) = self.queues.get_mut(&queue_id) else { return Ok(()) };
        queue.used_at = self.now;
        let Some(entry) = queue.take_first() else {
            let empty = basic::AMQPMethod::GetEmpty(basic::GetEmpty {});
            self.answer(id, number, false, AMQPClass::Basic(empty));
            return Ok(());
        };
        // The next one may be due for its end, which a quorum queue finds out later.
        if kind == Kind::Classic {
            self.drop_expired(queue_id, self.now);
        }
        self.dirty.insert(queue_id);
        let message_count = to_u32(self.queues.get(&queue_id).map_or(0, Queue::ready_count));
        let get_ok = |delivery_tag| {
            basic::AMQPMethod::GetOk(basic::GetOk {
                delivery_tag,
                redelivered: entry.redelivered,
                exchange: entry.message.exchange.clone(),
                routing_key: entry.message.routing_key().clone(),
                message_count,
            })
        };
        let channel = self.channel(id, number)?;
        channel.next_tag += 1;
        let (tag, ok) = (channel.next_tag, get_ok(channel.next_tag));
        self.hand_over(id, number, tag, AMQPClass::Basic(ok), queue_id, None, entry, method.no_ack);
        Ok(())
    }

    /// A channel has more room: its consumers may get something.
    pub(super) fn wake(&mut self, id: ConnectionId, number: u16) {
        let channel = self.connections.get(&id).and_then(|connection| connection.channels.get(&number));
        let consumers = channel.into_iter().flat_map(|channel| channel.consumers.values());
        let queues = consumers.filter_map(|consumer| self.consumers.get(consumer)).map(|it| it.queue);
        self.dirty.extend(queues);
    }

    /// Delivers as much as consumers will take.
    pub(super) fn deliver(&mut self, queue_id: QueueId) {
        if self.queues.get(&queue_id).is_some_and(|queue| queue.kind() == Kind::Stream) {
            return self.deliver_stream(queue_id);
        }
        loop {
            let Some(queue) = self.queues.get(&queue_id) else { return };
            let Some(first) = queue.first() else { return };
            // What expires in this very millisecond may still be delivered: with a TTL of 0 that is the only way.
            if first.expires_at.is_some_and(|at| at < self.now) {
                self.drop_expired(queue_id, self.now - 1);
                continue;
            }
            let single = queue.settings.single_active.then_some(queue.active).flatten();
            let mut candidates = queue.consumers.iter().copied();
            let next = candidates.find(|id| single.is_none_or(|active| active == *id) && self.may_take(*id));
            let Some(consumer_id) = next else { return };
            let Some(queue) = self.queues.get_mut(&queue_id) else { return };
            let Some(entry) = queue.take_first() else { return };
            if queue.consumers.len() > 1 {
                let consumers = &self.consumers;
                queue
                    .put_behind(consumer_id, |id| consumers.get(&id).map_or(0, |consumer| consumer.priority));
            }
            let Some(consumer) = self.consumers.get_mut(&consumer_id) else { return };
            let (id, number, no_ack) = (consumer.connection, consumer.channel, consumer.no_ack);
            consumer.unacked += usize::from(!no_ack);
            let consumer_tag = consumer.tag.clone();
            let Ok(channel) = self.channel(id, number) else { return };
            channel.next_tag += 1;
            let tag = channel.next_tag;
            let deliver = basic::Deliver {
                consumer_tag,
                delivery_tag: tag,
                redelivered: entry.redelivered,
                exchange: entry.message.exchange.clone(),
                routing_key: entry.message.routing_key().clone(),
            };
            let deliver = AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver));
            self.hand_over(id, number, tag, deliver, queue_id, Some(consumer_id), entry, no_ack);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a delivery is made of; used by consumers and by get")]
    fn hand_over(
        &mut self,
        id: ConnectionId,
        number: u16,
        tag: u64,
        method: AMQPClass,
        queue_id: QueueId,
        consumer: Option<ConsumerId>,
        entry: Entry,
        no_ack: bool,
    ) {
        let Some(queue) = self.queues.get_mut(&queue_id) else { return };
        let extra = match (queue.kind(), entry.delivery_count) {
            (Kind::Quorum, count) if count > 0 => Extra::DeliveryCount(count),
            _ => Extra::None,
        };
        let message = Arc::clone(&entry.message);
        if no_ack {
            self.remove(queue_id, &entry);
        } else {
            queue.unacked += 1;
            if entry.persisted {
                self.delivered.entry(queue_id).or_default().push(entry.seq);
            }
            if let Ok(channel) = self.channel(id, number) {
                channel.unacked.insert(tag, Unacked { queue: queue_id, consumer, entry: Some(entry) });
            }
        }
        self.send(id, Out::Content(number, method, message, extra));
    }

    fn deliver_stream(&mut self, queue_id: QueueId) {
        let Some(queue) = self.queues.get(&queue_id) else { return };
        for consumer_id in queue.consumers.clone() {
            while self.may_take(consumer_id) {
                let Some(queue) = self.queues.get(&queue_id) else { return };
                let Some(consumer) = self.consumers.get_mut(&consumer_id) else { break };
                let offset = consumer.offset.max(queue.log.first());
                let Some(message) = queue.log.get(offset).map(Arc::clone) else { break };
                consumer.offset = offset + 1;
                consumer.unacked += 1;
                let (id, number, consumer_tag) =
                    (consumer.connection, consumer.channel, consumer.tag.clone());
                let Ok(channel) = self.channel(id, number) else { break };
                channel.next_tag += 1;
                let tag = channel.next_tag;
                let unacked = Unacked { queue: queue_id, consumer: Some(consumer_id), entry: None };
                channel.unacked.insert(tag, unacked);
                let deliver = basic::Deliver {
                    consumer_tag,
                    delivery_tag: tag,
                    redelivered: false,
                    exchange: message.exchange.clone(),
                    routing_key: message.routing_key().clone(),
                };
                let deliver = AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver));
                self.send(id, Out::Content(number, deliver, message, Extra::StreamOffset(offset)));
            }
        }
    }

    /// Whether a consumer has room: its prefetch, its channel's, and its connection's.
    fn may_take(&self, id: ConsumerId) -> bool {
        let Some(consumer) = self.consumers.get(&id) else { return false };
        let Some(connection) = self.connections.get(&consumer.connection) else { return false };
        if connection.output >= self.limits.output {
            return false;
        }
        if consumer.no_ack {
            return true;
        }
        let global = connection.channels.get(&consumer.channel).is_none_or(|channel| {
            channel.global_prefetch == 0 || channel.unacked.len() < channel.global_prefetch.into()
        });
        global && (consumer.prefetch == 0 || consumer.unacked < consumer.prefetch.into())
    }
}

fn number_of_priority(value: &amq_protocol::types::AMQPValue, at: &str) -> Result<i64, Refusal> {
    number(value).ok_or_else(|| {
        let why = format!("\"expected integer, got {}\"", type_name(value));
        Refusal::precondition(format!("invalid arg 'x-priority' for {at}: {why}"))
    })
}
