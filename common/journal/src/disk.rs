//! The folder of a journal and its files: a trait, since tests need one that fails and one that records what was synced.

use std::{
    fmt::Debug,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::{Errno, retry_on_intr},
};

/// A folder with files.
pub(crate) trait Folder: Send + Sync + Debug {
    /// Returns the names of the files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file for reading, and for writing if that is allowed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>>;
    /// Creates a file of so many zeros, for which there is room on the disk then.
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn Stored>>;
    /// Renames a file.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Waits until the names of the files are on disk.
    fn sync(&self) -> io::Result<()>;
}

/// A file of a folder.
pub(crate) trait Stored: Send + Sync + Debug {
    /// Reads at a place, and returns the number of bytes; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes at a place.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until what was written is on disk. After an error the kernel may have forgotten it, so a second call that
    /// succeeds says nothing.
    fn sync(&self) -> io::Result<()>;
    /// Returns the number of bytes.
    fn length(&self) -> io::Result<u64>;
}

/// A folder of the file system.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Creates the folder unless it is there, for its owner only, and locks it as long as the file is open. A disk that may not
    /// be written has no lock, if none was there before.
    pub(crate) fn locked(path: &Path) -> io::Result<(Self, Option<File>)> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            // Folders above it may be new, too. Some may not be opened, but those are old.
            for above in path.canonicalize()?.ancestors().skip(1) {
                if let Ok(above) = File::open(above) {
                    above.sync_all()?;
                }
            }
        }
        let name = path.join("lock");
        let lock = match File::create(&name) {
            Err(error) if is_not_writable(&error) => File::open(&name).ok(),
            created => Some(created?),
        };
        match lock.as_ref().map(File::try_lock) {
            Some(Err(TryLockError::WouldBlock)) => {
                return Err(ErrorKind::ResourceBusy.into());
            }
            Some(Err(TryLockError::Error(error))) => return Err(error),
            Some(Ok(())) | None => {}
        }
        Ok((Self { path: path.to_owned() }, lock))
    }
}

/// Returns whether somebody may only read.
fn is_not_writable(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

impl Folder for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|file| Ok(file?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Stored>> {
        let path = self.path.join(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if is_not_writable(&error) => File::open(&path)?,
            opened => opened?,
        };
        Ok(Arc::new(file))
    }

    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn Stored>> {
        let options = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).clone();
        let file = options.open(self.path.join(name))?;
        match retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, length)) {
            Err(Errno::OPNOTSUPP) => {
                let zeros = [0; 64 * 1024];
                for at in (0..length).step_by(zeros.len()) {
                    let rest = usize::try_from(length - at).unwrap_or(usize::MAX);
                    FileExt::write_all_at(&file, &zeros[..rest.min(zeros.len())], at)?;
                }
            }
            reserved => reserved?,
        }
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Stored for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Sequential reader of a file.
#[derive(Debug)]
pub(crate) struct Sequential {
    file: Arc<dyn Stored>,
    at: u64,
}

impl Sequential {
    pub(crate) fn new(file: Arc<dyn Stored>) -> Self {
        Self { file, at: 0 }
    }
}

impl io::Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
