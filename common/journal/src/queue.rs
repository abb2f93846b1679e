//! The queue in front of the writer: what callers hand over while it waits for the disk is its next group.

use std::{
    io, mem,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{AppendError, Shared, locked, segment::State};

/// Most entries that are written at once, and their bytes.
const MAX_GROUP: usize = 512;
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Time that removals wait for an entry to be written with.
const REMOVAL_DELAY: Duration = Duration::from_millis(20);
/// Time between two attempts at a disk that takes nothing.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Entries and removals that wait for the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    work: Mutex<Work>,
    wake: Condvar,
}

/// An entry to write.
#[derive(Debug)]
pub(crate) struct Put {
    /// Its number, if it is written again.
    pub(crate) number: Option<u64>,
    pub(crate) state: State,
    pub(crate) body: Vec<u8>,
    pub(crate) answer: oneshot::Sender<Result<u64, AppendError>>,
}

/// Work for the writer.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) puts: Vec<Put>,
    pub(crate) removed: Vec<u64>,
    /// Somebody waits for the end.
    pub(crate) closing: Option<oneshot::Sender<io::Result<()>>>,
    /// Nothing is taken any more.
    pub(crate) is_closed: bool,
    /// Nobody takes anything any more.
    is_gone: bool,
}

impl Queue {
    /// Hands an entry to the writer; `Err` when there is none any more.
    pub(crate) fn put(&self, put: Put) -> Result<(), Put> {
        let mut work = locked(&self.work);
        if work.is_closed {
            return Err(put);
        }
        work.puts.push(put);
        self.wake.notify_one();
        Ok(())
    }

    /// Hands removed entries to the writer.
    pub(crate) fn remove(&self, numbers: &[u64]) {
        let mut work = locked(&self.work);
        if work.removed.is_empty() {
            self.wake.notify_one();
        }
        work.removed.extend_from_slice(numbers);
    }

    /// Lets the writer finish. Nothing is taken afterwards.
    pub(crate) fn close(&self, closing: Option<oneshot::Sender<io::Result<()>>>) {
        let mut work = locked(&self.work);
        work.is_closed = true;
        work.closing = closing.filter(|_| !work.is_gone);
        self.wake.notify_one();
    }

    /// Waits for entries, for removals that have waited long enough, or for the end.
    pub(crate) fn take(&self, retry: bool) -> Work {
        let mut work = locked(&self.work);
        while work.puts.is_empty() && !work.is_closed {
            let patience = match (work.removed.is_empty(), retry) {
                (false, _) => REMOVAL_DELAY,
                (true, true) => RETRY_INTERVAL,
                (true, false) => {
                    work = self.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            let waited = self.wake.wait_timeout(work, patience).unwrap_or_else(PoisonError::into_inner);
            work = waited.0;
            if waited.1.timed_out() {
                break;
            }
        }
        let mut bytes = 0;
        let mut fits = |put: &Put| {
            bytes += put.body.len();
            bytes <= MAX_GROUP_BYTES
        };
        let group = work.puts.iter().take(MAX_GROUP).take_while(|put| fits(put)).count().max(1);
        let group = group.min(work.puts.len());
        let rest = work.puts.split_off(group);
        Work {
            puts: mem::replace(&mut work.puts, rest),
            removed: mem::take(&mut work.removed),
            closing: if work.puts.is_empty() { work.closing.take() } else { None },
            is_closed: work.is_closed && work.puts.is_empty(),
            is_gone: false,
        }
    }
}

/// Closes the queue when the writer is gone.
pub(crate) struct Closed<'a>(pub(crate) &'a Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.record_outcome(Some("its writer has panicked, see the log: restart the service".into()));
        }
        let mut work = locked(&self.0.queue.work);
        (work.is_closed, work.is_gone) = (true, true);
        work.puts.clear();
        work.closing = None;
    }
}
