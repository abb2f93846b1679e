//! Compares the rule with a plain model of versions. Some readers see all entries; others start after the broker has dropped some.

use jiff::Timestamp;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::changes::rule::Renewal;

/// Store of a reader.
#[derive(Debug, Default, Clone)]
struct Memory {
    rows: HashMap<AccountId, Row>,
    outcomes: HashMap<String, Outcome>,
}

impl Known for Memory {
    fn row(&self, id: &AccountId) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.get(id).cloned())
    }

    fn outcome(&self, change_id: &str) -> Result<Option<Outcome>, StoreError> {
        Ok(self.outcomes.get(change_id).cloned())
    }
}

impl Memory {
    /// Reads entries in batches of such a size.
    fn read(mut self, log: &[Entry], from: usize, batch_size: usize) -> Self {
        for (number, entries) in log[from..].chunks(batch_size).enumerate() {
            let mut batch = Batch::default();
            for (place, entry) in entries.iter().enumerate() {
                let offset = (from + number * batch_size + place) as u64;
                batch.apply(&self, entry.clone(), offset, offset + 1).unwrap();
            }
            self.rows.extend(batch.rows);
            self.outcomes.extend(batch.outcomes);
        }
        self
    }

    fn accounts(&self) -> BTreeMap<AccountId, (u64, Option<Profile>)> {
        let accounts = self.rows.iter();
        accounts.map(|(id, row)| (id.clone(), (row.version, row.account.clone()))).collect()
    }
}

/// The model: an account's version goes up by one if the writer has seen the newest one.
#[derive(Debug, Default, Clone)]
struct Model {
    accounts: BTreeMap<AccountId, (u64, Option<Profile>)>,
    verdicts: HashMap<String, Verdict>,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        if self.verdicts.contains_key(&change.change_id) {
            return;
        }
        let current = self.version(&change.account_id);
        let verdict = match change.base == current {
            true => {
                self.accounts.insert(change.account_id.clone(), (current + 1, change.account.clone()));
                Verdict::Applied(current + 1)
            }
            false => Verdict::Rejected(current),
        };
        self.verdicts.insert(change.change_id.clone(), verdict);
    }

    fn version(&self, id: &AccountId) -> u64 {
        self.accounts.get(id).map_or(0, |(version, _)| *version)
    }
}

/// A write: of which account, by a writer that is so many entries behind, and whether it repeats an earlier one.
type Op = (u8, usize, Option<Profile>, Option<Index>);

fn op() -> impl Strategy<Value = Op> {
    let profile = proptest::option::weighted(0.8, ("[a-c]", any::<bool>()))
        .prop_map(|profile| profile.map(|(name, vip)| Profile { name, vip }));
    (0..5_u8, 0..4_usize, profile, proptest::option::weighted(0.1, any::<Index>()))
}

/// Entries after which an account that has none of them is renewed.
const RENEW_AFTER: usize = 20;

/// Returns a log with the entries of these writes, and with renewals that are a little late, and the model after each entry.
fn log_of(ops: &[Op]) -> (Vec<Entry>, Vec<Model>) {
    let (mut log, mut models) = (vec![], vec![Model::default()]);
    let mut newest: BTreeMap<AccountId, usize> = BTreeMap::new();
    for (number, (account, behind, profile, repeated)) in ops.iter().enumerate() {
        let seen = &models[models.len().saturating_sub(1 + behind)];
        let changes = log.iter().filter_map(|entry| match entry {
            Entry::Change(change) => Some(change),
            Entry::Renewal(_) => None,
        });
        let changes: Vec<&Change> = changes.collect();
        let change = match repeated {
            Some(index) if !changes.is_empty() => (*index.get(&changes)).clone(),
            _ => {
                let account_id = AccountId::from_number((*account).into());
                Change {
                    stream: "s".into(),
                    change_id: number.to_string(),
                    base: seen.version(&account_id),
                    account_id,
                    account: profile.clone(),
                    request: String::new(),
                    by: "r".into(),
                    at: Timestamp::UNIX_EPOCH,
                }
            }
        };
        let mut model = models[models.len() - 1].clone();
        model.apply(&change);
        if model.version(&change.account_id) != models[models.len() - 1].version(&change.account_id) {
            newest.insert(change.account_id.clone(), log.len());
        }
        log.push(Entry::Change(change));
        models.push(model);

        let late = models[models.len().saturating_sub(1 + behind)].clone();
        for (account_id, (version, account)) in late.accounts {
            if newest.get(&account_id).is_none_or(|place| log.len() - place < RENEW_AFTER) {
                continue;
            }
            let current = models[models.len() - 1].clone();
            if version == current.version(&account_id) {
                newest.insert(account_id.clone(), log.len());
            }
            log.push(Entry::Renewal(Renewal { stream: "s".into(), account_id, version, account }));
            models.push(current);
        }
    }
    (log, models)
}

proptest! {
    #[test]
    fn a_reader_of_all_entries_comes_to_the_model(ops in vec(op(), 1..120), batch_size in 1..40_usize) {
        let (log, models) = log_of(&ops);
        let model = models.last().unwrap();
        let reader = Memory::default().read(&log, 0, batch_size);
        prop_assert_eq!(&reader.accounts(), &model.accounts);
        let verdicts: HashMap<_, _> =
            reader.outcomes.iter().map(|(id, outcome)| (id.clone(), outcome.verdict.clone())).collect();
        prop_assert_eq!(&verdicts, &model.verdicts);

        // It reads a part once more, as after a crash, and all of it, as after a cut.
        prop_assert_eq!(reader.clone().read(&log, log.len() / 2, batch_size).accounts(), reader.accounts());
        prop_assert_eq!(reader.clone().read(&log, 0, batch_size).accounts(), reader.accounts());
    }

    #[test]
    fn a_reader_that_comes_after_entries_were_dropped_comes_to_the_same(
        ops in vec(op(), 100..160),
        first in any::<Index>(),
        batch_size in 1..40_usize,
    ) {
        let (log, models) = log_of(&ops);
        // The broker keeps entries of several rounds of renewals.
        let first = first.index(log.len() - 4 * RENEW_AFTER);
        let reader = Memory::default().read(&log, first, batch_size);
        prop_assert_eq!(&reader.accounts(), &models.last().unwrap().accounts, "from {}", first);

        // It knows the outcomes of the newest changes, too.
        let verdicts = &models.last().unwrap().verdicts;
        for entry in &log[log.len() - RENEW_AFTER..] {
            let Entry::Change(change) = entry else { continue };
            let is_repeated = log[..log.len() - RENEW_AFTER].iter().any(
                |earlier| matches!(earlier, Entry::Change(earlier) if earlier.change_id == change.change_id),
            );
            if !is_repeated {
                let known = &reader.outcomes[&change.change_id].verdict;
                prop_assert_eq!(known, &verdicts[&change.change_id], "{}", change.change_id);
            }
        }
    }
}

#[test]
fn the_effect_of_a_change_is_what_was_there_before() {
    let mut batch = Batch::default();
    let id = AccountId::from_number(7);
    let ada = || Some(Profile { name: "Ada".into(), vip: false });
    for (base, account) in [(0, ada()), (0, ada()), (1, ada()), (2, None), (3, ada())] {
        let change = Change {
            stream: "s".into(),
            change_id: format!("{base} {}", batch.outcomes.len()),
            account_id: id.clone(),
            base,
            account,
            request: String::new(),
            by: "r".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        batch.apply(&Memory::default(), Entry::Change(change), base, base).unwrap();
    }
    let effects: Vec<_> = batch.applied.iter().map(|applied| (applied.effect, applied.version)).collect();
    let expected = [(Effect::Created, 1), (Effect::Changed, 2), (Effect::Deleted, 3), (Effect::Created, 4)];
    assert_eq!(effects, expected);
}

#[test]
fn an_outcome_is_forgotten_at_the_same_entry_whatever_the_batches_are() {
    let change = |base| Change {
        stream: "s".into(),
        change_id: "again".into(),
        account_id: AccountId::from_number(7),
        base,
        account: None,
        request: String::new(),
        by: "r".into(),
        at: Timestamp::UNIX_EPOCH,
    };
    for (offset, version) in [(OUTCOMES_KEPT - 1, 1), (OUTCOMES_KEPT, 2)] {
        let mut one = Memory::default();
        let mut both = Batch::default();
        for (base, offset) in [(0, 0), (1, offset)] {
            let mut batch = Batch::default();
            batch.apply(&one, Entry::Change(change(base)), offset, 0).unwrap();
            one.rows.extend(batch.rows);
            one.outcomes.extend(batch.outcomes);
            both.apply(&Memory::default(), Entry::Change(change(base)), offset, 0).unwrap();
        }
        let id = AccountId::from_number(7);
        assert_eq!((one.rows[&id].version, both.rows[&id].version), (version, version), "{offset}");
    }
}
