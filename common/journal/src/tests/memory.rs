//! A disk in memory. It records what is done to it, and fails when a test says so.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    sync::{Arc, Mutex},
};

use crate::disk::{Folder, Stored};

/// Something that was done. A file is known by its number, whatever its name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Create(usize, String, u64),
    Write(usize, u64, Vec<u8>),
    Sync(usize),
    /// A wait that failed: what was written before may never be on disk, whatever a later one says.
    Failed(usize),
    Rename(String, String),
    Remove(String),
    SyncFolder,
    /// An entry was acknowledged.
    Acknowledged(u64),
    /// An entry was removed.
    Removed(u64),
}

impl Op {
    pub(crate) fn file(&self) -> Option<usize> {
        match self {
            Self::Write(file, ..) | Self::Sync(file) | Self::Failed(file) => Some(*file),
            _ => None,
        }
    }
}

type Hook = Box<dyn FnMut(&Op) -> Option<io::Error> + Send>;

#[derive(Clone, Default)]
struct State {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    ops: Vec<Op>,
    failed: Option<usize>,
    is_unreadable: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Disk {
    /// Returns a disk with these files.
    pub(crate) fn with(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::default();
        let mut state = disk.state.lock().unwrap();
        for (name, bytes) in files {
            let file = state.files.len();
            state.names.insert(name.clone(), file);
            state.files.push(bytes.clone());
        }
        drop(state);
        disk
    }

    /// Returns the disk as it is now, on which a process that is killed now can write no more.
    pub(crate) fn after_kill(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().unwrap().clone())), hook: Arc::default() }
    }

    /// Returns the files with their contents.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.lock().unwrap();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].clone())).collect()
    }

    /// Calls `hook` before each operation, which fails with the error that it returns.
    pub(crate) fn on(&self, hook: impl FnMut(&Op) -> Option<io::Error> + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.state.lock().unwrap().ops.clone()
    }

    /// Returns the place of the last operation that failed among all.
    pub(crate) fn failed(&self) -> Option<usize> {
        self.state.lock().unwrap().failed
    }

    pub(crate) fn file_of(&self, name: &str) -> Option<usize> {
        self.state.lock().unwrap().names.get(name).copied()
    }

    /// Lets reads fail, or no longer.
    pub(crate) fn set_unreadable(&self, is_unreadable: bool) {
        self.state.lock().unwrap().is_unreadable = is_unreadable;
    }

    /// Records an operation, unless it fails.
    pub(crate) fn record(&self, op: Op) -> io::Result<()> {
        let error = self.hook.lock().unwrap().as_mut().and_then(|hook| hook(&op));
        let mut state = self.state.lock().unwrap();
        let Some(error) = error else {
            state.ops.push(op);
            return Ok(());
        };
        state.failed = Some(state.ops.len());
        state.ops.push(op.file().map_or(op, Op::Failed));
        Err(error)
    }
}

impl Folder for Disk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().unwrap().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let file = self.file_of(name).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(File { disk: self.clone(), file }))
    }

    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn Stored>> {
        let file = self.state.lock().unwrap().files.len();
        self.record(Op::Create(file, name.to_owned(), length))?;
        let mut state = self.state.lock().unwrap();
        state.files.push(vec![0; usize::try_from(length).unwrap()]);
        assert_eq!(state.names.insert(name.to_owned(), file), None, "{name} is there");
        Ok(Arc::new(File { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.record(Op::Rename(from.to_owned(), to.to_owned()))?;
        let mut state = self.state.lock().unwrap();
        let file = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.record(Op::Remove(name.to_owned()))?;
        self.state.lock().unwrap().names.remove(name).ok_or(ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.record(Op::SyncFolder)
    }
}

#[derive(Debug)]
struct File {
    disk: Disk,
    file: usize,
}

impl Stored for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.state.lock().unwrap();
        if state.is_unreadable {
            return Err(io::Error::from_raw_os_error(5));
        }
        let bytes = &state.files[self.file];
        let rest = &bytes[usize::try_from(at).unwrap().min(bytes.len())..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.disk.record(Op::Write(self.file, at, bytes.to_vec()))?;
        write(&mut self.disk.state.lock().unwrap().files[self.file], bytes, at);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.record(Op::Sync(self.file))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().unwrap().files[self.file].len() as u64)
    }
}

pub(crate) fn write(file: &mut Vec<u8>, bytes: &[u8], at: u64) {
    let at = usize::try_from(at).unwrap();
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
}
