//! Entries in append-only files: an entry is on disk before [`Journal::append`] returns, and what is damaged later costs the
//! records there and is reported.
//!
//! - `segment`: a file with reserved space, and its records: entries, and numbers of entries that were removed
//! - `manifest`: the small file by which a missing segment is noticed
//! - `recovery`: reading all of them at the start
//! - `index`: the places of the entries, in memory; bodies are read from the files
//! - `queue`: entries and removals that wait to be written
//! - `writer`: the thread that writes what many callers append, with one write and one `fdatasync` for all that wait
//! - `disk`: the folder
//!
//! A power loss takes nothing that was acknowledged, if the disk keeps what it says it has ([`SyncTo::Disk`]). Removals are not
//! waited for: at worst an entry that was removed is there again.
//! After an error of the disk nothing more is written to the file: the kernel may have dropped what it could not write, and
//! the next `fdatasync` succeeds nevertheless (<https://wiki.postgresql.org/wiki/Fsync_Errors>). A new file is begun instead.

mod segment;
mod manifest;
mod recovery;
mod index;
mod queue;
mod writer;
mod disk;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::{Notify, oneshot, watch};

pub use self::segment::State;
use self::{
    disk::{Directory, Folder},
    index::{Index, Reading},
    queue::{Put, Queue},
    recovery::{KEPT, MAX_PAYLOAD, recover},
    segment::Record,
    writer::Writer,
};

/// Place that an entry has reached when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncTo {
    /// The disk: an acknowledged entry survives a power loss.
    #[default]
    Disk,
    /// The operating system: it survives a killed process.
    Os,
}

/// Settings of a journal.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Place that an entry has reached when it is acknowledged.
    pub sync: SyncTo,
    /// Most entries that wait.
    pub max_waiting: usize,
    /// Size of a file in bytes, at most 1 GiB; an entry that is larger has a file of its own.
    pub segment_bytes: u64,
}

impl Options {
    /// Returns options with files of 16 MiB, of which a disk that is always behind needs a few each second.
    #[must_use]
    pub const fn new(sync: SyncTo, max_waiting: usize) -> Self {
        Self { sync, max_waiting, segment_bytes: 16 * 1024 * 1024 }
    }
}

/// Reason for which an entry is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// So many entries wait, and no more may.
    #[error("{0} entries wait")]
    Full(usize),
    /// The disk takes nothing. It is tried again each second.
    #[error("{0}")]
    Unwritable(String),
}

/// A part of the journal that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    file: String,
    what: String,
}

impl Damage {
    fn new(file: &str, what: &str) -> Self {
        Self { file: file.to_owned(), what: what.to_owned() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// Reason for which an entry cannot be read, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The disk gives no answer: try again later.
    #[error("{0}")]
    Disk(String),
}

/// An entry as it is read back, with its number.
pub type Entry = (u64, Result<Vec<u8>, Unreadable>);

/// Entries in files.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    kept: usize,
}

/// State that callers and the writer share.
#[derive(Debug)]
struct Shared {
    /// The folder, for log lines.
    shown: String,
    queue: Queue,
    index: Mutex<Index>,
    max_waiting: usize,
    /// Number of waiting entries, with those that are being written.
    waiting: watch::Sender<usize>,
    appended: Notify,
    /// Error of the last write.
    error: Mutex<Option<String>>,
}

impl Journal {
    /// Opens the journal in a folder, which is created with the first one. Returns each damage, too; the damaged files are kept.
    /// Nothing is written before the first entry is, so a full or read-only disk can be read.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if another process has it; files of another version; the file system's own.
    pub fn open(path: &Path, options: Options) -> io::Result<(Self, Vec<Damage>)> {
        let (folder, lock) = Directory::locked(path)?;
        Self::open_in(Arc::new(folder), path.display().to_string(), options, lock)
    }

    fn open_in<L: Send + 'static>(
        folder: Arc<dyn Folder>,
        shown: String,
        options: Options,
        lock: L,
    ) -> io::Result<(Self, Vec<Damage>)> {
        let mut recovered = recover(&*folder)?;
        let damage = std::mem::take(&mut recovered.damage);
        let kept = folder.names()?.iter().filter(|name| name.ends_with(KEPT)).count();
        let shared = Arc::new(Shared {
            shown,
            queue: Queue::default(),
            index: Mutex::default(),
            max_waiting: options.max_waiting,
            waiting: watch::Sender::new(recovered.index.waiting()),
            appended: Notify::new(),
            error: Mutex::new(None),
        });
        let writer = Writer::new(Arc::clone(&shared), folder, options, recovered);
        let run = move || {
            let _lock = lock;
            writer.run();
        };
        let writer = std::thread::Builder::new().name("journal".into()).spawn(run)?;
        Ok((Self { shared, writer: Some(writer), kept }, damage))
    }

    /// Appends an entry that waits, and returns its number once it is written as [`Options::sync`] says. It is also written if
    /// the caller no longer waits for that.
    ///
    /// # Errors
    /// [`AppendError`]; after [`AppendError::Unwritable`] the entry may still be there at the next start.
    pub async fn append(&self, body: Vec<u8>) -> Result<u64, AppendError> {
        if !self.shared.reserve(self.shared.max_waiting) {
            return Err(AppendError::Full(self.len()));
        }
        self.append_reserved(body).await
    }

    /// Appends an entry even if as many wait as may: one that was acknowledged elsewhere.
    ///
    /// # Errors
    /// As [`append`](Self::append), without [`AppendError::Full`].
    pub async fn append_beyond(&self, body: Vec<u8>) -> Result<u64, AppendError> {
        self.shared.reserve(usize::MAX);
        self.append_reserved(body).await
    }

    async fn append_reserved(&self, body: Vec<u8>) -> Result<u64, AppendError> {
        let written = self.put(None, State::Waiting, body);
        let written = written.inspect_err(|_| self.shared.release(1))?;
        // Also when the caller is gone: the writer may have answered already.
        let _wake = Wake(&self.shared.appended);
        written.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Writes an entry again, as one that is kept for a person and waits no longer.
    ///
    /// # Errors
    /// [`AppendError::Unwritable`]: it still waits.
    pub async fn park(&self, number: u64, body: Vec<u8>) -> Result<(), AppendError> {
        let written = self.put(Some(number), State::Parked, body)?;
        written.await.unwrap_or_else(|_| Err(stopped())).map(drop)
    }

    fn put(
        &self,
        number: Option<u64>,
        state: State,
        body: Vec<u8>,
    ) -> Result<oneshot::Receiver<Result<u64, AppendError>>, AppendError> {
        if body.len() + 9 > MAX_PAYLOAD {
            return Err(AppendError::Unwritable(format!("an entry has at most {} bytes", MAX_PAYLOAD - 9)));
        }
        let (answer, written) = oneshot::channel();
        self.shared.queue.put(Put { number, state, body, answer }).map_err(|_| stopped())?;
        Ok(written)
    }

    /// Removes entries. They are gone for this process at once; the files have it soon.
    pub fn remove(&self, numbers: &[u64]) {
        let removed: Vec<_> = {
            let mut index = locked(&self.shared.index);
            numbers.iter().filter_map(|number| Some((*number, index.remove(*number)?))).collect()
        };
        self.shared.release(removed.iter().filter(|(_, state)| *state == State::Waiting).count());
        let numbers: Vec<_> = removed.into_iter().map(|(number, _)| number).collect();
        if !numbers.is_empty() {
            self.shared.queue.remove(&numbers);
        }
    }

    /// Removes an entry that cannot be read; its file is kept for a person.
    pub fn give_up(&self, number: u64) {
        locked(&self.shared.index).mark_damaged(number);
        self.remove(&[number]);
    }

    /// Reads at most so many entries in this state behind `number`, in their order.
    #[must_use]
    pub fn after(&self, number: u64, state: State, at_most: usize) -> Vec<Entry> {
        let readings = locked(&self.shared.index).after(number, state, at_most);
        readings.iter().map(entry).collect()
    }

    /// Returns how many entries wait, with those that are being written.
    #[must_use]
    pub fn len(&self) -> usize {
        *self.shared.waiting.borrow()
    }

    /// Returns whether no entry waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many entries are parked.
    #[must_use]
    pub fn parked_len(&self) -> usize {
        locked(&self.shared.index).parked()
    }

    /// Returns how many damaged files of earlier damages lie in the folder, named `*.damaged`.
    #[must_use]
    pub fn kept_files(&self) -> usize {
        self.kept
    }

    /// Returns a watch on the number of waiting entries.
    #[must_use]
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.shared.waiting.subscribe()
    }

    /// Waits until entries were appended since the last call.
    pub async fn appended(&self) {
        self.shared.appended.notified().await;
    }

    /// Returns why nothing can be written at the moment.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        locked(&self.shared.error).clone()
    }

    /// Writes removals, and that this is the end: at the next start a shorter file is noticed. Nothing is appended afterwards.
    ///
    /// # Errors
    /// What the disk did not take; it costs no entry.
    pub async fn close(&self) -> io::Result<()> {
        let (closing, closed) = oneshot::channel();
        self.shared.queue.close(Some(closing));
        closed.await.unwrap_or_else(|_| self.error().map_or(Ok(()), |why| Err(io::Error::other(why))))
    }
}

/// Waits until the writer has written what was handed to it.
impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue.close(None);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Wakes who waits for entries when it is dropped.
struct Wake<'a>(&'a Notify);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Shared {
    fn reserve(&self, max: usize) -> bool {
        self.waiting.send_if_modified(|waiting| {
            let has_room = *waiting < max;
            *waiting += usize::from(has_room);
            has_room
        })
    }

    fn release(&self, count: usize) {
        if count > 0 {
            self.waiting.send_modify(|waiting| *waiting = waiting.saturating_sub(count));
        }
    }

    fn is_failing(&self) -> bool {
        locked(&self.error).is_some()
    }

    /// Records the outcome of a write, and logs it when it changes: not for each of a thousand requests.
    fn record_outcome(&self, error: Option<String>) {
        let mut last = locked(&self.error);
        match (&*last, &error) {
            (None, Some(now)) => tracing::error!("{} cannot be written: {now}", self.shown),
            (Some(_), None) => tracing::info!("{} can be written again", self.shown),
            _ => {}
        }
        *last = error;
    }
}

fn entry(reading: &Reading) -> Entry {
    let body = reading.read().and_then(|record| match record {
        Record::Entry { body, .. } => Ok(body),
        Record::Removed(_) => Err(Unreadable::Damaged("it is no entry".into())),
    });
    (reading.number, body)
}

fn stopped() -> AppendError {
    AppendError::Unwritable("the journal is closed".into())
}

/// Locks what a panic cannot leave half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
