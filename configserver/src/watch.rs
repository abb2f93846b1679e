//! Watches the folder: a file that is saved, made or deleted leads to the refreshes that `/monitor` would send for it.
//!
//! It looks four times a second, at names, times and sizes, and reads a file only where these differ: so it works on
//! every file system and mount, however an editor saves, and a save without a change is none. A folder that is away
//! for a while is as it was, until it is back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    monitor::{Refresher, push},
    repository::LARGEST,
};

/// Between two looks. After a change one more is awaited, so that several in one burst are one; at most two.
const LOOK: Duration = Duration::from_millis(250);
const PATIENT_LOOKS: u32 = 2;
/// A look takes at most one part in so many of the time: in a folder of thousands of files there are fewer.
const SHARE: u32 = 20;
/// A file that was written so shortly before a look may be written again and look the same.
const SETTLED: Duration = Duration::from_secs(2);
/// The files that are configuration.
const EXTENSIONS: [&str; 3] = [".yml", ".yaml", ".properties"];
/// How deep folders are looked into, and how many files are watched.
const DEEPEST: usize = 8;
const MOST_FILES: usize = 10_000;

/// What was seen of the folder.
#[derive(Debug)]
pub struct Watch {
    folder: PathBuf,
    files: BTreeMap<String, Seen>,
    is_away: bool,
}

/// What was seen of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    stamp: (SystemTime, u64, u64),
    is_settled: bool,
    content: u64,
}

impl Watch {
    /// From now on.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let mut watch = Self { folder: folder.to_owned(), files: BTreeMap::new(), is_away: false };
        let _ = watch.look();
        watch
    }

    /// The files that differ from what they were at the last look.
    fn look(&mut self) -> Vec<String> {
        let mut files = BTreeMap::new();
        if let Err(error) = self.read(&self.folder, "", 0, &mut files) {
            if !std::mem::replace(&mut self.is_away, true) {
                tracing::warn!("cannot watch {}: {error}", self.folder.display());
            }
            return vec![];
        }
        if std::mem::replace(&mut self.is_away, false) {
            tracing::info!("{} is back", self.folder.display());
        }
        let before = std::mem::replace(&mut self.files, files);
        let content = |files: &BTreeMap<String, Seen>, path: &str| files.get(path).map(|seen| seen.content);
        let paths = before.keys().chain(self.files.keys()).collect::<BTreeSet<_>>().into_iter();
        paths.filter(|path| content(&before, path) != content(&self.files, path)).cloned().collect()
    }

    /// Adds the files of a folder; what begins with a dot is an editor's, or a tool's.
    fn read(
        &self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        files: &mut BTreeMap<String, Seen>,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || files.len() >= MOST_FILES {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if depth < DEEPEST {
                    // It may be gone by now, and so may a file.
                    let _ = self.read(&entry.path(), &format!("{path}/"), depth + 1, files);
                }
            } else if EXTENSIONS.iter().any(|extension| name.ends_with(extension))
                && let Ok(Some(seen)) = see(&entry.path(), self.files.get(&path))
            {
                files.insert(path, seen);
            }
        }
        Ok(())
    }
}

fn see(path: &Path, before: Option<&Seen>) -> io::Result<Option<Seen>> {
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Ok(None);
    }
    let stamp = (about.modified()?, about.len(), about.ino());
    let is_settled = stamp.0.elapsed().is_ok_and(|age| age > SETTLED);
    if let Some(before) = before.filter(|before| before.stamp == stamp && before.is_settled) {
        return Ok(Some(*before));
    }
    let mut bytes = vec![];
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    let mut content = DefaultHasher::new();
    content.write(&bytes);
    content.write_u64(stamp.1);
    Ok(Some(Seen { stamp, is_settled, content: content.finish() }))
}

/// Looks until `stop`, and tells those whom a change concerns, however long the broker is not there.
pub async fn run(mut watch: Watch, refresher: Refresher, stop: CancellationToken) {
    let folder = watch.folder.clone();
    let (mut changed, mut waited, mut pause) = (BTreeSet::new(), 0, LOOK);
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        let start = Instant::now();
        let look = spawn_blocking(move || {
            let found = watch.look();
            (watch, found)
        });
        // A folder that answers nothing holds up no stop.
        let (again, found) = match stop.run_until_cancelled(look).await {
            Some(Ok(looked)) => looked,
            Some(Err(why)) => return tracing::error!("{} is not watched any more: {why}", folder.display()),
            None => return,
        };
        watch = again;
        pause = LOOK.max(SHARE * start.elapsed());
        let is_quiet = found.is_empty();
        changed.extend(found);
        if changed.is_empty() {
            continue;
        }
        if is_quiet || waited >= PATIENT_LOOKS {
            let files = std::mem::take(&mut changed);
            waited = 0;
            tracing::info!("changed: {}", Vec::from_iter(files.iter().map(String::as_str)).join(", "));
            let names = push::names(files.iter().map(String::as_str));
            let told = refresher.refresh(&names, Duration::MAX);
            let _ = stop.run_until_cancelled(told).await;
        } else {
            waited += 1;
        }
    }
}

#[cfg(test)]
mod tests;
