//! What can be set. The accounts are data: which of them is a VIP is said there, not in code.

use std::collections::HashSet;

use documented::DocumentedFields;
use hops_config::{ServiceSettings, SharedSettings, more_than_zero};
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountId};

/// The accountservice's settings.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// What every service has
    pub shared: SharedSettings,
    /// What an empty store is filled with, once; in a file only (default: 10000 to 10099, of which 10000 is a VIP)
    pub accounts: Vec<Account>,
    /// How many notifications wait on disk for the broker before VIP reads are answered 503 (default 100000)
    pub outbox_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let account = |n: u32| {
            let id = AccountId::parse(&(10_000 + n).to_string()).ok()?;
            Some(Account { id, name: format!("Person_{n}"), vip: n == 0 })
        };
        Self {
            shared: SharedSettings::default(),
            accounts: (0..100).filter_map(account).collect(),
            outbox_max: 100_000,
        }
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "accountservice";
    const IN_FILES_ONLY: &'static [&'static str] = &["accounts"];

    fn shared(&self) -> &SharedSettings {
        &self.shared
    }

    fn check(&self) -> Result<(), String> {
        more_than_zero([("outbox_max", self.outbox_max == 0)])?;
        let mut seen = HashSet::new();
        match self.accounts.iter().find(|account| !seen.insert(&account.id)) {
            Some(twice) => Err(format!("accounts: {} is there twice", twice.id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_accounts_are_those_of_the_series() {
        let accounts = Settings::default().accounts;
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
        let mut settings = Settings::default();
        settings.accounts.push(settings.accounts[7].clone());
        assert_eq!(settings.check().unwrap_err(), "accounts: 10007 is there twice");
    }
}
