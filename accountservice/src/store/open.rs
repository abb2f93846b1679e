//! Opening a store: all of it is read, so that damage is found now, and not by a request.
//!
//! What is damaged is set aside, and never removed; the stream of changes then fills a new store.

use std::{
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use messaging::panic_text;
use outbox::Outbox;
use service::instance::create_private_folder;

use super::{SledAccountStore, mark, snapshot};
use crate::{OUTBOX, account::Account, outbox_migration};

/// sled's page cache. Its own default of 1 GiB is meant for large stores.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// Beginning of the names of folders with a damaged store.
const ASIDE: &str = "damaged-";

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not as it was written.
    #[error(
        "the store {} is damaged: {why}; copy this folder first, then restore all of its files from one backup, or start with an empty \
         folder (`--data-dir DIR`), which has none of the notifications that wait here",
        folder.display()
    )]
    Damaged {
        /// Its folder.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process has it, or the disk does not let it be used: a sentence that says what to do.
    #[error("{0}")]
    Unusable(String),
}

impl OpenError {
    pub(super) fn damaged(folder: &Path, why: &str) -> Self {
        Self::Damaged { folder: folder.to_owned(), why: why.to_owned() }
    }
}

/// Opens the store in `folder` with these first accounts, and the outbox beside it, to which that of the version before moves. A
/// damaged store is set aside for a new one, unless the outbox of that version may be in it.
///
/// # Errors
/// A sentence that says what to do; the store is as it was then.
pub async fn open_accounts(
    folder: &Path,
    seed: &[Account],
    open_outbox: impl FnOnce() -> Result<Outbox, String>,
) -> Result<(SledAccountStore, Outbox), String> {
    let may_have_an_outbox = may_have_an_outbox(folder);
    let set_aside = |why: &str| {
        let aside = set_aside(folder).map_err(|e| {
            format!("the store {} is damaged: {why}, and cannot be set aside: {e}", folder.display())
        })?;
        tracing::error!(
            "the store {} is damaged: {why}; it was set aside as {}, and the stream of changes fills a new one",
            folder.display(),
            aside.display()
        );
        open_store(folder).map_err(|error| error.to_string())
    };
    // Its lock is what says that another process is at work here.
    let store = match open_store(folder) {
        Ok(store) => store,
        Err(OpenError::Damaged { why, .. }) if !may_have_an_outbox => set_aside(&why)?,
        Err(error) => return Err(error.to_string()),
    };
    let outbox = open_outbox()?;
    outbox_migration::migrate(&store, &outbox).await?;
    let accounts = match SledAccountStore::seeded(&store, folder, seed) {
        Err(OpenError::Damaged { why, .. }) if !may_have_an_outbox => {
            drop(store);
            SledAccountStore::seeded(&set_aside(&why)?, folder, seed)
        }
        seeded => seeded,
    };
    Ok((accounts.map_err(|error| error.to_string())?, outbox))
}

/// Moves the files of a store to a folder of their own, and returns that.
fn set_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = folder.join(format!("{ASIDE}{}", Timestamp::now().as_millisecond()));
    fs::create_dir(&aside)?;
    let mut names = vec![];
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        if name != OUTBOX && !name.to_string_lossy().starts_with(ASIDE) {
            names.push(name);
        }
    }
    // The mark last: a store without it would be taken for one of the version before.
    names.sort_by_key(|name| name == mark::FILE);
    for name in names {
        fs::rename(folder.join(&name), aside.join(&name))?;
    }
    Ok(aside)
}

/// Returns whether the store in a folder may be one of the version before, which had the outbox in it. Its outbox has moved before
/// its mark was written.
#[must_use]
pub fn may_have_an_outbox(folder: &Path) -> bool {
    folder.join("db").is_file() && !matches!(mark::read(folder), Ok(Some(_)))
}

/// Opens the store in `folder`, and reads all of it: damage is found now, and not by a request.
///
/// # Errors
/// [`OpenError`]; the store is as it was then.
pub fn open_store(folder: &Path) -> Result<sled::Db, OpenError> {
    let shown = folder.display();
    let open = || {
        create_private_folder(folder)?;
        let store = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).open()?;
        read_all(&store)?;
        Ok(store)
    };
    let opened = match without_panic(open) {
        // sled takes its lock before it reads, so no other process uses these files.
        Err(sled::Error::Corruption { .. })
            if snapshot::set_aside_unfinished(folder)
                .map_err(|e| OpenError::Unusable(format!("the store {shown}: {e}")))? =>
        {
            without_panic(open)
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => OpenError::Unusable(format!(
            "the store {shown} is in use by another accountservice: stop that one, or start this one with \
             `--data-dir DIR` or another INSTANCE_NAME"
        )),
        sled::Error::Io(error) => OpenError::Unusable(format!(
            "the store {shown} cannot be opened: {error}; make room on this disk, or give this user the right to write there, \
             and start again: another folder has none of what is kept here"
        )),
        error => OpenError::damaged(folder, &error.to_string()),
    })
}

/// Reads each entry. From key to key and not by an iterator, with which sled's cache would keep all pages.
fn read_all(store: &sled::Db) -> sled::Result<()> {
    for name in store.tree_names() {
        let tree = store.open_tree(name)?;
        let mut next = tree.first()?;
        while let Some((key, _)) = next {
            next = tree.get_gt(key)?;
        }
    }
    Ok(())
}

/// Turns a panic into an error: sled has assertions about what it reads.
fn without_panic<T>(open: impl FnOnce() -> sled::Result<T>) -> sled::Result<T> {
    // There is one hook for the process.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let opened = panic::catch_unwind(AssertUnwindSafe(open));
    panic::set_hook(hook);
    opened.unwrap_or_else(|why| {
        Err(sled::Error::ReportableBug(format!("sled cannot read it: {}", panic_text(&*why))))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{settings::Settings, store::AccountStore as _};

    #[test]
    fn a_panic_of_the_store_is_an_error() {
        let error = without_panic::<()>(|| panic!("index out of bounds")).unwrap_err();
        assert!(error.to_string().contains("sled cannot read it: index out of bounds"), "{error}");
    }

    #[test]
    fn a_store_that_is_open_already_is_named_with_what_to_do() {
        let folder = tempfile::TempDir::new().unwrap();
        let _first = open_store(folder.path()).unwrap();
        let error = open_store(folder.path()).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn others_cannot_read_accounts() {
        let above = tempfile::TempDir::new().unwrap();
        let folder = above.path().join("data/accountservice.1");
        open_store(&folder).unwrap();
        for made in [above.path().join("data"), folder] {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
    }

    #[tokio::test]
    async fn a_damaged_store_is_set_aside_and_a_new_one_takes_its_place() {
        let (first, folder) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let seed = Settings::default().accounts.accounts;
        let store = open_store(first.path()).unwrap();
        SledAccountStore::seeded(&store, first.path(), &seed).unwrap();
        store.flush().unwrap();
        // A copy, since sled's threads write for a moment after a store is dropped.
        for file in ["db", "conf", "accounts.mark"] {
            fs::copy(first.path().join(file), folder.path().join(file)).unwrap();
        }
        let db = folder.path().join("db");
        let mut bytes = fs::read(&db).unwrap();
        bytes[..4096].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&db, &bytes).unwrap();

        let outbox = || {
            let settings = outbox::Settings::default();
            Outbox::open(&folder.path().join(OUTBOX), &settings, &mut Registry::default())
        };
        let (accounts, _) = open_accounts(folder.path(), &seed, outbox).await.unwrap();
        assert_eq!(accounts.list(None, false, 1000).unwrap(), seed);
        let mut names = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
        let aside = names.find(|name| name.to_string_lossy().starts_with(ASIDE)).unwrap();
        let mut kept: Vec<_> =
            fs::read_dir(folder.path().join(aside)).unwrap().map(|file| file.unwrap().file_name()).collect();
        kept.sort_unstable();
        assert_eq!(
            kept,
            ["accounts.mark", "blobs", "conf", "db"],
            "the outbox stays, and nothing is removed"
        );
        assert!(folder.path().join(OUTBOX).is_dir());
    }
}
