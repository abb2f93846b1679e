//! Hop 3, store: accounts in sled.
//!
//! A read takes less than a microsecond and comes from memory or the page cache, so it is done in place.

mod mark;
mod snapshot;

use std::{
    convert::Infallible,
    ops::Bound,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Mutex, PoisonError},
};

use messaging::panic_text;
use service::instance::create_private_folder;
use sled::{
    Transactional,
    transaction::{ConflictableTransactionError, TransactionError, TransactionalTree},
};

use crate::account::{Account, AccountId};

/// sled's page cache. Its own default of 1 GiB is meant for large stores.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Where the accounts are.
#[cfg_attr(test, mockall::automock)]
pub trait AccountStore: Send + Sync {
    /// The account with this id.
    ///
    /// # Errors
    /// The store's own.
    fn find(&self, id: &AccountId) -> Result<Option<Account>, StoreError>;

    /// At most `limit` accounts after this id, in the order of their ids.
    ///
    /// # Errors
    /// The store's own.
    #[expect(clippy::needless_lifetimes, reason = "the double needs its name")]
    fn list<'a>(&self, after: Option<&'a AccountId>, limit: usize) -> Result<Vec<Account>, StoreError>;
}

/// The store cannot be read, or has what is no account.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// sled's own.
    #[error(transparent)]
    Sled(#[from] sled::Error),
    /// An entry that is not what was written.
    #[error("an account in the store cannot be read: {0}")]
    Damaged(#[from] serde_json::Error),
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
/// A sentence that says what to do, above all when another process has it. The store is as it was then.
pub fn open_store(folder: &Path) -> Result<sled::Db, String> {
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
            if snapshot::set_aside_unfinished(folder).map_err(|e| format!("the store {shown}: {e}"))? =>
        {
            without_panic(open)
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => format!(
            "the store {shown} is in use by another accountservice: stop that one, or start this one with \
             `--data-dir DIR` or another INSTANCE_NAME"
        ),
        sled::Error::Io(error) => format!(
            "the store {shown} cannot be opened: {error}; make room on this disk, or give this user the right to write there, \
             and start again: another folder has none of what is kept here"
        ),
        error => damaged(folder, &error.to_string()),
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

/// Returns what to do with a store that is damaged.
fn damaged(folder: &Path, why: &str) -> String {
    let shown = folder.display();
    let advice = match may_have_an_outbox(folder) {
        true => {
            "or start with an empty folder (`--data-dir DIR`), which has none of the notifications that wait here"
        }
        false => {
            "or remove all but its folder `outbox`: the next start fills the store with the accounts of the settings. \
             Notifications are not in the store: `accountservice outbox drain` sends those that wait"
        }
    };
    format!(
        "the store {shown} is damaged: {why}; copy this folder first, then restore all of its files from one backup, {advice}"
    )
}

/// Accounts in a tree of a sled store.
#[derive(Debug)]
pub struct SledAccountStore {
    tree: sled::Tree,
}

impl SledAccountStore {
    /// Opens the accounts; a store that never had any is filled with `seed`, in one transaction. What they are is written
    /// beside the store, so that one that has lost accounts is not taken for a new one.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn seeded(store: &sled::Db, folder: &Path, seed: &[Account]) -> Result<Self, String> {
        let unusable = |e: StoreError| format!("the store {} cannot be used: {e}", folder.display());
        let (accounts, is_seeded) = Self::open(store).map_err(unusable)?;
        let written = mark::read(folder)?;
        if !is_seeded && written.is_none() {
            accounts.fill(store, seed).map_err(unusable)?;
            tracing::info!("seeded {} accounts", seed.len());
        }
        let found = accounts.mark().map_err(|e| damaged(folder, &e.to_string()))?;
        match written {
            Some(written) if written == found => {}
            Some(written) => {
                return Err(damaged(
                    folder,
                    &format!("it has {found}, and its file accounts.mark says {written}"),
                ));
            }
            None => mark::write(folder, &found)?,
        }
        Ok(accounts)
    }

    fn open(store: &sled::Db) -> Result<(Self, bool), StoreError> {
        let is_seeded = store.open_tree("marks")?.contains_key("seeded")?;
        Ok((Self { tree: store.open_tree("accounts")? }, is_seeded))
    }

    fn fill(&self, store: &sled::Db, seed: &[Account]) -> Result<(), StoreError> {
        let marks = store.open_tree("marks")?;
        let mut batch = sled::Batch::default();
        for account in seed {
            batch.insert(account.id.as_str(), serde_json::to_vec(account)?);
        }
        let write = |(accounts, marks): &(TransactionalTree, TransactionalTree)| {
            accounts.apply_batch(&batch)?;
            marks.insert("seeded", &[])?;
            Ok::<_, ConflictableTransactionError<Infallible>>(())
        };
        (&self.tree, &marks).transaction(write).map_err(|error| match error {
            TransactionError::Storage(error) => error,
            TransactionError::Abort(never) => match never {},
        })?;
        store.flush()?;
        Ok(())
    }

    /// Returns what is written beside the store: a sentence that another number of accounts, or another account, changes.
    fn mark(&self) -> Result<String, StoreError> {
        let (mut count, mut checksum) = (0, crc32fast::Hasher::new());
        for item in &self.tree {
            let (key, value) = item?;
            let _: Account = serde_json::from_slice(&value)?;
            checksum.update(&key);
            checksum.update(&value);
            count += 1;
        }
        Ok(format!("{count} accounts with checksum {:08x}", checksum.finalize()))
    }

    /// Checks that the store can be read, for `/readyz`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<String, String> {
        self.tree.first().map(|_| "readable".into()).map_err(|e| e.to_string())
    }
}

impl AccountStore for SledAccountStore {
    fn find(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        let stored = self.tree.get(id.as_str())?;
        let account: Option<Account> = stored.map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
        tracing::debug!(hop = 3, name = "store", account.id = %id, account.found = account.is_some(), "looked for account {id}");
        Ok(account)
    }

    fn list(&self, after: Option<&AccountId>, limit: usize) -> Result<Vec<Account>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
        let stored = self.tree.range::<&str, _>((from, Bound::Unbounded)).take(limit);
        stored.map(|item| Ok(serde_json::from_slice(&item?.1)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::settings::Settings;

    fn seeded(seed: &[Account]) -> (TempDir, sled::Db, SledAccountStore) {
        let folder = TempDir::new().unwrap();
        let store = open_store(folder.path()).unwrap();
        let accounts = SledAccountStore::seeded(&store, folder.path(), seed).unwrap();
        (folder, store, accounts)
    }

    #[test]
    fn accounts_are_seeded_once_and_never_overwritten() {
        let seed = Settings::default().accounts.accounts;
        let (folder, store, accounts) = seeded(&seed);
        assert_eq!(accounts.find(&seed[0].id).unwrap().as_ref(), Some(&seed[0]));

        let renamed = Account { name: "Somebody".into(), ..seed[0].clone() };
        let again = SledAccountStore::seeded(&store, folder.path(), &[renamed]).unwrap();
        assert_eq!(again.find(&seed[0].id).unwrap().unwrap().name, "Person_0");
        assert_eq!(again.list(None, 1000).unwrap().len(), 100);
    }

    #[test]
    fn a_list_goes_on_after_an_id() {
        let seed = Settings::default().accounts.accounts;
        let (_folder, _store, accounts) = seeded(&seed);
        let page = accounts.list(Some(&seed[97].id), 10).unwrap();
        assert_eq!(page, seed[98..]);
        assert_eq!(accounts.list(None, 2).unwrap(), seed[..2]);
    }

    #[test]
    fn a_damaged_entry_is_an_error_and_not_a_missing_account() {
        let (folder, store, accounts) = seeded(&[]);
        store.open_tree("accounts").unwrap().insert("7", "no json").unwrap();
        let id = AccountId::parse("7").unwrap();
        assert!(matches!(accounts.find(&id), Err(StoreError::Damaged(_))));
        let why = SledAccountStore::seeded(&store, folder.path(), &[]).unwrap_err();
        assert!(why.contains("is damaged") && why.contains("from one backup"), "{why}");
    }

    #[test]
    fn a_store_that_has_lost_accounts_is_refused_and_not_seeded_again() {
        type Loss = fn(&sled::Db);
        let losses: [(&str, Loss); 3] = [
            ("one account", |store| drop(store.open_tree("accounts").unwrap().remove("10007").unwrap())),
            ("all accounts", |store| store.open_tree("accounts").unwrap().clear().unwrap()),
            ("all", |store| {
                for name in ["accounts", "marks"] {
                    store.drop_tree(name).unwrap();
                }
            }),
        ];
        for (what, lose) in losses {
            let seed = Settings::default().accounts.accounts;
            let (folder, store, _) = seeded(&seed);
            lose(&store);
            let why = SledAccountStore::seeded(&store, folder.path(), &seed).unwrap_err();
            assert!(
                why.contains("accounts.mark says 100 accounts") && why.contains("outbox drain"),
                "{what}: {why}"
            );
            let left = store.open_tree("accounts").unwrap().len();
            assert!(left < 100, "{what}: it was seeded again");
        }
    }

    #[test]
    fn whatever_is_damaged_the_store_has_all_its_accounts_or_is_refused() {
        let seed = Settings::default().accounts.accounts;
        let (folder, store, accounts) = seeded(&seed);
        drop((accounts, store));
        let (mut whole, mut refused) = (0, 0);
        for file in ["db", "conf", "accounts.mark"] {
            let bytes = std::fs::read(folder.path().join(file)).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            for (place, round) in (0..used).step_by(used.div_ceil(40)).zip(0..) {
                let copy = TempDir::new().unwrap();
                for file in ["db", "conf", "accounts.mark"] {
                    std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
                }
                let mut damaged = bytes.clone();
                match round % 3 {
                    0 => damaged[place] ^= 1 << (place % 8),
                    1 => damaged.truncate(place),
                    _ => damaged[place..used.min(place + 512)].fill(0),
                }
                std::fs::write(copy.path().join(file), damaged).unwrap();
                let opened = open_store(copy.path())
                    .and_then(|store| SledAccountStore::seeded(&store, copy.path(), &seed));
                match opened {
                    Ok(accounts) => {
                        assert_eq!(accounts.list(None, 1000).unwrap(), seed, "{file} {place} {round}");
                        whole += 1;
                    }
                    Err(why) => {
                        assert!(why.contains("is damaged") || why.contains("cannot be opened"), "{why}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(whole > 0 && refused > 20, "{whole} {refused}");
    }

    #[test]
    fn a_panic_of_the_store_is_an_error() {
        let error = without_panic::<()>(|| panic!("index out of bounds")).unwrap_err();
        assert!(error.to_string().contains("sled cannot read it: index out of bounds"), "{error}");
    }

    #[test]
    fn a_store_that_is_open_already_is_named_with_what_to_do() {
        let folder = tempfile::TempDir::new().unwrap();
        let _first = open_store(folder.path()).unwrap();
        let error = open_store(folder.path()).unwrap_err();
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
}
