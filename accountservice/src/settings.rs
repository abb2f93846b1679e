//! The accountservice's settings, composed of those of its parts. The accounts are data: which of them is a VIP is said
//! there, not in code.

use std::{collections::HashSet, time::Duration};

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Reloadable, Section, ServiceSettings, more_than_zero};
use serde::{Deserialize, Serialize};

use crate::{
    account::{Account, AccountId},
    body::check_name,
    changes::batch::OUTCOMES_KEPT,
};

/// Most bytes that are counted for an entry of the stream of changes.
const ENTRY_BYTES: u64 = 1536;

hops_config::sections! {
    /// The accountservice's settings.
    pub struct Settings {
        /// The first accounts.
        pub accounts: Accounts,
        /// The outbox.
        pub outbox: outbox::Settings,
        /// The queue that notifications go to.
        pub vip_queue: contracts::topology::Settings,
        /// The keys of every service.
        pub service: service::Settings,
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "accountservice";
    const IN_FILES_ONLY: &'static [&'static str] = &["accounts"];
}

/// The settings of the store.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Accounts {
    /// The accounts that an empty store is filled with, once; in a file only (default: 10000 to 10099, of which 10000
    /// is a VIP)
    pub accounts: Vec<Account>,
    /// How many accounts there may be, deleted ones included; to create one more is answered 507 (default 10000)
    pub accounts_max: usize,
    /// How many bytes of changes to accounts the stream keeps; it has to fit accounts_max (default 268435456, 256 MiB)
    pub account_changes_max_bytes: u64,
    /// Time limit for the outcome of a change; then it is answered 503 (default 2s)
    #[serde(with = "hops_config::reloadable::duration")]
    pub write_timeout: Reloadable<Duration>,
}

impl Default for Accounts {
    fn default() -> Self {
        let account = |n: u32| {
            let id = AccountId::parse(&(10_000 + n).to_string()).ok()?;
            Some(Account { id, name: format!("Person_{n}"), vip: n == 0 })
        };
        Self {
            accounts: (0..100).filter_map(account).collect(),
            accounts_max: 10_000,
            account_changes_max_bytes: 256 * 1024 * 1024,
            write_timeout: Duration::from_secs(2).into(),
        }
    }
}

impl Section for Accounts {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        more_than_zero([
            ("accounts_max", self.accounts_max == 0),
            ("write_timeout", self.write_timeout.at(moment).is_zero()),
        ])?;
        // An account is appended again when a quarter of the stream is behind it, which is four times as much as all accounts take. And
        // the changes that may be asked for again are in the newest quarter.
        let least = (16 * ENTRY_BYTES * self.accounts_max as u64).max(4 * ENTRY_BYTES * OUTCOMES_KEPT);
        if self.account_changes_max_bytes < least {
            let why = format!("must be at least {least} for accounts_max: {}", self.accounts_max);
            return Err(InvalidValue::new("account_changes_max_bytes", why));
        }
        if self.accounts.len() > self.accounts_max {
            return Err(InvalidValue::new(
                "accounts_max",
                format!("there are {} accounts", self.accounts.len()),
            ));
        }
        self.check_accounts()
    }
}

impl Accounts {
    fn check_accounts(&self) -> Result<(), InvalidValue> {
        for account in &self.accounts {
            check_name(&account.name)
                .map_err(|why| InvalidValue::new("accounts", format!("the name of {}: {why}", account.id)))?;
        }
        let mut seen = HashSet::new();
        match self.accounts.iter().find(|account| !seen.insert(&account.id)) {
            Some(duplicate) => Err(InvalidValue::new("accounts", format!("{} is there twice", duplicate.id))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_accounts_are_those_of_the_series() {
        let accounts = Accounts::default().accounts;
        assert_eq!(accounts.len(), 100);
        assert_eq!(
            (accounts[0].id.as_str(), accounts[0].name.as_str(), accounts[0].vip),
            ("10000", "Person_0", true)
        );
        assert_eq!((accounts[99].id.as_str(), accounts[99].name.as_str()), ("10099", "Person_99"));
        assert_eq!(accounts.iter().filter(|account| account.vip).count(), 1);
    }

    #[test]
    fn an_account_that_is_listed_twice_is_named() {
        let mut settings = Accounts::default();
        settings.accounts.push(settings.accounts[7].clone());
        assert_eq!(settings.check_accounts().unwrap_err().to_string(), "accounts: 10007 is there twice");
    }
}
