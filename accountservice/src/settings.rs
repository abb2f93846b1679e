//! The accountservice's settings, composed of those of its parts. The accounts are data: which of them is a VIP is said
//! there, not in code.

use std::collections::HashSet;

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Section, ServiceSettings};
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountId};

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
}

impl Default for Accounts {
    fn default() -> Self {
        let account = |n: u32| {
            let id = AccountId::parse(&(10_000 + n).to_string()).ok()?;
            Some(Account { id, name: format!("Person_{n}"), vip: n == 0 })
        };
        Self { accounts: (0..100).filter_map(account).collect() }
    }
}

impl Section for Accounts {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        self.check_unique()
    }
}

impl Accounts {
    fn check_unique(&self) -> Result<(), InvalidValue> {
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
        assert_eq!(settings.check_unique().unwrap_err().to_string(), "accounts: 10007 is there twice");
    }
}
