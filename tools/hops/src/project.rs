//! The checkout that a command works on, and its folder `.hops`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    compose::{Compose, FILE},
    failure::Result,
};

/// Folder for everything that the tool and the services store; ignored by git.
const FOLDER: &str = ".hops";

/// Checkout of the repository.
#[derive(Debug, Clone)]
pub struct Project {
    root: String,
    variables: BTreeMap<String, String>,
    port_base: u16,
}

impl Project {
    /// Finds the nearest folder with a `docker-compose.yml`, from `from` upwards.
    ///
    /// # Errors
    /// There is none, or `HOPS_PORT_BASE` is not a number.
    pub fn find(from: &Path, variables: BTreeMap<String, String>) -> Result<Self> {
        let root = from.ancestors().find(|folder| folder.join(FILE).is_file()).with_context(|| {
            format!(
                "neither {} nor a folder above it has a {FILE}: `cd` to your checkout first",
                from.display()
            )
        })?;
        let root = root
            .to_str()
            .with_context(|| format!("{}: the folder's name is not UTF-8: rename it", root.display()))?;
        let base = variables.get("HOPS_PORT_BASE").map_or("0", String::as_str);
        let port_base = base.parse().ok().filter(|base| *base <= 50_000).with_context(|| {
            format!(
                "HOPS_PORT_BASE: `{base}` is not a number from 0 to 50000; it is added to each fixed port, as in \
                 `HOPS_PORT_BASE=1000 cargo hops up`"
            )
        })?;
        Ok(Self { root: root.to_owned(), variables, port_base })
    }

    /// Returns the absolute path of the folder with the compose file.
    #[must_use]
    pub fn root(&self) -> &Path {
        Path::new(&self.root)
    }

    /// Returns a fixed port plus `HOPS_PORT_BASE`, with which two checkouts can run side by side.
    #[must_use]
    pub fn shifted(&self, port: u16) -> u16 {
        port.saturating_add(self.port_base)
    }

    /// Returns an environment variable, unless it is empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Reads the compose file, with the environment's variables in it replaced.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn compose(&self) -> Result<Compose> {
        let text =
            fs::read_to_string(self.root().join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        Compose::parse(&text, &self.variables)
    }

    /// Returns the absolute path of a file or folder in `.hops`.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(FOLDER).join(below)
    }

    /// Returns the absolute path of a file or folder in `.hops` as text.
    #[must_use]
    pub fn text_path(&self, below: &str) -> String {
        format!("{}/{FOLDER}/{below}", self.root.trim_end_matches('/'))
    }

    /// Creates a folder in `.hops`.
    ///
    /// # Errors
    /// The checkout is not writable; the error suggests a copy of it.
    pub fn create_folder(&self, below: &str) -> Result<PathBuf> {
        let path = self.path(below);
        fs::create_dir_all(&path).map_err(|error| {
            let copy = "~/hops";
            anyhow::anyhow!(
                "cannot write {}: {error}. Everything that runs stores its files there, so the checkout must be \
                 writable: `cp -R {} {copy} && cd {copy} && cargo hops up`",
                path.display(),
                self.root
            )
        })?;
        Ok(path)
    }
}

/// Writes a file completely or not at all, even if the process is killed meanwhile.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(from: &Path, base: &str) -> Result<Project> {
        Project::find(from, BTreeMap::from([("HOPS_PORT_BASE".into(), base.into())]))
    }

    #[test]
    fn the_checkout_is_found_from_any_folder_of_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), "services: {}").unwrap();
        let below = root.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let project = find(&below, "1000").unwrap();
        assert_eq!((project.root(), project.shifted(6767)), (root.path(), 7767));
        assert_eq!(project.path("run"), root.path().join(".hops/run"));

        let elsewhere = tempfile::tempdir().unwrap();
        assert!(find(elsewhere.path(), "0").unwrap_err().to_string().contains("`cd` to your checkout"));
        assert!(find(&below, "many").unwrap_err().to_string().contains("HOPS_PORT_BASE=1000 cargo hops up"));
    }
}
