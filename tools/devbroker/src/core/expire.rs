//! What time does: messages expire, unused queues go, held dead letters are tried again.
//! <https://www.rabbitmq.com/docs/ttl>

use std::cmp::Reverse;

use super::{Core, QueueId, arguments::Kind, death::TRY_AGAIN};

impl Core {
    /// When [`Core::tick`] has to be called next, in Unix milliseconds.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            if queue.timer != Some(at) {
                continue;
            }
            queue.timer = None;
            if unused_until(queue).is_some_and(|end| end <= now) {
                self.delete_queue(id);
                continue;
            }
            self.retry_held(id);
            if let Some(queue) = self.queues.get_mut(&id) {
                self.memory = self.memory.saturating_sub(queue.log.trim(now));
            }
            self.dirty.insert(id);
        }
        self.tend_all();
    }

    /// Brings all queues in order in which something has changed.
    pub(super) fn tend_all(&mut self) {
        while let Some(id) = self.dirty.pop_first() {
            self.tend(id);
        }
    }

    fn tend(&mut self, id: QueueId) {
        self.deliver(id);
        self.drop_expired(id, self.now);
        while let Some(queue) = self.queues.get_mut(&id)
            && queue.is_over()
            && let Some(entry) = queue.take_oldest()
        {
            self.dead_letter(id, entry, "maxlen");
        }
        self.set_timer(id);
    }

    pub(super) fn drop_expired(&mut self, id: QueueId, until: u64) {
        while let Some(entry) = self.queues.get_mut(&id).and_then(|queue| queue.take_expired(until)) {
            self.dead_letter(id, entry, "expired");
        }
    }

    /// Sees to it that the next thing that time does to a queue happens in time.
    fn set_timer(&mut self, id: QueueId) {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let held = (!queue.held.is_empty()).then_some(now + TRY_AGAIN);
        let age = (queue.kind() == Kind::Stream && queue.settings.max_age.is_some()).then_some(now + 60_000);
        let next = [queue.next_expiry(), unused_until(queue), held, age].into_iter().flatten().min();
        if let Some(next) = next
            && queue.timer.is_none_or(|timer| next < timer)
        {
            queue.timer = Some(next);
            self.timers.push(Reverse((next, id)));
        }
    }
}

/// When a queue that nobody uses goes: `x-expires`.
fn unused_until(queue: &super::queue::Queue) -> Option<u64> {
    let unused = queue.consumers.is_empty();
    queue.settings.expires.filter(|_| unused).map(|expires| queue.used_at + expires)
}
