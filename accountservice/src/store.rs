//! Hop 3, store: accounts in sled.
//!
//! A read takes less than a microsecond and comes from memory or the page cache, so it is done in place.

mod snapshot;

use std::{convert::Infallible, ops::Bound, path::Path};

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

/// Opens the store in `folder`: accounts and outbox lie side by side.
///
/// # Errors
/// A sentence that says what to do, above all when another process has it.
pub fn open_store(folder: &Path) -> Result<sled::Db, String> {
    let shown = folder.display();
    let open = || {
        create_private_folder(folder)?;
        sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).open()
    };
    let opened = match open() {
        // sled takes its lock before it reads, so no other process uses these files.
        Err(sled::Error::Corruption { .. })
            if snapshot::set_aside_unfinished(folder).map_err(|e| format!("the store {shown}: {e}"))? =>
        {
            open()
        }
        opened => opened,
    };
    opened.map_err(|error| match error {
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => format!(
            "the store {shown} is in use by another accountservice: stop that one, or start this one with \
             `--data-dir DIR` or another INSTANCE_NAME"
        ),
        sled::Error::Corruption { .. } => format!(
            "the store {shown} is damaged: {error}; copy this folder first, then restore all of its files from one \
             backup, or start with an empty folder (`--data-dir DIR`), which has none of the notifications that wait here"
        ),
        error => {
            format!("the store {shown} cannot be opened: {error}; choose another folder with --data-dir DIR")
        }
    })
}

/// Accounts in a tree of a sled store.
#[derive(Debug)]
pub struct SledAccountStore {
    tree: sled::Tree,
}

impl SledAccountStore {
    /// Opens the accounts; a store without any is filled with `seed`, once and in one transaction.
    ///
    /// # Errors
    /// The store's own.
    pub fn seeded(store: &sled::Db, seed: &[Account]) -> Result<Self, StoreError> {
        let tree = store.open_tree("accounts")?;
        let marks = store.open_tree("marks")?;
        if marks.contains_key("seeded")? {
            return Ok(Self { tree });
        }
        let mut batch = sled::Batch::default();
        for account in seed {
            batch.insert(account.id.as_str(), serde_json::to_vec(account)?);
        }
        let write = |(accounts, marks): &(TransactionalTree, TransactionalTree)| {
            accounts.apply_batch(&batch)?;
            marks.insert("seeded", &[])?;
            Ok::<_, ConflictableTransactionError<Infallible>>(())
        };
        (&tree, &marks).transaction(write).map_err(|error| match error {
            TransactionError::Storage(error) => error,
            TransactionError::Abort(never) => match never {},
        })?;
        store.flush()?;
        tracing::info!("seeded {} accounts", seed.len());
        Ok(Self { tree })
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

    use super::*;
    use crate::settings::Settings;

    fn store() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    #[test]
    fn accounts_are_seeded_once_and_never_overwritten() {
        let (store, seed) = (store(), Settings::default().accounts.accounts);
        let accounts = SledAccountStore::seeded(&store, &seed).unwrap();
        assert_eq!(accounts.find(&seed[0].id).unwrap().as_ref(), Some(&seed[0]));

        let renamed = Account { name: "Somebody".into(), ..seed[0].clone() };
        let again = SledAccountStore::seeded(&store, &[renamed]).unwrap();
        assert_eq!(again.find(&seed[0].id).unwrap().unwrap().name, "Person_0");
        assert_eq!(again.list(None, 1000).unwrap().len(), 100);
    }

    #[test]
    fn a_list_goes_on_after_an_id() {
        let seed = Settings::default().accounts.accounts;
        let accounts = SledAccountStore::seeded(&store(), &seed).unwrap();
        let page = accounts.list(Some(&seed[97].id), 10).unwrap();
        assert_eq!(page, seed[98..]);
        assert_eq!(accounts.list(None, 2).unwrap(), seed[..2]);
    }

    #[test]
    fn a_damaged_entry_is_an_error_and_not_a_missing_account() {
        let store = store();
        let accounts = SledAccountStore::seeded(&store, &[]).unwrap();
        store.open_tree("accounts").unwrap().insert("7", "no json").unwrap();
        let id = AccountId::parse("7").unwrap();
        assert!(matches!(accounts.find(&id), Err(StoreError::Damaged(_))));
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
