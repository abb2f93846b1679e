//! What waits to be written to one client: filled by the engine, emptied by the connection, counted by both.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::core::{MOST_OUTPUT, Out, method::Say};

/// What waits to be written to one client.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    outs: Mutex<Vec<Out>>,
    pub(crate) pending: AtomicUsize,
    pub(crate) stalled: AtomicBool,
    pub(crate) ready: Notify,
    pub(crate) dropped: CancellationToken,
}

impl Outbox {
    /// Takes all that waits.
    pub(crate) fn take(&self) -> Vec<Out> {
        std::mem::take(&mut *self.outs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Some of it is written; `true` if the engine wants to know.
    pub(crate) fn written(&self, cost: usize) -> bool {
        let pending = self.pending.fetch_sub(cost, Ordering::AcqRel).saturating_sub(cost);
        pending < MOST_OUTPUT / 2 && self.stalled.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn push(&self, outs: &mut Vec<Out>) {
        let cost: usize = outs.iter().map(Out::cost).sum();
        self.pending.fetch_add(cost, Ordering::AcqRel);
        self.outs.lock().unwrap_or_else(PoisonError::into_inner).append(outs);
        self.ready.notify_one();
    }

    /// Says something of the connection itself, past the engine.
    pub(crate) fn say(&self, method: impl Say) {
        self.push(&mut vec![Out::Method(0, method.class())]);
    }
}
