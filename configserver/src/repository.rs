//! The served folder. Its files are read for each request, and no file outside of it is.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use spring::{ParseError, environment::FileError};

/// Limit for the bytes of a file.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// A folder of configuration. It may be a link that is switched to another folder, as a release is to the next.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The absolute path with its links. The names of sources begin with it.
    path: String,
}

/// The folder as it is for one request, whose files are all from there.
#[derive(Debug)]
pub struct Root {
    /// The absolute path without links, so that a file elsewhere does not begin with it.
    root: PathBuf,
}

impl Repository {
    /// Opens the repository in a folder.
    ///
    /// # Errors
    /// The folder does not exist, or its path is not UTF-8.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let unusable = |e: io::Error| format!("--config-repo: cannot read {}: {e}", folder.display());
        if !fs::metadata(folder).map_err(unusable)?.is_dir() {
            return Err(format!("--config-repo: {} is not a folder", folder.display()));
        }
        let absolute = std::path::absolute(folder).map_err(unusable)?;
        let path = absolute.to_str().ok_or("--config-repo: the folder's path is not UTF-8")?;
        Ok(Self { path: path.trim_end_matches('/').to_owned() })
    }

    /// Returns the folder's path, as the names of sources have it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the folder, with the links that lead there.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        // The slash makes a file in its place an error, and `/` itself.
        format!("{}/", self.path).into()
    }

    /// Resolves the links to the folder.
    ///
    /// # Errors
    /// The folder is missing. If its files counted as missing instead, every client would return to its defaults.
    pub fn root(&self) -> Result<Root, FileError> {
        let root = fs::canonicalize(self.folder()).map_err(|e| {
            let error = ParseError::of_file(format!("the folder is missing: {e}"));
            FileError { path: self.path.clone(), error }
        })?;
        Ok(Root { root })
    }
}

impl Root {
    /// Reads a file, by its path below the folder; `None` if there is no such file.
    ///
    /// # Errors
    /// The file is too large, lies elsewhere because of a link, or cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ParseError> {
        let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.contains('\0') {
            return Err(ParseError::of_file("lies outside of the folder"));
        }
        let joined = self.root.join(path);
        let read = || {
            // Most files of a request's plan do not exist. A pipe or a device would keep the reader waiting.
            if !fs::metadata(&joined)?.is_file() {
                return Ok(None);
            }
            let real = fs::canonicalize(&joined)?;
            if !real.starts_with(&self.root) {
                return Err(io::Error::other("is a link that leads out of the folder"));
            }
            let mut bytes = vec![];
            File::open(&real)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_FILE_SIZE {
                return Err(io::Error::other(format!("is larger than {MAX_FILE_SIZE} bytes")));
            }
            Ok(Some(bytes))
        };
        match read() {
            Err(e) if is_absence(&e) => Ok(None),
            result => result.map_err(|e| ParseError::of_file(e.to_string())),
        }
    }
}

/// Returns true if there is no such file, or its name cannot be one.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | InvalidFilename)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_that_is_a_link_is_followed_when_it_is_switched_and_leads_no_file_out_of_it() {
        let outer = tempfile::TempDir::new().unwrap();
        let path = |name: &str| outer.path().join(name);
        for release in ["release1", "release2"] {
            fs::create_dir(path(release)).unwrap();
            fs::write(path(release).join("svc.yml"), release).unwrap();
        }
        symlink("../release1/svc.yml", path("release2").join("old.yml")).unwrap();
        symlink("release1", path("current")).unwrap();
        let repository = Repository::open(&path("current")).unwrap();
        let before = repository.root().unwrap();
        let read = |root: &Root, name: &str| root.read(name).map(|bytes| bytes.map(String::from_utf8));
        assert_eq!(read(&before, "svc.yml"), Ok(Some(Ok("release1".into()))));

        symlink("release2", path("next")).unwrap();
        fs::rename(path("next"), path("current")).unwrap();
        let after = repository.root().unwrap();
        assert_eq!(read(&after, "svc.yml"), Ok(Some(Ok("release2".into()))));
        assert!(read(&after, "old.yml").unwrap_err().reason.contains("leads out of the folder"));
        assert_eq!(read(&before, "svc.yml"), Ok(Some(Ok("release1".into()))), "one request has one release");

        fs::remove_file(path("current")).unwrap();
        assert!(repository.root().unwrap_err().to_string().contains("the folder is missing"));
        fs::write(path("current"), "no folder").unwrap();
        assert!(repository.root().is_err());
    }
}
