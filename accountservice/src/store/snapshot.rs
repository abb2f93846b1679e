//! sled's snapshot, `snap.*` beside its log. A store needs its newest one: without it, sled may open with less than was
//! written, because it uses parts of the log again.
//!
//! A process that is killed while it opens the store leaves an unfinished one, `snap.*.generating`, beside the last whole
//! one, and sled then refuses the store.

use std::{fs, io, path::Path};

/// Renames the unfinished snapshots in `folder`, so that sled no longer finds them. Returns whether there were any. The
/// store must not be open.
pub(super) fn set_aside_unfinished(folder: &Path) -> io::Result<bool> {
    let mut found = false;
    for file in fs::read_dir(folder)? {
        let file = file?;
        let (path, name) = (file.path(), file.file_name());
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            let aside = folder.join(format!("unfinished-{name}"));
            fs::rename(&path, &aside)?;
            tracing::warn!(
                "{} is unfinished: renamed to {}; the snapshot before it is whole, and nothing is lost",
                path.display(),
                aside.display()
            );
            found = true;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        thread::yield_now,
        time::{Duration, Instant},
    };

    use tempfile::TempDir;

    use super::{
        super::open::{OpenError, open_store},
        *,
    };

    /// Snapshots of a store, the newest last.
    fn snapshots(folder: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut found: Vec<_> =
            files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect();
        found.sort();
        found
    }

    /// Opens a store whose last user has dropped it: sled's threads keep its lock a moment longer.
    fn try_open(folder: &Path) -> Result<sled::Db, OpenError> {
        let start = Instant::now();
        loop {
            match open_store(folder) {
                Err(why)
                    if why.to_string().contains("in use") && start.elapsed() < Duration::from_secs(60) =>
                {
                    yield_now()
                }
                opened => return opened,
            }
        }
    }

    fn open(folder: &Path) -> sled::Db {
        try_open(folder).unwrap()
    }

    /// Returns the entries' numbers.
    fn waiting(folder: &Path) -> Vec<u32> {
        let number = |key: sled::IVec| u32::from_be_bytes(key.as_ref().try_into().unwrap());
        open(folder).open_tree("outbox").unwrap().iter().keys().map(|key| number(key.unwrap())).collect()
    }

    /// Writes and removes entries, as an outbox does: more than a segment of the log.
    fn write(folder: &Path) {
        let store = open(folder);
        let outbox = store.open_tree("outbox").unwrap();
        for n in 0..1500_u32 {
            outbox.insert(n.to_be_bytes(), vec![b'x'; 400]).unwrap();
            if n >= 50 {
                outbox.remove((n - 50).to_be_bytes()).unwrap();
            }
        }
        store.flush().unwrap();
    }

    fn store() -> TempDir {
        let folder = TempDir::new().unwrap();
        // The first opening of a folder makes no snapshot.
        (0..2).for_each(|_| write(folder.path()));
        folder
    }

    #[test]
    fn a_damaged_snapshot_is_refused_with_what_to_do_and_with_the_whole_one_nothing_is_lost() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 4] = [
            ("empty", Vec::clear),
            ("cut to its first bytes", |bytes| bytes.truncate(12)),
            ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
            ("a bit flipped", |bytes| bytes[5] ^= 1),
        ];
        let folder = store();
        let before = waiting(folder.path());
        assert_eq!(before.len(), 50);
        for (what, damage) in damages {
            let newest = snapshots(folder.path()).pop().unwrap();
            let whole = fs::read(&newest).unwrap();
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&newest, &bytes).unwrap();
            let why = try_open(folder.path()).unwrap_err();
            let why = why.to_string();
            assert!(why.contains("is damaged") && why.contains("from one backup"), "{what}: {why}");
            fs::write(&newest, whole).unwrap();
            assert_eq!(waiting(folder.path()), before, "{what}");
        }
    }

    #[test]
    fn a_snapshot_whose_writing_was_interrupted_stops_no_store_and_loses_nothing() {
        let folder = store();
        let before = waiting(folder.path());
        for bytes in [vec![], fs::read(snapshots(folder.path()).pop().unwrap()).unwrap()[..20].to_vec()] {
            fs::write(folder.path().join("snap.0FFFFFFFFFFFFFFF.generating"), bytes).unwrap();
            assert_eq!(waiting(folder.path()), before);
        }
    }
}
