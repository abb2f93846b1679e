//! The folder that is served. Its files are read for each request, and nothing outside of it is.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use crate::spring::{environment::Broken, yaml::Unreadable};

/// How large a file may be.
pub const LARGEST: u64 = 1024 * 1024;

/// A folder of configuration. It may be a link that is switched to another folder, as a release is to the next.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Absolute, as it was given: the names of sources begin with it.
    shown: String,
}

/// The folder as it is for one request, whose files are all from there.
#[derive(Debug)]
pub struct Root {
    /// Absolute and without links, so that one sees when a file is not below it.
    root: PathBuf,
}

impl Repository {
    /// The repository in a folder.
    ///
    /// # Errors
    /// A folder that is not there.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let unusable = |e: io::Error| format!("--config-repo: cannot read {}: {e}", folder.display());
        if !fs::metadata(folder).map_err(unusable)?.is_dir() {
            return Err(format!("--config-repo: {} is not a folder", folder.display()));
        }
        let absolute = std::path::absolute(folder).map_err(unusable)?;
        let shown = absolute.to_str().ok_or("--config-repo: the folder's path is not UTF-8")?;
        Ok(Self { shown: shown.trim_end_matches('/').to_owned() })
    }

    /// The folder's path, as the names of sources have it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The folder, by whatever links lead there.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        // With its slash it is a folder or nothing, and `/` is itself.
        format!("{}/", self.shown).into()
    }

    /// The folder as it is now.
    ///
    /// # Errors
    /// It is gone: to call all files absent would set every client back to its defaults.
    pub fn root(&self) -> Result<Root, Broken> {
        match fs::canonicalize(self.folder()) {
            Ok(root) => Ok(Root { root }),
            Err(e) => {
                let error = Unreadable { line: 1, why: format!("the folder is not there: {e}") };
                Err(Broken { path: self.shown.clone(), error })
            }
        }
    }
}

impl Root {
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
}

/// Whether there is no such file, or its name cannot be one.
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
        assert!(read(&after, "old.yml").unwrap_err().why.contains("leads out of the folder"));
        assert_eq!(read(&before, "svc.yml"), Ok(Some(Ok("release1".into()))), "one request has one release");

        fs::remove_file(path("current")).unwrap();
        assert!(repository.root().unwrap_err().to_string().contains("the folder is not there"));
        fs::write(path("current"), "no folder").unwrap();
        assert!(repository.root().is_err());
    }
}
