//! A consumer that was started, as its user sees it and as its adapter reports it.

use std::future::pending;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A consumer that was started. Dropping it does not stop it.
#[derive(Debug, Clone)]
pub struct Subscription {
    stop: CancellationToken,
    tasks: TaskTracker,
    state: watch::Receiver<ConsumerState>,
}

#[derive(Debug, Default)]
struct ConsumerState {
    active: bool,
    in_flight: usize,
    starts: u64,
}

impl Subscription {
    /// Returns a subscription to a consumer that stops after `stop` and is tracked by `tasks`, and the sender through
    /// which the adapter reports the consumer's state.
    #[must_use]
    pub fn new(stop: CancellationToken, tasks: TaskTracker) -> (Self, ConsumerStateSender) {
        let (sender, state) = watch::channel(ConsumerState::default());
        (Self { stop, tasks, state }, ConsumerStateSender(sender))
    }

    /// Returns whether the broker delivers to the consumer at the moment.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state.borrow().active
    }

    /// Returns how often the broker has begun to deliver. Where the consumer has a queue of its own, what is
    /// published between two starts is lost.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.state.borrow().starts
    }

    /// Waits until the broker has begun to deliver more than `seen` times; forever once the consumer has stopped.
    pub async fn started_after(&self, seen: u64) {
        if self.state.clone().wait_for(|state| state.starts > seen).await.is_err() {
            pending().await
        }
    }

    /// Returns how many deliveries are being handled at the moment.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.borrow().in_flight
    }

    /// Stops taking deliveries; those in flight are still handled.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Waits, after [`cancel`](Self::cancel), until the deliveries in flight are handled and settled.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The adapter's end of a [`Subscription`]. When it is dropped the consumer is inactive, with nothing in flight.
#[derive(Debug)]
pub struct ConsumerStateSender(watch::Sender<ConsumerState>);

impl ConsumerStateSender {
    /// Reports whether the broker delivers.
    pub fn set_active(&self, active: bool) {
        self.0.send_modify(|state| {
            state.starts += u64::from(active && !state.active);
            state.active = active;
        });
    }

    /// Reports how many deliveries are being handled.
    pub fn set_in_flight(&self, in_flight: usize) {
        self.0.send_modify(|state| state.in_flight = in_flight);
    }
}

impl Drop for ConsumerStateSender {
    fn drop(&mut self) {
        self.0.send_modify(|state| (state.active, state.in_flight) = (false, 0));
    }
}
