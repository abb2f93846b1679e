//! What the stream of changes has made of the accounts: a tree with a row for each account, one with the outcomes of changes, and the
//! position in the stream.
//!
//! A batch is written in one transaction with its position. After a crash sled may have an earlier batch as its last one: the stream
//! is then read from there. What sled loses otherwise, or changes, is found by a sum over all entries.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    ops::Bound,
};

use serde::{Deserialize, Serialize};
use sled::{
    Transactional,
    transaction::{ConflictableTransactionError, TransactionError, TransactionalTree},
};

use super::StoreError;
use crate::{
    account::{Account, AccountId},
    changes::rule::{Outcome, Row},
};

/// Key of the position in its tree.
const POSITION: &str = "position";

/// How far the stream has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Name of the stream, from its first entry that was read.
    pub stream: Option<String>,
    /// Offset and message id of the last entry that was read.
    pub last: Option<(u64, Option<String>)>,
    /// Bytes of entries that were read: see [`crate::changes::upkeep`].
    pub bytes: u64,
    /// `bytes` when reading began at the first entry the last time.
    pub began: u64,
    /// Whether the stream has been read to its end once, with the first accounts in it.
    pub is_read: bool,
    /// Number of accounts, deleted ones included.
    pub accounts: usize,
    /// Sum of the checksums of all rows and outcomes.
    sum: u64,
}

/// Trees of a sled store.
#[derive(Debug)]
pub struct Replicated {
    rows: sled::Tree,
    outcomes: sled::Tree,
    position: sled::Tree,
}

impl Position {
    /// Returns this position with the first accounts in the stream, and the stream read to its end.
    #[must_use]
    pub fn with_first_accounts(&self) -> Self {
        Self { is_read: true, ..self.clone() }
    }

    /// Returns this position with what only the store knows: `stored` is the newest one there.
    #[must_use]
    pub fn on(self, stored: &Self) -> Self {
        let Self { sum, accounts, .. } = *stored;
        Self { sum, accounts, is_read: self.is_read || stored.is_read, ..self }
    }
}

impl Replicated {
    pub(super) fn open(store: &sled::Db) -> sled::Result<Self> {
        Ok(Self {
            rows: store.open_tree("rows")?,
            outcomes: store.open_tree("outcomes")?,
            position: store.open_tree("position")?,
        })
    }

    /// Returns the position, if all that was written up to it is there.
    pub(super) fn verify(&self) -> Result<Position, String> {
        let verify = || {
            let (mut sum, mut count) = (0, 0);
            for item in &self.rows {
                let (key, value) = item?;
                let _: Row = serde_json::from_slice(&value)?;
                sum = sum_with(sum, &key, &value);
                count += 1;
            }
            for item in &self.outcomes {
                let (key, value) = item?;
                let _: Outcome = serde_json::from_slice(&value)?;
                sum = sum_with(sum, &key, &value);
            }
            Ok::<_, StoreError>((sum, count, self.position()?))
        };
        let (sum, count, position) = verify().map_err(|error| error.to_string())?;
        match sum == position.sum && count == position.accounts {
            true => Ok(position),
            false => {
                Err(format!("its {count} changed accounts do not have the sum that was written with them"))
            }
        }
    }

    /// Returns the position in the stream.
    ///
    /// # Errors
    /// The store's own.
    pub fn position(&self) -> Result<Position, StoreError> {
        let stored = self.position.get(POSITION)?;
        Ok(stored.map(|bytes| serde_json::from_slice(&bytes)).transpose()?.unwrap_or_default())
    }

    /// Returns the account with this id, deleted or not.
    ///
    /// # Errors
    /// The store's own.
    pub fn row(&self, id: &AccountId) -> Result<Option<Row>, StoreError> {
        let stored = self.rows.get(id.as_str())?;
        Ok(stored.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// Returns the outcome of the change with this id, unless it was forgotten.
    ///
    /// # Errors
    /// The store's own.
    pub fn outcome(&self, change_id: &str) -> Result<Option<Outcome>, StoreError> {
        let stored = self.outcomes.get(change_id)?;
        Ok(stored.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// Returns the offset and the change's id of each outcome.
    ///
    /// # Errors
    /// The store's own.
    pub fn outcomes(&self) -> Result<BTreeSet<(u64, String)>, StoreError> {
        let read = |item: sled::Result<(sled::IVec, sled::IVec)>| {
            let (id, outcome) = item?;
            let outcome: Outcome = serde_json::from_slice(&outcome)?;
            Ok((outcome.offset, String::from_utf8_lossy(&id).into_owned()))
        };
        self.outcomes.iter().map(read).collect()
    }

    /// Returns all rows, deleted accounts included, in the order of their ids.
    pub fn rows(&self) -> impl Iterator<Item = Result<(AccountId, Row), StoreError>> {
        self.range((Bound::Unbounded, Bound::Unbounded))
    }

    pub(super) fn accounts(
        &self,
        range: (Bound<&str>, Bound<&str>),
    ) -> impl Iterator<Item = Result<Account, StoreError>> {
        self.range(range).filter_map(|row| match row {
            Ok((id, row)) => row.account.map(|profile| Ok(profile.with_id(id))),
            Err(error) => Some(Err(error)),
        })
    }

    fn range(
        &self,
        range: (Bound<&str>, Bound<&str>),
    ) -> impl Iterator<Item = Result<(AccountId, Row), StoreError>> + use<> {
        self.rows.range::<&str, _>(range).map(|item| {
            let (id, row) = item?;
            let id = AccountId::parse(&String::from_utf8_lossy(&id)).map_err(|_| StoreError::Foreign)?;
            Ok((id, serde_json::from_slice(&row)?))
        })
    }

    /// Writes rows and outcomes with the position that they make, and removes the outcomes with these ids, all or nothing.
    ///
    /// # Errors
    /// The store's own. sled writes nothing more in this process once its disk has failed.
    pub fn commit(
        &self,
        rows: &BTreeMap<AccountId, Row>,
        outcomes: &HashMap<String, Outcome>,
        forgotten: &[String],
        position: &Position,
    ) -> Result<Position, StoreError> {
        let (new_rows, new_outcomes) = (rows, outcomes);
        let mut rows = vec![];
        for (id, row) in new_rows {
            rows.push((id.as_str(), serde_json::to_vec(row)?));
        }
        let mut outcomes = vec![];
        for (id, outcome) in new_outcomes {
            outcomes.push((id.as_str(), serde_json::to_vec(outcome)?));
        }
        let write = |(in_rows, in_outcomes, in_position): &(
            TransactionalTree,
            TransactionalTree,
            TransactionalTree,
        )| {
            let (mut sum, mut accounts) = (position.sum, position.accounts);
            for (tree, entries, is_rows) in [(in_rows, &rows, true), (in_outcomes, &outcomes, false)] {
                for (key, value) in entries {
                    match tree.insert(*key, value.as_slice())? {
                        Some(old) => sum = sum_without(sum, key.as_bytes(), &old),
                        None if is_rows => accounts += 1,
                        None => {}
                    }
                    sum = sum_with(sum, key.as_bytes(), value);
                }
            }
            for key in forgotten {
                if let Some(old) = in_outcomes.remove(key.as_str())? {
                    sum = sum_without(sum, key.as_bytes(), &old);
                }
            }
            let position = Position { sum, accounts, ..position.clone() };
            // A map of numbers and texts can always be written.
            let bytes = serde_json::to_vec(&position).unwrap_or_default();
            in_position.insert(POSITION, bytes)?;
            Ok::<_, ConflictableTransactionError<Infallible>>(position)
        };
        (&self.rows, &self.outcomes, &self.position).transaction(write).map_err(|error| match error {
            TransactionError::Storage(error) => error.into(),
            TransactionError::Abort(never) => match never {},
        })
    }
}

/// The order of the entries makes no difference to the sum, so that a batch changes it without reading the others.
fn sum_with(sum: u64, key: &[u8], value: &[u8]) -> u64 {
    sum.wrapping_add(checksum(key, value))
}

fn sum_without(sum: u64, key: &[u8], value: &[u8]) -> u64 {
    sum.wrapping_sub(checksum(key, value))
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[0]);
    hasher.update(value);
    hasher.finalize().into()
}
