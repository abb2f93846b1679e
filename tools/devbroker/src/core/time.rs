//! Timers: messages and unused queues expire, and held dead letters are retried.
//! <https://www.rabbitmq.com/docs/ttl>

use super::{Core, QueueId, dead_letter::HELD_RETRY_MILLIS, message::Reason};

impl Core {
    /// Returns when [`Core::tick`] has to be called next, in Unix milliseconds.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Handles the timers that are due, and updates the queues that have changed.
    pub(crate) fn tick(&mut self, now: u64) {
        self.now = now;
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.timer = None;
            if queue.unused_until().is_some_and(|end| end <= now) {
                self.delete_queue(id);
            } else {
                self.retry_held(id);
                self.dirty.insert(id);
            }
        }
        self.update_queues();
    }

    /// Delivers and expires messages of all queues that have changed, and sets their timers.
    pub(super) fn update_queues(&mut self) {
        while let Some(id) = self.dirty.pop_first() {
            self.deliver(id);
            self.drop_expired(id, self.now);
            self.set_timer(id);
        }
    }

    pub(super) fn drop_expired(&mut self, id: QueueId, then: u64) {
        while let Some(entry) = self.queues.get_mut(&id).and_then(|queue| queue.take_expired(then)) {
            self.dead_letter(id, entry, Reason::Expired);
        }
    }

    /// Sets the timer of a queue to its next expiry or retry.
    fn set_timer(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let held = (!queue.held.is_empty()).then_some(self.now + HELD_RETRY_MILLIS);
        let next = [queue.next_expiry(), queue.unused_until(), held].into_iter().flatten().min();
        if let Some(next) = next.filter(|next| queue.timer.is_none_or(|timer| *next < timer)) {
            self.timers.extend([(next, id)]);
            if let Some(later) = queue.timer.replace(next) {
                self.timers.remove(&(later, id));
            }
        }
    }
}
