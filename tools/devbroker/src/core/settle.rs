//! Deliveries come back: acknowledged, rejected, or given back by a channel that ended.
//! <https://www.rabbitmq.com/docs/confirms>

use super::{
    At, Core, QueueId,
    arguments::Kind,
    message::{Entry, Reason, Unacked},
    method::Answer,
    record::Record,
    refusal::Refusal,
};

impl Core {
    pub(super) fn ack(&mut self, at: At, tag: u64, multiple: bool) -> Answer {
        for unacked in self.take_unacked(at, tag, multiple)? {
            if let Some((queue, entry)) = self.make_room(unacked) {
                self.remove(queue, &entry);
            }
        }
        Ok(None)
    }

    pub(super) fn reject(&mut self, at: At, tag: u64, multiple: bool, requeue: bool) -> Answer {
        for unacked in self.take_unacked(at, tag, multiple)? {
            if requeue {
                self.requeue(unacked);
            } else if let Some((queue, entry)) = self.make_room(unacked) {
                self.dead_letter(queue, entry, Reason::Rejected);
            }
        }
        Ok(None)
    }

    /// Gives a delivery back to its queue. A quorum queue counts it, and has had enough at some time
    /// (<https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>). A stream takes nothing back.
    pub(super) fn requeue(&mut self, unacked: Unacked) {
        let Some((id, mut entry)) = self.make_room(unacked) else { return };
        let Some(queue) = self.queues.get_mut(&id) else { return };
        entry.redelivered = true;
        if queue.kind() == Kind::Quorum {
            entry.delivery_count += 1;
            if queue.settings.delivery_limit.is_some_and(|limit| entry.delivery_count > limit) {
                self.dead_letter(id, entry, Reason::DeliveryLimit);
                return;
            }
        }
        let Entry { place, delivery_count: count, persisted, .. } = entry;
        queue.put_back(entry);
        if persisted {
            self.log(Record::Returned { queue: id, place, count });
        }
    }

    /// A tag must be one that is outstanding; 0 with `multiple` is all of them.
    fn take_unacked(&mut self, at: At, tag: u64, multiple: bool) -> Result<Vec<Unacked>, Refusal> {
        let channel = self.channel(at)?;
        if tag == 0 && multiple {
            return Ok(std::mem::take(&mut channel.unacked).into_values().collect());
        }
        if !channel.unacked.contains_key(&tag) {
            return Err(Refusal::precondition(format!("unknown delivery tag {tag}")));
        }
        if multiple {
            let rest = channel.unacked.split_off(&(tag + 1));
            return Ok(std::mem::replace(&mut channel.unacked, rest).into_values().collect());
        }
        Ok(channel.unacked.remove(&tag).into_iter().collect())
    }

    /// A delivery is out of hand: its consumer may have one more. Returns what has to be done something with.
    fn make_room(&mut self, unacked: Unacked) -> Option<(QueueId, Entry)> {
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
