//! The checkout that a command works on, and its folder `.hops`.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    compose::{Compose, FILE, VolumeSource, raw::decode},
    failure::Result,
};

/// Folder for everything that the tool and the services store; ignored by git.
const FOLDER: &str = ".hops";
/// Mode of a folder that only its owner can read and write.
const OWNER_ONLY: u32 = 0o700;

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

    /// Returns a fixed port plus `HOPS_PORT_BASE`, with which two checkouts can run side by side; at most the last port.
    #[must_use]
    pub fn shifted(&self, port: u16) -> u16 {
        port.saturating_add(self.port_base)
    }

    /// Returns a published port plus `HOPS_PORT_BASE`.
    ///
    /// # Errors
    /// The sum is not a port.
    pub fn published(&self, port: u16, service: &str) -> Result<u16> {
        let sum = format!("the published port {port} plus HOPS_PORT_BASE={}", self.port_base);
        let problem = || format!("{service}: {sum} is more than 65535: lower one of them");
        port.checked_add(self.port_base).with_context(problem)
    }

    /// Returns an environment variable, unless it is empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Reads the compose file, with the environment's variables in it replaced.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong, or a folder that it mounts does not exist.
    pub fn compose(&self) -> Result<Compose> {
        let bytes = fs::read(self.root().join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
        self.parse_compose(&decode(bytes)?)
    }

    /// Parses the text of a compose file of this checkout.
    ///
    /// # Errors
    /// Something in it is wrong, or a folder that it mounts does not exist.
    pub fn parse_compose(&self, text: &str) -> Result<Compose> {
        let compose = Compose::parse(text, &self.variables)?;
        for service in &compose.services {
            for volume in &service.volumes {
                let VolumeSource::Folder(folder) = &volume.source else { continue };
                let folder = self.absolute(folder);
                if !folder.exists() {
                    // As on a swarm: nothing of this machine is created by mistake.
                    bail!("{FILE}: services.{}.volumes: {} does not exist", service.name, folder.display());
                }
            }
        }
        Ok(compose)
    }

    /// Returns the absolute path of a file or folder that the compose file names, without `.` and `..`.
    #[must_use]
    pub fn absolute(&self, path: &str) -> PathBuf {
        let mut absolute = PathBuf::new();
        for part in self.root().join(path).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(absolute.pop()),
                part => absolute.push(part),
            }
        }
        absolute
    }

    /// Removes everything in `.hops`, and the folder itself unless it is a link to one elsewhere.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_data(&self) -> Result<()> {
        let folder = self.root().join(FOLDER);
        let removed = match fs::symlink_metadata(&folder) {
            Err(error) => Err(error),
            Ok(found) if found.is_symlink() => empty(&folder),
            Ok(_) => empty(&folder).and_then(|()| fs::remove_dir(&folder)),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        }
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

    /// Creates a folder in `.hops` that only its owner can read, or takes their rights to an earlier one from others: it
    /// holds accounts, messages and logs.
    ///
    /// # Errors
    /// The folder cannot be written, or belongs to somebody else.
    pub fn create_private_folder(&self, below: &str) -> Result<PathBuf> {
        let path = self.create_folder(below)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(OWNER_ONLY)).with_context(|| {
            format!("cannot restrict access to {}: let it belong to you, or move it away", path.display())
        })?;
        Ok(path)
    }

    /// Creates a folder in `.hops`; only its owner can read new ones.
    ///
    /// # Errors
    /// The checkout is not writable; the error suggests a copy of it.
    pub fn create_folder(&self, below: &str) -> Result<PathBuf> {
        let path = self.path(below);
        fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(&path).map_err(|error| {
            if let Some(file) = path.ancestors().find(|above| above.is_file() || is_dangling(above)) {
                return anyhow::anyhow!("{} is to be a folder: remove it, or give it another name", file.display());
            }
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

/// Returns true for a link that leads to nothing.
fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// Removes everything in a folder. Folders in it, such as `volumes`, may be links to folders elsewhere.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_link = path.is_symlink();
        if is_link && path.is_dir() {
            for entry in fs::read_dir(&path)? {
                remove(&entry?.path())?;
            }
        }
        remove(&path)?;
    }
    Ok(())
}

/// Removes a file, a link, or a folder with everything in it.
fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Writes a file completely or not at all, even if the process is killed meanwhile.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
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

    #[test]
    fn paths_of_the_compose_file_are_absolute() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), "").unwrap();
        let project = find(root.path(), "0").unwrap();
        let parent = root.path().parent().unwrap();
        for (path, expected) in [
            ("./here", root.path().join("here")),
            (".", root.path().to_owned()),
            ("a/../b/./c", root.path().join("b/c")),
            ("../beside", parent.join("beside")),
            ("/srv/data/", PathBuf::from("/srv/data")),
            ("/../..", PathBuf::from("/")),
        ] {
            assert_eq!(project.absolute(path), expected, "{path}");
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_named() {
        for in_the_way in [".hops", ".hops/run", ".hops/run/tasks"] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join(FILE), "").unwrap();
            let project = find(root.path(), "0").unwrap();
            let path = root.path().join(in_the_way);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            let expected = format!("{} is to be a folder: remove it", path.display());
            let error = project.create_folder("run/tasks").unwrap_err().to_string();
            assert!(error.contains(&expected), "{error}");
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("nothing", &path).unwrap();
            let error = project.create_folder("run/tasks").unwrap_err().to_string();
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn data_is_removed_behind_links_to_other_disks_too() {
        for (is_link, volumes_are_a_link) in [(false, false), (true, false), (false, true), (true, true)] {
            let (root, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            fs::write(root.path().join(FILE), "").unwrap();
            let project = find(root.path(), "0").unwrap();
            let (hops, one, other) =
                (root.path().join(".hops"), disk.path().join("1"), disk.path().join("2"));
            for folder in [&one, &other] {
                fs::create_dir(folder).unwrap();
            }
            if is_link {
                std::os::unix::fs::symlink(&one, &hops).unwrap();
            }
            project.create_folder("run").unwrap();
            if volumes_are_a_link {
                std::os::unix::fs::symlink(&other, hops.join("volumes")).unwrap();
            }
            fs::create_dir_all(hops.join("volumes/data/below")).unwrap();
            fs::write(hops.join("volumes/data/below/file"), "").unwrap();
            fs::write(disk.path().join("stranger"), "").unwrap();
            std::os::unix::fs::symlink(disk.path(), hops.join("volumes/data/link")).unwrap();

            project.remove_data().unwrap();
            let left = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
            assert_eq!((left(&hops), left(&one), left(&other)), (0, 0, 0), "{is_link} {volumes_are_a_link}");
            assert_eq!(hops.is_symlink(), is_link, "a link stays, since the next `up` is to use it again");
            assert!(disk.path().join("stranger").exists(), "what a service has linked is not removed");
            project.remove_data().unwrap();
            assert!(is_link || !hops.exists());
        }
    }
}
