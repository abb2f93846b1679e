//! The log: all durable state in one append-only file, which is compacted when most of it is obsolete.
//!
//! The records of one turn of the engine are written together, and its confirms are sent after that. Written records survive
//! `kill -9` of the broker; a power loss takes what the kernel has not written yet, unless each write is synced.
//! What is damaged costs the records there, and is reported at the next start, which keeps a copy of the damaged log. A write
//! that was interrupted looks the same at the end of the log; nothing was confirmed for it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    ops::Range,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use frames::{Framing, Item, Reader, Records};

use crate::core::{Core, record::Record, recover::Recovery};

/// First bytes of the file, with the version of the format. The salt of its frames follows, with a checksum.
const MAGIC: &[u8; 12] = b"devbroker 5\n";
/// Bytes before the first frame.
const HEADER: usize = MAGIC.len() + 8 + 4;
/// Largest record in bytes: a message of any size that the broker takes, with its places in queues.
const MAX_RECORD: usize = 64 * 1024 * 1024;
/// Size in bytes below which the log is not compacted.
const MIN_COMPACTION_SIZE: u64 = 16 * 1024 * 1024;
/// Size of the buffers for writing, in bytes.
const CHUNK: usize = 1024 * 1024;

/// The log's file, open for appending.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    log: Log,
    is_synced: bool,
    /// Size of the log after the last compaction.
    live: u64,
    buffer: Vec<u8>,
    /// Locked as long as the broker runs: two brokers would destroy each other's log.
    _lock: File,
}

/// A file with frames.
#[derive(Debug)]
struct Log {
    file: File,
    framing: Framing,
    /// Number of the next record.
    next: u64,
    size: u64,
}

impl Store {
    /// Opens the log of a folder, or creates it, and restores an empty core from it. Returns a sentence for each damage of the
    /// log, too. `is_synced` makes each write wait for the disk.
    ///
    /// # Errors
    /// If the folder cannot be used, another broker uses it, or the log has another format or version.
    pub(crate) fn open(
        folder: &Path,
        now: u64,
        core: Core,
        is_synced: bool,
    ) -> io::Result<(Self, Core, Vec<String>)> {
        // Messages are not for others.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(ErrorKind::AddrInUse, format!("another devbroker uses {}", folder.display()))
        })?;
        let path = folder.join("log");
        let mut recovery = Recovery::new(core);
        let mut damage = if path.exists() { load(&path, &mut recovery)? } else { vec![] };
        if !damage.is_empty() {
            let kept = keep(&path)?;
            damage
                .push(format!("all other records were read; the damaged log is kept as {}", kept.display()));
        }
        let mut core = recovery.finish(now);
        // What recovery changed (dead letters, deleted queues) is in the snapshot.
        core.take_output();
        let log = Log::replace(&path, &core.snapshot(), is_synced)?;
        let live = log.size;
        Ok((Self { path, log, is_synced, live, buffer: vec![], _lock: lock }, core, damage))
    }

    /// Appends records with one write.
    ///
    /// # Errors
    /// If the write fails. Nothing that depends on these records may be sent then.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            self.log.frame(record, &mut self.buffer);
        }
        let mut result = self.log.file.write_all(&self.buffer);
        if self.is_synced && result.is_ok() {
            result = self.log.file.sync_data();
        }
        self.log.size += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(CHUNK);
        result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path.display())))
    }

    /// Returns whether most of the log is obsolete.
    pub(crate) fn needs_compaction(&self) -> bool {
        self.log.size > MIN_COMPACTION_SIZE && self.log.size > 3 * self.live
    }

    /// Replaces the log by a snapshot. If that fails, the old log stays valid and grows on; the next attempt comes when it has
    /// tripled.
    pub(crate) fn compact(&mut self, core: &Core) {
        if let Ok(log) = Log::replace(&self.path, &core.snapshot(), self.is_synced) {
            self.log = log;
        }
        self.live = self.log.size;
    }

    /// Returns the size of the log in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.log.size
    }
}

impl Log {
    /// Writes a new log beside the old one, and replaces that when the new one is complete.
    fn replace(path: &Path, records: &[Record], is_synced: bool) -> io::Result<Self> {
        let beside = path.with_extension("new");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&beside)?;
        let salt: u64 = rand::random();
        let mut log = Self { file, framing: Framing::new(salt), next: 0, size: 0 };
        let mut buffer = [&MAGIC[..], &salt.to_be_bytes(), &checksum_of(salt)].concat();
        for record in records {
            log.frame(record, &mut buffer);
            if buffer.len() > CHUNK {
                log.file.write_all(&buffer)?;
                buffer.clear();
            }
        }
        log.file.write_all(&buffer)?;
        log.size = log.file.metadata()?.len();
        if is_synced {
            log.file.sync_all()?;
        }
        fs::rename(&beside, path)?;
        if let (true, Some(folder)) = (is_synced, path.parent()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(log)
    }

    fn frame(&mut self, record: &Record, buffer: &mut Vec<u8>) {
        self.framing.append(buffer, self.next, |buffer| record.write(buffer));
        self.next += 1;
    }
}

fn checksum_of(salt: u64) -> [u8; 4] {
    crc32fast::hash(&salt.to_be_bytes()).to_be_bytes()
}

/// Reads the records of a log, and returns a sentence for each damage.
fn load(path: &Path, recovery: &mut Recovery) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let mut header = vec![];
    (&mut file).take(HEADER as u64).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(vec![]);
    }
    let refused =
        |why: &str| Err(io::Error::new(ErrorKind::InvalidData, format!("{} {why}", path.display())));
    if header[..header.len().min(MAGIC.len())] != MAGIC[..header.len().min(MAGIC.len())] {
        return refused("is not a log of this version of devbroker: remove it, or name another --data-dir");
    }
    let salt = header.get(MAGIC.len()..HEADER).and_then(|rest| rest.split_first_chunk());
    let salt = salt.map(|(salt, checksum)| (u64::from_be_bytes(*salt), checksum));
    let Some((salt, _)) = salt.filter(|(salt, checksum)| checksum_of(*salt) == *checksum) else {
        return refused(
            "has a damaged head, so none of it can be read: move it away, or name another --data-dir",
        );
    };
    let mut damage = vec![];
    for item in Records::new(Reader::new(file, Framing::new(salt), HEADER as u64, MAX_RECORD), 0) {
        match item? {
            Item::Record { at, number, payload } => match Record::read(&payload) {
                Some(record) => recovery.take(record),
                None => damage.push(lost(path, at, payload.len() as u64, &(number..number + 1))),
            },
            Item::Lost { at, length, numbers } => damage.push(lost(path, at, length, &numbers)),
            Item::Torn { length, at } => damage.push(format!(
                "{}: the last {length} bytes, from byte {at} on, are no whole record: a write was interrupted there, or the end is damaged",
                path.display()
            )),
        }
    }
    Ok(damage)
}

fn lost(path: &Path, at: u64, length: u64, numbers: &Range<u64>) -> String {
    let first = numbers.start;
    let records = match numbers.end.saturating_sub(first) {
        0 => "no record".to_owned(),
        1 => format!("record {first}"),
        count => format!("{count} records from record {first} on"),
    };
    format!("{}: {length} bytes from byte {at} on are damaged, and {records} is lost", path.display())
}

/// Copies a damaged log, and returns the path of the copy.
fn keep(path: &Path) -> io::Result<PathBuf> {
    let names = (1..).map(|n| path.with_file_name(format!("log.damaged.{n}")));
    let kept = names.into_iter().find(|kept| !kept.exists()).unwrap_or_default();
    fs::copy(path, &kept)?;
    Ok(kept)
}
