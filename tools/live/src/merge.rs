//! Events of many logs in the order of their times.
//!
//! Each task has a log of its own, so a message's last hop can be read before its first. Events are held back for a moment,
//! in which those that happened before them arrive.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::event::Event;

/// Time for which an event is held back: longer than the time between two looks at the logs.
pub const HOLD_BACK: Duration = Duration::from_millis(200);

/// Most events that are held back; the earliest go on sooner.
const MAX_HELD: usize = 20_000;

/// Events that are held back.
#[derive(Debug, Default)]
pub struct Merge {
    held: BinaryHeap<Reverse<Held>>,
    arrived: u64,
}

#[derive(Debug)]
struct Held {
    at: Timestamp,
    /// Order of arrival, which events of the same time keep.
    number: u64,
    event: Event,
}

impl Merge {
    /// Adds an event.
    pub fn push(&mut self, at: Timestamp, event: Event) {
        self.arrived += 1;
        self.held.push(Reverse(Held { at, number: self.arrived, event }));
    }

    /// Returns the events that have been held back long enough, in the order of their times. An event with a time in the
    /// future, from a machine whose clock is ahead, waits until then.
    pub fn release(&mut self, now: Timestamp) -> Vec<(Timestamp, Event)> {
        let until = now - SignedDuration::try_from(HOLD_BACK).unwrap_or_default();
        let mut released = vec![];
        while self.held.peek().is_some_and(|held| held.0.at <= until || self.held.len() > MAX_HELD) {
            released.extend(self.held.pop().map(|Reverse(held)| (held.at, held.event)));
        }
        released
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Held {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn released(merge: &mut Merge, now: i64) -> Vec<u64> {
        let events = merge.release(at(now)).into_iter();
        let number = |event| match event {
            Event::Outbox { waiting, .. } => waiting,
            other => panic!("{other:?}"),
        };
        events.map(|(_, event)| number(event)).collect()
    }

    #[test]
    fn events_leave_in_the_order_of_their_times_after_the_hold_back() {
        let mut merge = Merge::default();
        let push = |merge: &mut Merge, time, waiting| {
            merge.push(at(time), Event::Outbox { task: "t".into(), waiting })
        };
        push(&mut merge, 1_010, 3);
        push(&mut merge, 1_000, 1);
        assert_eq!(released(&mut merge, 1_199), [0; 0]);
        push(&mut merge, 1_000, 2);
        push(&mut merge, 5_000, 5);
        assert_eq!(released(&mut merge, 1_210), [1, 2, 3]);
        // One that arrives too late leaves at once.
        push(&mut merge, 900, 4);
        assert_eq!(released(&mut merge, 1_211), [4]);
        assert_eq!(released(&mut merge, 5_200), [5]);
    }

    #[test]
    fn no_more_than_the_limit_is_held_back() {
        let mut merge = Merge::default();
        for waiting in 0..=MAX_HELD as u64 {
            merge.push(at(1_000_000), Event::Outbox { task: "t".into(), waiting });
        }
        assert_eq!(released(&mut merge, 0), [0]);
    }
}
