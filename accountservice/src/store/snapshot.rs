//! sled's snapshot, `snap.*` beside its log: a summary that makes opening faster.
//!
//! sled makes a new one from its log if there is none, but refuses a store whose newest snapshot is not whole. A process
//! that is killed while it opens the store leaves such a file, `snap.*.generating`.

use std::{fs, io, path::Path};

/// Bytes at the end of a snapshot: the length of its content (8 bytes) and the checksum of it (4 bytes).
const TRAILER: usize = 12;

/// Renames the snapshots in `folder` that are not whole, so that sled no longer finds them. Returns whether there were
/// any. The store must not be open.
pub(super) fn set_aside_damaged(folder: &Path) -> io::Result<bool> {
    let mut found = false;
    for file in fs::read_dir(folder)? {
        let file = file?;
        let (path, name) = (file.path(), file.file_name());
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && !is_whole(&fs::read(&path)?) {
            let aside = folder.join(format!("damaged-{name}"));
            fs::rename(&path, &aside)?;
            tracing::warn!(
                "{} is empty or damaged: renamed to {}; sled makes a new one from its log, and nothing is lost",
                path.display(),
                aside.display()
            );
            found = true;
        }
    }
    Ok(found)
}

fn is_whole(snapshot: &[u8]) -> bool {
    let Some((content, trailer)) =
        snapshot.len().checked_sub(TRAILER).map(|length| snapshot.split_at(length))
    else {
        return false;
    };
    !content.is_empty() && trailer.ends_with(&crc32fast::hash(content).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        thread::yield_now,
        time::{Duration, Instant},
    };

    use tempfile::TempDir;

    use super::{super::open_store, *};

    /// Snapshots of a store, the newest last.
    fn snapshots(folder: &Path) -> Vec<PathBuf> {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut found: Vec<_> =
            files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).collect();
        found.sort();
        found
    }

    /// Opens a store whose last user has dropped it: sled's threads keep its lock a moment longer.
    fn open(folder: &Path) -> sled::Db {
        let start = Instant::now();
        loop {
            match open_store(folder) {
                Err(why) if why.contains("in use") && start.elapsed() < Duration::from_secs(60) => {
                    yield_now()
                }
                opened => return opened.unwrap(),
            }
        }
    }

    fn waiting(folder: &Path) -> Vec<(sled::IVec, sled::IVec)> {
        open(folder).open_tree("outbox").unwrap().iter().map(Result::unwrap).collect()
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

    fn copy(folder: &TempDir) -> TempDir {
        let copy = TempDir::new().unwrap();
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            if file.path().is_file() {
                fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
        }
        copy
    }

    #[test]
    fn an_empty_or_damaged_snapshot_stops_no_store_and_loses_nothing() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 4] = [
            ("empty", Vec::clear),
            ("cut to its first bytes", |bytes| bytes.truncate(TRAILER)),
            ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
            ("a bit flipped", |bytes| bytes[5] ^= 1),
        ];
        let whole = store();
        let before = waiting(whole.path());
        assert_eq!(before.len(), 50);
        for (what, damage) in damages {
            let folder = copy(&whole);
            let newest = snapshots(folder.path()).pop().unwrap();
            let mut bytes = fs::read(&newest).unwrap();
            damage(&mut bytes);
            fs::write(&newest, &bytes).unwrap();

            assert_eq!(waiting(folder.path()), before, "{what}");
            let aside = format!("damaged-{}", newest.file_name().unwrap().to_string_lossy());
            assert_eq!(
                fs::read(folder.path().join(aside)).unwrap(),
                bytes,
                "{what}: it is kept for a person"
            );
            assert_eq!(waiting(folder.path()), before, "{what}: opened once more");
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

    #[test]
    fn an_old_snapshot_and_none_at_all_lose_nothing() {
        let folder = store();
        let old = snapshots(folder.path()).pop().unwrap();
        let bytes = fs::read(&old).unwrap();
        write(folder.path());
        let before = waiting(folder.path());
        assert!(!old.exists(), "it was replaced by a newer one");
        snapshots(folder.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(&old, bytes).unwrap();
        assert_eq!(waiting(folder.path()), before, "an old one");
        snapshots(folder.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        assert_eq!(waiting(folder.path()), before, "none");
    }

    #[test]
    fn a_snapshot_of_a_newer_log_is_refused_with_what_to_do() {
        let old = store();
        let new = copy(&old);
        write(new.path());
        drop(waiting(new.path()));
        let newer = snapshots(new.path()).pop().unwrap();
        fs::copy(&newer, old.path().join(newer.file_name().unwrap())).unwrap();
        let why = open_store(old.path()).unwrap_err();
        assert!(why.contains("is damaged") && why.contains("from one backup"), "{why}");
    }
}
