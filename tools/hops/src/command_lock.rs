//! Lock of the commands that start or stop processes of a checkout, so that there is one at a time. A command takes it before
//! it looks at what runs: what it has seen stays true until it is done.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::Context as _;

use crate::{failure::Result, project::Project, state};

const LOCK: &str = "run/command.lock";

/// The lock, which is held until this is dropped. The processes that its holder starts do not inherit it.
#[derive(Debug)]
pub(crate) struct CommandLock {
    _file: File,
}

impl CommandLock {
    /// Takes the lock. Waits for a command that holds it, and says so on standard error.
    ///
    /// # Errors
    /// The folder `.hops` cannot be written.
    pub(crate) async fn take(project: &Project) -> Result<Self> {
        let path = project.path(LOCK);
        let cannot_lock = || format!("cannot lock {}", path.display());
        loop {
            state::prepare(project)?;
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let mut file = file.with_context(cannot_lock)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::Error(error)) => return Err(error).with_context(cannot_lock),
                Err(TryLockError::WouldBlock) => {
                    let holder = fs::read_to_string(&path).unwrap_or_default();
                    let _ = writeln!(
                        io::stderr(),
                        "waiting for process {holder}, which starts or stops this system (`ps {holder}`)"
                    );
                    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
                    file = locked.context("the wait for a lock has failed")?.with_context(cannot_lock)?;
                }
            }
            // `down --all` removes the file with all others, and then its lock says nothing.
            if is_at(&file, &path) {
                let written =
                    file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
                return written.map(|()| Self { _file: file }).with_context(cannot_lock);
            }
        }
    }

    /// Takes the lock if anything has ever been started here.
    ///
    /// # Errors
    /// The folder `.hops` cannot be written.
    pub(crate) async fn take_if_used(project: &Project) -> Result<Option<Self>> {
        if !project.path("run").exists() {
            return Ok(None);
        }
        Self::take(project).await.map(Some)
    }
}

/// Returns true if the path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: io::Result<fs::Metadata>| found.map(|file| (file.dev(), file.ino())).ok();
    identity(file.metadata()) == identity(fs::metadata(path))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_command_at_a_time_also_if_the_folder_is_removed_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("docker-compose.yml"), "").unwrap();
        let project = Project::find(root.path(), BTreeMap::new()).unwrap();
        assert!(CommandLock::take_if_used(&project).await.unwrap().is_none());
        assert!(!project.path("").exists(), "nothing is created where nothing was started");

        let first = CommandLock::take(&project).await.unwrap();
        let mut second = Box::pin(CommandLock::take(&project));
        let early = timeout(Duration::from_millis(50), &mut second).await;
        early.unwrap_err();
        project.remove_data().unwrap();
        drop(first);
        let second = second.await.unwrap();
        let mut third = Box::pin(CommandLock::take(&project));
        let early = timeout(Duration::from_millis(50), &mut third).await;
        early.unwrap_err();
        drop(second);
        third.await.unwrap();
    }
}
