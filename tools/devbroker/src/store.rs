//! The log: everything durable, in one file that only grows, and is written anew when it has grown too much.
//!
//! One write for all that one turn of the engine produced, and only then its confirms. What `write` took survives
//! the broker's `kill -9`; there is no fsync, so a power loss takes what the kernel had not written. A record that is cut off at
//! the end, as a kill in the middle of a write leaves it, is dropped at the start: nobody was told of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::core::{Core, record::Record, recover::Recovery};

/// What the file begins with.
const MAGIC: &[u8; 12] = b"devbroker 3\n";
/// Before this size it is not written anew.
const LEAST_TO_COMPACT: u64 = 16 * 1024 * 1024;
/// How much is read and written at a time.
const CHUNK: usize = 1024 * 1024;

/// The log's file.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    file: File,
    size: u64,
    /// Its size when it was last written anew.
    live: u64,
    buffer: Vec<u8>,
    /// Held as long as the broker runs: two on one folder would ruin it.
    _lock: File,
}

impl Store {
    /// Opens a folder's log, or makes one, and gives an empty core what is in it.
    ///
    /// # Errors
    /// If the folder cannot be used, another broker uses it, or the file is something else.
    pub(crate) fn open(folder: &Path, now: u64, core: Core) -> io::Result<(Self, Core)> {
        std::fs::create_dir_all(folder)?;
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
        // What loading did (dead letters, deletions) is in the snapshot.
        core.take_output();
        let (file, size) = write_anew(&path, &core.snapshot())?;
        Ok((Self { path, file, size, live: size, buffer: vec![], _lock: lock }, core))
    }

    /// Appends records, with one write.
    ///
    /// # Errors
    /// If the disk does not take them; nothing that rests on them may be sent then.
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

    /// Whether most of it is of the past.
    pub(crate) fn is_bloated(&self) -> bool {
        self.size > LEAST_TO_COMPACT && self.size > 3 * self.live
    }

    /// Writes it anew. If the disk does not take that, the old one is as good, and grows on for a while.
    pub(crate) fn compact(&mut self, core: &Core) {
        if let Ok((file, size)) = write_anew(&self.path, &core.snapshot()) {
            (self.file, self.size) = (file, size);
        }
        self.live = self.size;
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// Length, checksum, record.
fn frame(record: &Record, buffer: &mut Vec<u8>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 8]);
    record.write(buffer);
    let length = u32::try_from(buffer.len() - start - 8).unwrap_or(u32::MAX);
    let checksum = crc32fast::hash(&buffer[start + 8..]);
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    buffer[start + 4..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Beside the old one, which is replaced when the new one is whole; returns it with its size.
fn write_anew(path: &Path, records: &[Record]) -> io::Result<(File, u64)> {
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
        // After the first record that is not whole there is nothing that was ever answered for.
        // Nothing is decoded, and no memory taken for it, before its checksum is right.
        let is_whole = crc32fast::hash(&record) == checksum;
        match is_whole.then(|| Record::read(&record)).flatten() {
            Some(decoded) => recovery.take(decoded),
            None => return Ok(()),
        }
    }
}
