//! Watcher of the folder: a file that is saved, created or deleted causes the refresh events that `/monitor` would send.
//!
//! It polls names, times and sizes four times a second, and reads a file only if these differ. So it works on every file
//! system and mount, however an editor saves, and ignores a save without a change. A folder that is missing for a while
//! counts as unchanged until it is back.
//! `notify`'s `PollWatcher` was tried instead. It reports a newer time as a change even if the content is the same, and a
//! missing folder as the deletion of its files, so that this module would have to keep the contents all the same. It
//! also reads all files at each poll, without a limit for their size, number or depth.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use documented::DocumentedFields;
use hops_config::Section;
use serde::{Deserialize, Serialize};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    monitor::{Refresher, push},
    repository::MAX_FILE_SIZE,
};

/// Shortest time between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Limit for the polls that wait for the end of a burst of changes, so that the burst is one event.
const MAX_BURST_POLLS: u32 = 2;
/// Shortest time between two polls, as a multiple of the time that a poll takes: a large folder is polled less often.
const REST_FACTOR: u32 = 20;
/// Age from which on a file with the same time and size cannot have another content: clocks of file systems are coarse.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// Extensions of configuration files.
const EXTENSIONS: [&str; 3] = [".yml", ".yaml", ".properties"];
/// Limit for the depth of folders.
const MAX_DEPTH: usize = 8;
/// Limit for the number of files.
const MAX_FILES: usize = 10_000;

/// The settings of the watcher.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// true: a file that is saved in the folder causes a refresh event (default true)
    pub watch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { watch: true }
    }
}

impl Section for Settings {}

/// State of the folder at the last poll.
#[derive(Debug)]
pub struct Watch {
    folder: PathBuf,
    files: BTreeMap<String, FileState>,
    is_missing: bool,
}

/// State of a file at the last poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    stamp: (SystemTime, u64, u64),
    is_settled: bool,
    content: u64,
}

impl Watch {
    /// Polls the folder for the first time. Later changes count.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let mut watch = Self { folder: folder.to_owned(), files: BTreeMap::new(), is_missing: false };
        let _ = watch.poll();
        watch
    }

    /// Returns the files that have changed since the last poll.
    fn poll(&mut self) -> Vec<String> {
        let mut files = BTreeMap::new();
        if let Err(error) = self.read(&self.folder, "", 0, &mut files) {
            if !std::mem::replace(&mut self.is_missing, true) {
                tracing::warn!("the folder {} cannot be watched: {error}", self.folder.display());
            }
            return vec![];
        }
        if std::mem::replace(&mut self.is_missing, false) {
            tracing::info!("the folder {} is back", self.folder.display());
        }
        let before = std::mem::replace(&mut self.files, files);
        let content =
            |files: &BTreeMap<String, FileState>, path: &str| files.get(path).map(|file| file.content);
        let paths = before.keys().chain(self.files.keys()).collect::<BTreeSet<_>>().into_iter();
        paths.filter(|path| content(&before, path) != content(&self.files, path)).cloned().collect()
    }

    /// Adds the files of a folder. A name with a dot at its beginning belongs to an editor or a tool.
    fn read(
        &self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        files: &mut BTreeMap<String, FileState>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || files.len() >= MAX_FILES {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < MAX_DEPTH {
                    // The folder may be gone by now, and so may a file.
                    let _ = self.read(&entry.path(), &format!("{path}/"), depth + 1, files);
                }
            } else if EXTENSIONS.iter().any(|extension| name.ends_with(extension))
                && let Ok(Some(state)) = file_state(&entry.path(), self.files.get(&path))
            {
                files.insert(path, state);
            }
        }
        Ok(())
    }
}

fn file_state(path: &Path, before: Option<&FileState>) -> io::Result<Option<FileState>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let stamp = (metadata.modified()?, metadata.len(), metadata.ino());
    let is_settled = stamp.0.elapsed().is_ok_and(|age| age > SETTLE_TIME);
    if let Some(before) = before.filter(|before| before.stamp == stamp && before.is_settled) {
        return Ok(Some(*before));
    }
    let mut bytes = vec![];
    File::open(path)?.take(MAX_FILE_SIZE).read_to_end(&mut bytes)?;
    let mut content = DefaultHasher::new();
    content.write(&bytes);
    content.write_u64(stamp.1);
    Ok(Some(FileState { stamp, is_settled, content: content.finish() }))
}

/// Polls until `stop`, and sends the refresh events of each change, however long the broker is away.
pub async fn run(mut watch: Watch, refresher: Refresher, stop: CancellationToken) {
    let folder = watch.folder.clone();
    let (mut changed, mut waited, mut pause) = (BTreeSet::new(), 0, POLL_INTERVAL);
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        let start = Instant::now();
        let poll = spawn_blocking(move || {
            let found = watch.poll();
            (watch, found)
        });
        // A file system that hangs does not delay the stop.
        let (again, found) = match stop.run_until_cancelled(poll).await {
            Some(Ok(polled)) => polled,
            Some(Err(e)) => {
                return tracing::error!("the folder {} is no longer watched: {e}", folder.display());
            }
            None => return,
        };
        watch = again;
        pause = POLL_INTERVAL.max(REST_FACTOR * start.elapsed());
        let is_quiet = found.is_empty();
        changed.extend(found);
        if changed.is_empty() {
            continue;
        }
        if is_quiet || waited >= MAX_BURST_POLLS {
            let files = std::mem::take(&mut changed);
            waited = 0;
            tracing::info!("changed files: {}", Vec::from_iter(files.iter().map(String::as_str)).join(", "));
            let names = push::names(files.iter().map(String::as_str));
            let sending = refresher.refresh(&names, Duration::MAX);
            let _ = stop.run_until_cancelled(sending).await;
        } else {
            waited += 1;
        }
    }
}

#[cfg(test)]
mod tests;
