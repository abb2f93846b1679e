//! The folder that is served. Its files are read for each request, and nothing outside of it is.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use crate::spring::{environment::Broken, yaml::Unreadable};

/// How large a file may be.
pub const LARGEST: u64 = 1024 * 1024;

/// A folder of configuration.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Absolute and without links, so that one sees when a file is not below it.
    root: PathBuf,
    /// Absolute, as it was given: the names of sources begin with it.
    shown: String,
}

impl Repository {
    /// The repository in a folder.
    ///
    /// # Errors
    /// A folder that is not there.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let unusable = |e: io::Error| format!("--config-repo: cannot read {}: {e}", folder.display());
        let root = fs::canonicalize(folder).map_err(unusable)?;
        let absolute = std::path::absolute(folder).map_err(unusable)?;
        if !root.is_dir() {
            return Err(format!("--config-repo: {} is not a folder", folder.display()));
        }
        let shown = absolute.to_str().ok_or("--config-repo: the folder's path is not UTF-8")?;
        Ok(Self { root, shown: shown.trim_end_matches('/').to_owned() })
    }

    /// The folder that is read.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder's path, as the names of sources have it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The bytes of a file, by its path below the folder; `None` if there is none.
    ///
    /// # Errors
    /// A file that is too large, lies elsewhere by a link, or cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        let unreadable = |why: String| Unreadable { line: 1, why };
        let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.contains('\0') {
            return Err(unreadable("lies outside of the folder".into()));
        }
        let joined = self.root.join(path);
        let read = || {
            // Most files that are looked for are not there. A pipe or a device would keep the reader waiting.
            if !fs::metadata(&joined)?.is_file() {
                return Ok(None);
            }
            let real = fs::canonicalize(&joined)?;
            if !real.starts_with(&self.root) {
                return Err(io::Error::other("is a link that leads out of the folder"));
            }
            let mut bytes = vec![];
            File::open(&real)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > LARGEST {
                return Err(io::Error::other(format!("is larger than {LARGEST} bytes")));
            }
            Ok(Some(bytes))
        };
        match read() {
            Err(e) if is_absence(&e) => Ok(None),
            result => result.map_err(|e| unreadable(e.to_string())),
        }
    }

    /// Fails when the folder is gone: to call all files absent would set every client back to its defaults.
    ///
    /// # Errors
    /// The folder.
    pub fn is_there(&self) -> Result<(), Broken> {
        match self.root.is_dir() {
            true => Ok(()),
            false => {
                let error = Unreadable { line: 1, why: "the folder is not there".into() };
                Err(Broken { path: self.shown.clone(), error })
            }
        }
    }
}

/// Whether there is no such file, or its name cannot be one.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidFilename)
}
