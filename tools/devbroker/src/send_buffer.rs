//! The send buffer of a client: the engine fills it, the connection empties it, and both count its bytes.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::core::{Outgoing, STALL_BYTES, method::ServerMethod};

/// Frames that wait to be written to one client.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    frames: Mutex<Vec<Outgoing>>,
    pub(crate) pending: AtomicUsize,
    pub(crate) stalled: AtomicBool,
    pub(crate) ready: Notify,
    pub(crate) dropped: CancellationToken,
}

impl SendBuffer {
    /// Takes all waiting frames.
    pub(crate) fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut *self.frames.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that frames were written. Returns whether the engine waits to be told, because the connection was stalled.
    pub(crate) fn written(&self, cost: usize) -> bool {
        let pending = self.pending.fetch_sub(cost, Ordering::AcqRel).saturating_sub(cost);
        pending < STALL_BYTES / 2 && self.stalled.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn push(&self, frames: &mut Vec<Outgoing>) {
        let cost: usize = frames.iter().map(Outgoing::cost).sum();
        self.pending.fetch_add(cost, Ordering::AcqRel);
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).append(frames);
        self.ready.notify_one();
    }

    /// Appends a method of the connection itself, which does not come from the engine.
    pub(crate) fn push_method(&self, method: impl ServerMethod) {
        self.push(&mut vec![Outgoing::Method(0, method.class())]);
    }
}
