//! Deliveries come back: acknowledged, rejected, or given back by a channel that ended.
//! <https://www.rabbitmq.com/docs/confirms>

use amq_protocol::protocol::{AMQPClass, basic};

use super::{ConnectionId, Core, arguments::Kind, record::Record, refusal::Refusal, session::Unacked};

impl Core {
    pub(super) fn ack(
        &mut self,
        id: ConnectionId,
        number: u16,
        tag: u64,
        multiple: bool,
    ) -> Result<(), Refusal> {
        for unacked in self.take_unacked(id, number, tag, multiple)? {
            let queue = unacked.queue;
            self.make_room(&unacked);
            if let Some(entry) = unacked.entry {
                self.remove(queue, &entry);
            }
        }
        Ok(())
    }

    pub(super) fn reject(
        &mut self,
        id: ConnectionId,
        number: u16,
        tag: u64,
        multiple: bool,
        requeue: bool,
    ) -> Result<(), Refusal> {
        for unacked in self.take_unacked(id, number, tag, multiple)? {
            if requeue {
                self.requeue(unacked);
                continue;
            }
            let queue = unacked.queue;
            self.make_room(&unacked);
            if let Some(entry) = unacked.entry {
                self.dead_letter(queue, entry, "rejected");
            }
        }
        Ok(())
    }

    pub(super) fn recover(
        &mut self,
        id: ConnectionId,
        number: u16,
        requeue: bool,
        answer: bool,
    ) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        for unacked in std::mem::take(&mut self.channel(id, number)?.unacked).into_values() {
            self.requeue(unacked);
        }
        if answer {
            let ok = basic::AMQPMethod::RecoverOk(basic::RecoverOk {});
            self.answer(id, number, false, AMQPClass::Basic(ok));
        }
        Ok(())
    }

    /// Gives a delivery back to its queue, at its old place. A quorum queue counts it, and has had enough at some time
    /// (<https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling>). A stream takes nothing back.
    pub(super) fn requeue(&mut self, unacked: Unacked) {
        self.make_room(&unacked);
        let id = unacked.queue;
        let Some(mut entry) = unacked.entry else { return };
        let Some(queue) = self.queues.get_mut(&id) else {
            self.memory = self.memory.saturating_sub(entry.message.cost());
            return;
        };
        entry.redelivered = true;
        if queue.kind() == Kind::Quorum {
            entry.delivery_count += 1;
            if queue.settings.delivery_limit.is_some_and(|limit| entry.delivery_count > limit) {
                self.dead_letter(id, entry, "delivery_limit");
                return;
            }
        }
        let (persisted, place, count) = (entry.persisted, entry.seq, entry.delivery_count);
        queue.put_back(entry);
        if persisted {
            // The log has to hear of the delivery before.
            self.log_deliveries();
            self.output.records.push(Record::Requeued { queue: id, place, count });
        }
    }

    /// A tag must be one that is outstanding; 0 with `multiple` is all of them.
    fn take_unacked(
        &mut self,
        id: ConnectionId,
        number: u16,
        tag: u64,
        multiple: bool,
    ) -> Result<Vec<Unacked>, Refusal> {
        if self.channel(id, number)?.global_prefetch > 0 {
            self.wake(id, number);
        }
        let channel = self.channel(id, number)?;
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

    /// A consumer may have one more.
    fn make_room(&mut self, unacked: &Unacked) {
        if let Some(consumer) = unacked.consumer.and_then(|id| self.consumers.get_mut(&id)) {
            consumer.unacked = consumer.unacked.saturating_sub(1);
        }
        if let Some(queue) = self.queues.get_mut(&unacked.queue) {
            queue.unacked = queue.unacked.saturating_sub(usize::from(unacked.entry.is_some()));
            self.dirty.insert(unacked.queue);
        }
    }
}
