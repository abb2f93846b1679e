//! The checkout that a command is about, and its folder `.hops`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    compose::{Compose, FILE},
    failure::{Doing as _, Failure, Result},
};

/// Where everything is kept; ignored by git.
const FOLDER: &str = ".hops";

/// A checkout.
#[derive(Debug, Clone)]
pub struct Project {
    root: String,
    variables: BTreeMap<String, String>,
    port_base: u16,
}

impl Project {
    /// The nearest folder above `from` that has a `docker-compose.yml`.
    ///
    /// # Errors
    /// There is none, or `HOPS_PORT_BASE` is no number.
    pub fn find(from: &Path, variables: BTreeMap<String, String>) -> Result<Self> {
        let root = from.ancestors().find(|folder| folder.join(FILE).is_file()).ok_or_else(|| {
            format!(
                "neither {} nor a folder above it has a {FILE}: `cd` to your checkout first",
                from.display()
            )
        })?;
        let root =
            root.to_str().ok_or_else(|| format!("{}: its name is not UTF-8", root.display()))?.to_owned();
        let base = variables.get("HOPS_PORT_BASE").map_or("0", String::as_str);
        let port_base = base.parse().ok().filter(|base| *base <= 50_000).ok_or_else(|| {
            format!(
                "HOPS_PORT_BASE: `{base}` is no number from 0 to 50000; it is added to each fixed port, as in \
                 `HOPS_PORT_BASE=1000 cargo hops up`"
            )
        })?;
        Ok(Self { root, variables, port_base })
    }

    /// The folder with the compose file, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        Path::new(&self.root)
    }

    /// A fixed port with `HOPS_PORT_BASE` added, so that two checkouts run side by side.
    #[must_use]
    pub fn shifted(&self, port: u16) -> u16 {
        port.saturating_add(self.port_base)
    }

    /// A variable of the environment, unless it is empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The compose file, read with the environment's variables.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn compose(&self) -> Result<Compose> {
        let text = fs::read_to_string(self.root().join(FILE)).doing(|| format!("read {FILE}"))?;
        Compose::parse(&text, &self.variables)
    }

    /// A path below `.hops`, absolute.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(FOLDER).join(below)
    }

    /// The same as text.
    #[must_use]
    pub fn text_path(&self, below: &str) -> String {
        format!("{}/{FOLDER}/{below}", self.root.trim_end_matches('/'))
    }

    /// Makes a folder below `.hops`.
    ///
    /// # Errors
    /// It cannot be written, with a way out.
    pub fn folder(&self, below: &str) -> Result<PathBuf> {
        let path = self.path(below);
        fs::create_dir_all(&path).map_err(|error| {
            let copy = "~/hops";
            Failure::Why(format!(
                "cannot write {}: {error}. Everything that runs is kept there, so the checkout must be writable: \
                 `cp -R {} {copy} && cd {copy} && cargo hops up`",
                path.display(),
                self.root
            ))
        })?;
        Ok(path)
    }
}

/// Writes a file whole or not at all, whatever ends us.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, path))
        .doing(|| format!("write {}", path.display()))
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
