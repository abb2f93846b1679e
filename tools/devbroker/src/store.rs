//! The log: all durable state in one append-only file, which is compacted when most of it is obsolete.
//!
//! The records of one turn of the engine are written together, and its confirms are sent after that. Written records survive
//! `kill -9` of the broker; there is no fsync, so a power loss takes what the kernel has not written yet. A record that is cut
//! off at the end, as a kill during a write leaves it, is dropped at the next start: nothing was confirmed for it.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::core::{Core, record::Record, recover::Recovery};

/// First bytes of the file, with the version of the format.
const MAGIC: &[u8; 12] = b"devbroker 4\n";
/// Size in bytes below which the log is not compacted.
const MIN_COMPACTION_SIZE: u64 = 16 * 1024 * 1024;
/// Size of the buffers for reading and writing, in bytes.
const CHUNK: usize = 1024 * 1024;

/// The log's file, open for appending.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    file: File,
    size: u64,
    /// Size of the log after the last compaction.
    live: u64,
    buffer: Vec<u8>,
    /// Locked as long as the broker runs: two brokers would destroy each other's log.
    _lock: File,
}

impl Store {
    /// Opens the log of a folder, or creates it, and restores an empty core from it.
    ///
    /// # Errors
    /// If the folder cannot be used, another broker uses it, or the log has another format or version.
    pub(crate) fn open(folder: &Path, now: u64, core: Core) -> io::Result<(Self, Core)> {
        // Messages are not for others.
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::AddrInUse, format!("another devbroker uses {}", folder.display()))
        })?;
        let path = folder.join("log");
        let mut recovery = Recovery::new(core);
        if path.exists() {
            load(&path, &mut recovery)?;
        }
        let mut core = recovery.finish(now);
        // What recovery changed (dead letters, deleted queues) is in the snapshot.
        core.take_output();
        let (file, size) = write_new_log(&path, &core.snapshot())?;
        Ok((Self { path, file, size, live: size, buffer: vec![], _lock: lock }, core))
    }

    /// Appends records with one write.
    ///
    /// # Errors
    /// If the write fails. Nothing that depends on these records may be sent then.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            frame(record, &mut self.buffer);
        }
        let result = self.file.write_all(&self.buffer);
        self.size += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(CHUNK);
        result
    }

    /// Returns whether most of the log is obsolete.
    pub(crate) fn needs_compaction(&self) -> bool {
        self.size > MIN_COMPACTION_SIZE && self.size > 3 * self.live
    }

    /// Replaces the log by a snapshot. If that fails, the old log stays valid and grows on; the next attempt comes when it has
    /// tripled.
    pub(crate) fn compact(&mut self, core: &Core) {
        if let Ok((file, size)) = write_new_log(&self.path, &core.snapshot()) {
            (self.file, self.size) = (file, size);
        }
        self.live = self.size;
    }

    /// Returns the size of the log in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// Appends a record with its length and its checksum.
fn frame(record: &Record, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    record.write(buffer);
    let length = u32::try_from(buffer.len() - start - 8).unwrap_or(u32::MAX);
    let checksum = crc32fast::hash(&buffer[start + 8..]);
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    buffer[start + 4..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes a new log beside the old one, and replaces that when the new one is complete. Returns the file and its size.
fn write_new_log(path: &Path, records: &[Record]) -> io::Result<(File, u64)> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&beside)?;
    let mut buffer = MAGIC.to_vec();
    for record in records {
        frame(record, &mut buffer);
        if buffer.len() > CHUNK {
            file.write_all(&buffer)?;
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    let size = file.metadata()?.len();
    std::fs::rename(&beside, path)?;
    Ok((file, size))
}

fn load(path: &Path, recovery: &mut Recovery) -> io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = io::BufReader::with_capacity(CHUNK, file);
    let mut magic = [0; MAGIC.len()];
    let whole = reader.read_exact(&mut magic).is_ok();
    if whole && magic != *MAGIC {
        let why = format!(
            "{} is not a log of this version of devbroker: remove it, or name another --data-dir",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut left = size.saturating_sub(MAGIC.len() as u64);
    let mut record = vec![];
    loop {
        let mut head = [0; 8];
        if reader.read_exact(&mut head).is_err() {
            return Ok(());
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let checksum = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        left = left.saturating_sub(8);
        if u64::from(length) > left {
            return Ok(());
        }
        record.resize(length as usize, 0);
        reader.read_exact(&mut record)?;
        left -= u64::from(length);
        // Nothing after the first incomplete record was ever confirmed.
        // The checksum comes first: damaged bytes are never decoded, and so cannot claim memory.
        let is_whole = crc32fast::hash(&record) == checksum;
        match is_whole.then(|| Record::read(&record)).flatten() {
            Some(decoded) => recovery.take(decoded),
            None => return Ok(()),
        }
    }
}
