//! Deliveries: which consumer is next, and what its channel keeps until the delivery is settled.

use std::sync::Arc;

use amq_protocol::{
    protocol::{AMQPClass, basic},
    types::ShortString,
};

use super::{
    ChannelId, Core, DeliveryHeader, Outgoing, QueueId, STALL_BYTES,
    firehose::Event,
    message::{Entry, Message, Unacked},
    method::ServerMethod as _,
    queue_options::QueueKind,
    record::Record,
    value::ConsumerId,
};

impl Core {
    /// Delivers messages of a queue as long as a consumer has room.
    pub(super) fn deliver(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get(&id) else { return };
        if queue.kind() == QueueKind::Stream {
            queue.consumers.clone().into_iter().for_each(|consumer| self.deliver_stream(id, consumer));
            return;
        }
        while let Some(consumer) = self.next_consumer(id) {
            // A message that expires in this millisecond is still delivered: with a TTL of 0 there is no other chance.
            self.drop_expired(id, self.now.saturating_sub(1));
            let Some(queue) = self.queues.get_mut(&id) else { return };
            let Some(entry) = queue.take_first() else { return };
            if !queue.options.single_active {
                // Round-robin: this consumer is last now.
                queue.consumers.retain(|other| *other != consumer);
                queue.consumers.push_back(consumer);
            }
            self.deliver_to(consumer, entry);
        }
    }

    /// Returns the next consumer that has room.
    fn next_consumer(&self, id: QueueId) -> Option<ConsumerId> {
        let queue = self.queues.get(&id)?;
        let most = if queue.options.single_active { 1 } else { usize::MAX };
        queue.consumers.iter().take(most).copied().find(|consumer| self.has_room(*consumer))
    }

    fn deliver_stream(&mut self, id: QueueId, consumer_id: ConsumerId) {
        while self.has_room(consumer_id)
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
        self.send_delivery(at, (queue, Some(id)), entry, no_ack, |delivery_tag, entry| {
            deliver_method(tag, delivery_tag, entry.is_redelivered(), &entry.message)
        });
    }

    /// Sends a delivery on a channel, which keeps it as unsettled unless `no_ack` is set.
    pub(super) fn send_delivery(
        &mut self,
        at: ChannelId,
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
        let is_stream = queue.kind() == QueueKind::Stream;
        let event = Event::Delivered(id, entry.is_redelivered());
        let extra = match queue.kind() {
            QueueKind::Stream => DeliveryHeader::StreamOffset(entry.position),
            QueueKind::Quorum => {
                DeliveryHeader::Counts { acquired: entry.shown_acquired(), failed: entry.failed }
            }
            QueueKind::Classic => DeliveryHeader::None,
        };
        if no_ack {
            self.remove(id, &entry);
        } else {
            queue.unacked += usize::from(!is_stream);
            if entry.persisted {
                self.log(Record::Delivered { queue: id, position: entry.position });
            }
            let unacked = Unacked { queue: id, consumer, entry: (!is_stream).then_some(entry) };
            if let Ok(channel) = self.channel(at) {
                channel.unacked.insert(tag, unacked);
            }
        }
        self.trace(at, &message, &event);
        self.send(at.connection, Outgoing::Content(at.channel, method, message, extra));
    }

    /// Returns whether a consumer and its connection have room for a delivery.
    fn has_room(&self, id: ConsumerId) -> bool {
        let Some(consumer) = self.consumers.get(&id) else { return false };
        let connection = self.connections.get(&consumer.at.connection);
        connection.is_some_and(|connection| connection.output < STALL_BYTES)
            && (consumer.no_ack || consumer.prefetch == 0 || consumer.unacked < consumer.prefetch.into())
    }
}

/// Returns a `basic.deliver` for a message.
pub(super) fn deliver_method(
    consumer_tag: ShortString,
    delivery_tag: u64,
    redelivered: bool,
    message: &Message,
) -> AMQPClass {
    let (exchange, routing_key) = (message.exchange.clone(), message.routing_key.clone());
    basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key }.class()
}
