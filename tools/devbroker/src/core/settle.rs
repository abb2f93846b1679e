//! Settles deliveries: they are acknowledged, rejected, or requeued when their channel closes.
//! <https://www.rabbitmq.com/docs/confirms>

use super::{
    ChannelId, Core, QueueId,
    error::AmqpError,
    message::{Entry, Reason, Unacked},
    method::Answer,
    record::Record,
};

impl Core {
    pub(super) fn ack(&mut self, at: ChannelId, tag: u64, multiple: bool) -> Answer {
        for unacked in self.take_unacked(at, tag, multiple)? {
            if let Some((queue, entry)) = self.release(unacked) {
                self.remove(queue, &entry);
            }
        }
        Ok(None)
    }

    /// `basic.reject`: the delivery has failed.
    pub(super) fn reject(&mut self, at: ChannelId, tag: u64, requeue: bool) -> Answer {
        self.give_back(at, tag, false, requeue, true)
    }

    /// `basic.nack`: the delivery has not failed, since RabbitMQ 4.3.
    pub(super) fn nack(&mut self, at: ChannelId, tag: u64, multiple: bool, requeue: bool) -> Answer {
        self.give_back(at, tag, multiple, requeue, false)
    }

    fn give_back(
        &mut self,
        at: ChannelId,
        tag: u64,
        multiple: bool,
        requeue: bool,
        has_failed: bool,
    ) -> Answer {
        for unacked in self.take_unacked(at, tag, multiple)? {
            if requeue {
                self.requeue(unacked, has_failed);
            } else if let Some((queue, mut entry)) = self.release(unacked) {
                entry.failed += u32::from(has_failed);
                self.dead_letter(queue, entry, Reason::Rejected);
            }
        }
        Ok(None)
    }

    /// Requeues a delivery. A quorum queue dead-letters a message whose failures are more than its delivery limit
    /// (<https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>). For a stream there is nothing to do.
    pub(super) fn requeue(&mut self, unacked: Unacked, has_failed: bool) {
        let Some((id, mut entry)) = self.release(unacked) else { return };
        let Some(queue) = self.queues.get_mut(&id) else { return };
        entry.acquired += 1;
        entry.failed += u32::from(has_failed);
        if queue.options.delivery_limit.is_some_and(|limit| entry.failed > limit) {
            self.dead_letter(id, entry, Reason::DeliveryLimit);
            return;
        }
        let Entry { position, acquired, failed, persisted, .. } = entry;
        queue.requeue(entry);
        if persisted {
            self.log(Record::Returned { queue: id, position, acquired, failed });
        }
    }

    /// Takes the unsettled delivery of a tag; with `multiple` also those before it, and with 0 all of them.
    fn take_unacked(&mut self, at: ChannelId, tag: u64, multiple: bool) -> Result<Vec<Unacked>, AmqpError> {
        let channel = self.channel(at)?;
        if tag == 0 && multiple {
            return Ok(std::mem::take(&mut channel.unacked).into_values().collect());
        }
        if !channel.unacked.contains_key(&tag) {
            return Err(AmqpError::precondition(format!("unknown delivery tag {tag}")));
        }
        if multiple {
            let rest = channel.unacked.split_off(&(tag + 1));
            return Ok(std::mem::replace(&mut channel.unacked, rest).into_values().collect());
        }
        Ok(channel.unacked.remove(&tag).into_iter().collect())
    }

    /// Frees a delivery's place in its consumer's prefetch. Returns the entry that is to be removed, requeued or dead-lettered.
    fn release(&mut self, unacked: Unacked) -> Option<(QueueId, Entry)> {
        if let Some(consumer) = unacked.consumer.and_then(|id| self.consumers.get_mut(&id)) {
            consumer.unacked = consumer.unacked.saturating_sub(1);
        }
        if let Some(queue) = self.queues.get_mut(&unacked.queue) {
            queue.unacked = queue.unacked.saturating_sub(usize::from(unacked.entry.is_some()));
            self.dirty.insert(unacked.queue);
        }
        Some((unacked.queue, unacked.entry?))
    }
}
