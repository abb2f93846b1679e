//! Entries of the stream that are applied together, and what they make of the accounts. It does no I/O but for reading what is known.

use std::collections::{BTreeMap, HashMap};

use super::rule::{Change, Entry, Outcome, Row, Verdict};
use crate::{
    account::{AccountId, Profile},
    store::{StoreError, replicated::Replicated},
};

/// Entries of the stream after which the outcome of a change is forgotten.
pub const OUTCOMES_KEPT: u64 = 10_000;

/// Effect of a change on an account, for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// There was none, or it was deleted.
    Created,
    /// There was one.
    Changed,
    /// There is none any more.
    Deleted,
}

/// Accounts and outcomes as they are before a batch.
pub trait Known {
    /// The account with this id.
    ///
    /// # Errors
    /// The store's own.
    fn row(&self, id: &AccountId) -> Result<Option<Row>, StoreError>;

    /// The outcome of the change with this id, unless it was forgotten.
    ///
    /// # Errors
    /// The store's own.
    fn outcome(&self, change_id: &str) -> Result<Option<Outcome>, StoreError>;
}

/// Accounts and outcomes that differ from what was known before.
#[derive(Debug, Default)]
pub struct Batch {
    /// Accounts by id.
    pub rows: BTreeMap<AccountId, Row>,
    /// Outcomes by the change's id.
    pub outcomes: HashMap<String, Outcome>,
    /// Changes that count, in their order.
    pub applied: Vec<Applied>,
    /// Number of changes that do not count.
    pub rejected: u64,
}

/// A change that counts.
#[derive(Debug)]
pub struct Applied {
    /// Its offset.
    pub offset: u64,
    /// The change.
    pub change: Change,
    /// Effect on the account.
    pub effect: Effect,
    /// Version that it made.
    pub version: u64,
}

impl Batch {
    /// Applies an entry. `bytes` is the number of bytes of the stream that were read up to its end.
    ///
    /// # Errors
    /// The accounts or outcomes before the batch cannot be read.
    pub fn apply(
        &mut self,
        known: &impl Known,
        entry: Entry,
        offset: u64,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let id = entry.account_id().clone();
        let row = match self.rows.get(&id) {
            Some(row) => Some(row.clone()),
            None => known.row(&id)?,
        };
        let current = row.as_ref().map_or(0, |row| row.version);
        match entry {
            Entry::Renewal(renewal) => {
                if renewal.counts(current) {
                    let (version, account) = (renewal.version, renewal.account);
                    self.rows.insert(id, Row { version, account, renewed: bytes });
                }
            }
            Entry::Change(change) => {
                let first = match self.outcomes.get(&change.change_id) {
                    Some(outcome) => Some(outcome.clone()),
                    None => known.outcome(&change.change_id)?,
                };
                // By the offset, and not by what is stored: whatever the batches were, every replica forgets it at the same entry.
                let first = first.filter(|first| first.offset + OUTCOMES_KEPT > offset);
                let is_duplicate = first.is_some();
                let outcome = match first {
                    Some(first) => Outcome { offset, ..first },
                    None => Outcome {
                        offset,
                        account_id: id.clone(),
                        request: change.request.clone(),
                        verdict: change.verdict(current),
                    },
                };
                match outcome.verdict {
                    Verdict::Applied(version) if !is_duplicate => {
                        let account = change.account.clone();
                        let effect = effect(row.and_then(|row| row.account).as_ref(), account.as_ref());
                        self.rows.insert(id, Row { version, account, renewed: bytes });
                        if let Some(effect) = effect {
                            self.applied.push(Applied { offset, change: change.clone(), effect, version });
                        }
                    }
                    // The stream is read again: the account is in it.
                    Verdict::Applied(version) if outcome.account_id == id && version == current => {
                        self.rows.extend(row.map(|row| (id, Row { renewed: bytes, ..row })));
                    }
                    Verdict::Rejected(_) if !is_duplicate => self.rejected += 1,
                    _ => {}
                }
                self.outcomes.insert(change.change_id, outcome);
            }
        }
        Ok(())
    }
}

impl Known for Replicated {
    fn row(&self, id: &AccountId) -> Result<Option<Row>, StoreError> {
        self.row(id)
    }

    fn outcome(&self, change_id: &str) -> Result<Option<Outcome>, StoreError> {
        self.outcome(change_id)
    }
}

fn effect(was: Option<&Profile>, is: Option<&Profile>) -> Option<Effect> {
    match (was, is) {
        (None, Some(_)) => Some(Effect::Created),
        (Some(_), Some(_)) => Some(Effect::Changed),
        (Some(_), None) => Some(Effect::Deleted),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
