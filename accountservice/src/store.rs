//! Hop 3, store: accounts in sled.
//!
//! A read takes less than a microsecond and comes from memory or the page cache, so it is done in place. Until the stream of changes
//! has been read once, reads are answered from the first accounts, which are those of the settings.
//! - this file: reading, and the first accounts
//! - [`replicated`]: what the stream makes of them
//! - [`open`]: opening a store, and setting a damaged one aside
//! - [`failure`]: what follows a failure of the disk

pub mod replicated;
pub mod open;
pub mod failure;
mod mark;
mod snapshot;

use std::{
    convert::Infallible,
    ops::Bound,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use sled::{
    Transactional,
    transaction::{ConflictableTransactionError, TransactionError, TransactionalTree},
};

use self::{open::OpenError, replicated::Replicated};
use crate::{
    account::{Account, AccountId, Versioned},
    changes::rule::Row,
};

/// Where the accounts are.
#[cfg_attr(test, mockall::automock)]
pub trait AccountStore: Send + Sync {
    /// The account with this id.
    ///
    /// # Errors
    /// The store's own.
    fn find(&self, id: &AccountId) -> Result<Option<Versioned>, StoreError>;

    /// At most `limit` accounts after this id, in the order of their ids; with `vips`, those of VIPs only.
    ///
    /// # Errors
    /// The store's own.
    #[expect(clippy::needless_lifetimes, reason = "the double needs its name")]
    fn list<'a>(
        &self,
        after: Option<&'a AccountId>,
        vips: bool,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError>;
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
    /// A key that is no id of an account.
    #[error("an account in the store has a key that is no account id")]
    Foreign,
}

/// Accounts in trees of a sled store.
#[derive(Debug)]
pub struct SledAccountStore {
    /// The first accounts, which never change.
    first: sled::Tree,
    /// What the stream has made of them.
    replicated: Replicated,
    /// Whether reads are answered from `replicated`.
    is_read: AtomicBool,
}

impl SledAccountStore {
    /// Opens the accounts; a store that never had any is filled with `seed`, in one transaction. What they are is written
    /// beside the store, so that one that has lost accounts is not taken for a new one.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] for a store that is not as it was written, above all one that has lost something.
    pub fn seeded(store: &sled::Db, folder: &Path, seed: &[Account]) -> Result<Self, OpenError> {
        let unusable = |e: StoreError| {
            OpenError::Unusable(format!("the store {} cannot be used: {e}", folder.display()))
        };
        let (accounts, is_seeded) = Self::open(store).map_err(unusable)?;
        let written = mark::read(folder).map_err(OpenError::Unusable)?;
        if !is_seeded && written.is_none() {
            accounts.fill(store, seed).map_err(unusable)?;
            tracing::info!("seeded {} accounts", seed.len());
        }
        let found = accounts.mark().map_err(|e| OpenError::damaged(folder, &e.to_string()))?;
        match written {
            Some(written) if written == found => {}
            Some(written) => {
                return Err(OpenError::damaged(
                    folder,
                    &format!("it has {found}, and its file accounts.mark says {written}"),
                ));
            }
            None => mark::write(folder, &found).map_err(OpenError::Unusable)?,
        }
        let position = accounts.replicated.verify().map_err(|why| OpenError::damaged(folder, &why))?;
        accounts.is_read.store(position.is_read, Ordering::Release);
        Ok(accounts)
    }

    fn open(store: &sled::Db) -> Result<(Self, bool), StoreError> {
        let is_seeded = store.open_tree("marks")?.contains_key("seeded")?;
        let (first, replicated) = (store.open_tree("accounts")?, Replicated::open(store)?);
        Ok((Self { first, replicated, is_read: AtomicBool::new(false) }, is_seeded))
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
        (&self.first, &marks).transaction(write).map_err(|error| match error {
            TransactionError::Storage(error) => error,
            TransactionError::Abort(never) => match never {},
        })?;
        store.flush()?;
        Ok(())
    }

    /// Returns what is written beside the store: a sentence that another number of accounts, or another account, changes.
    fn mark(&self) -> Result<String, StoreError> {
        let (mut count, mut checksum) = (0, crc32fast::Hasher::new());
        for item in &self.first {
            let (key, value) = item?;
            let _: Account = serde_json::from_slice(&value)?;
            checksum.update(&key);
            checksum.update(&value);
            count += 1;
        }
        Ok(format!("{count} accounts with checksum {:08x}", checksum.finalize()))
    }

    /// Returns what the stream has made of the first accounts.
    #[must_use]
    pub fn replicated(&self) -> &Replicated {
        &self.replicated
    }

    /// Returns the first accounts: those that the settings had when this store was created.
    ///
    /// # Errors
    /// The store's own.
    pub fn first_accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.first.iter().map(|item| Ok(serde_json::from_slice(&item?.1)?)).collect()
    }

    /// Answers reads from what the stream has made of the accounts from now on.
    pub fn set_read(&self) {
        self.is_read.store(true, Ordering::Release);
    }

    /// Returns whether reads are answered from what the stream has made of the accounts.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Checks that the store can be read, for `/readyz`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<String, String> {
        self.first.first().map(|_| "readable".into()).map_err(|e| e.to_string())
    }
}

impl AccountStore for SledAccountStore {
    fn find(&self, id: &AccountId) -> Result<Option<Versioned>, StoreError> {
        let found = match self.is_read() {
            true => self.replicated.row(id)?.and_then(|Row { version, account, .. }| {
                account.map(|profile| Versioned { account: profile.with_id(id.clone()), version })
            }),
            false => {
                let stored = self.first.get(id.as_str())?;
                let account: Option<Account> =
                    stored.map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
                // The first accounts become the first changes.
                account.map(|account| Versioned { account, version: 1 })
            }
        };
        tracing::debug!(hop = 3, name = "store", account.id = %id, account.found = found.is_some(), "looked for account {id}");
        Ok(found)
    }

    fn list(&self, after: Option<&AccountId>, vips: bool, limit: usize) -> Result<Vec<Account>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
        let range = (from, Bound::Unbounded);
        let is_wanted = |account: &Account| !vips || account.vip;
        if self.is_read() {
            let accounts = self.replicated.accounts(range);
            return accounts.filter(|account| account.as_ref().map_or(true, is_wanted)).take(limit).collect();
        }
        let stored = self.first.range::<&str, _>(range).map(|item| Ok(serde_json::from_slice(&item?.1)?));
        stored.filter(|account| account.as_ref().map_or(true, is_wanted)).take(limit).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use tempfile::TempDir;

    use super::{open::open_store, *};
    use crate::{
        account::Profile,
        changes::rule::{Outcome, Verdict},
        settings::Settings,
    };

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
        assert_eq!(accounts.find(&seed[0].id).unwrap().map(|found| found.account).as_ref(), Some(&seed[0]));

        let renamed = Account { name: "Somebody".into(), ..seed[0].clone() };
        let again = SledAccountStore::seeded(&store, folder.path(), &[renamed]).unwrap();
        assert_eq!(again.find(&seed[0].id).unwrap().unwrap().account.name, "Person_0");
        assert_eq!(again.list(None, false, 1000).unwrap().len(), 100);
    }

    #[test]
    fn a_list_goes_on_after_an_id() {
        let seed = Settings::default().accounts.accounts;
        let (_folder, _store, accounts) = seeded(&seed);
        let page = accounts.list(Some(&seed[97].id), false, 10).unwrap();
        assert_eq!(page, seed[98..]);
        assert_eq!(accounts.list(None, false, 2).unwrap(), seed[..2]);
    }

    #[test]
    fn a_damaged_entry_is_an_error_and_not_a_missing_account() {
        let (folder, store, accounts) = seeded(&[]);
        store.open_tree("accounts").unwrap().insert("7", "no json").unwrap();
        let id = AccountId::parse("7").unwrap();
        assert!(matches!(accounts.find(&id), Err(StoreError::Damaged(_))));
        let why = SledAccountStore::seeded(&store, folder.path(), &[]).unwrap_err().to_string();
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
            assert!(matches!(why, OpenError::Damaged { .. }), "{what}: {why}");
            assert!(why.to_string().contains("accounts.mark says 100 accounts"), "{what}: {why}");
            let left = store.open_tree("accounts").unwrap().len();
            assert!(left < 100, "{what}: it was seeded again");
        }
    }

    /// Commits a batch that changes some accounts, as the stream would.
    fn change(accounts: &SledAccountStore, number: u64) {
        let (mut rows, mut outcomes) = (BTreeMap::new(), HashMap::new());
        for place in 0..10 {
            let id = AccountId::from_number(10_000 + (number * 7 + place) % 100);
            let account = (place > 0).then(|| Profile { name: format!("Name {number}"), vip: place == 1 });
            rows.insert(id.clone(), Row { version: number, account, renewed: number });
            let outcome = Outcome {
                offset: number * 10 + place,
                account_id: id,
                request: "digest".into(),
                verdict: Verdict::Applied(number),
            };
            outcomes.insert(format!("change {number} {place}"), outcome);
        }
        let mut position = accounts.replicated().position().unwrap();
        position.last = Some((number, Some(format!("entry {number}"))));
        position.is_read = true;
        let forgotten =
            (0..10).map(|place| format!("change {} {place}", number.saturating_sub(3))).collect::<Vec<_>>();
        accounts.replicated().commit(&rows, &outcomes, &forgotten, &position).unwrap();
        accounts.set_read();
    }

    #[test]
    fn a_commit_is_there_after_the_next_start_with_its_position() {
        let (folder, store, accounts) = seeded(&Settings::default().accounts.accounts);
        for number in 1..=5 {
            change(&accounts, number);
        }
        let (list, position) =
            (accounts.list(None, false, 1000).unwrap(), accounts.replicated().position().unwrap());
        assert!(list.iter().any(|account| account.name == "Name 5"));
        assert!(accounts.list(None, true, 1000).unwrap().iter().all(|account| account.vip));
        assert_eq!(accounts.replicated().outcomes().unwrap().len(), 30);
        let again = SledAccountStore::seeded(&store, folder.path(), &[]).unwrap();
        assert_eq!(again.replicated().position().unwrap(), position);
        assert_eq!((again.is_read(), again.list(None, false, 1000).unwrap()), (true, list));
    }

    #[test]
    fn a_store_that_has_lost_or_changed_what_the_stream_made_is_damaged() {
        type Loss = fn(&sled::Db);
        let losses: [(&str, Loss); 4] = [
            ("a row", |store| drop(store.open_tree("rows").unwrap().pop_max().unwrap())),
            ("an outcome", |store| drop(store.open_tree("outcomes").unwrap().pop_max().unwrap())),
            ("the position", |store| assert!(store.drop_tree("position").unwrap())),
            ("a letter", |store| {
                let rows = store.open_tree("rows").unwrap();
                let (key, row) = rows.last().unwrap().unwrap();
                let row = String::from_utf8(row.to_vec()).unwrap().replace("Name", "Nane");
                rows.insert(key, row.as_bytes()).unwrap();
            }),
        ];
        for (what, lose) in losses {
            let (folder, store, accounts) = seeded(&Settings::default().accounts.accounts);
            change(&accounts, 1);
            lose(&store);
            let why = SledAccountStore::seeded(&store, folder.path(), &[]).unwrap_err();
            assert!(matches!(why, OpenError::Damaged { .. }), "{what}: {why}");
        }
    }

    #[test]
    fn whatever_is_damaged_the_store_is_as_it_was_once_or_is_found_damaged() {
        let seed = Settings::default().accounts.accounts;
        let (folder, store, accounts) = seeded(&seed);
        let mut states = vec![seed.clone()];
        for number in 1..=5 {
            change(&accounts, number);
            states.push(accounts.list(None, false, 1000).unwrap());
        }
        store.flush().unwrap();
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
                        let list = accounts.list(None, false, 1000).unwrap();
                        assert!(states.contains(&list), "{file} {place} {round}: {list:?}");
                        whole += 1;
                    }
                    Err(why) => {
                        let why = why.to_string();
                        assert!(why.contains("is damaged") || why.contains("cannot be opened"), "{why}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(whole > 0 && refused > 20, "{whole} {refused}");
    }
}
