//! An account, and its id: below the handler no plain text means an id.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 1 to 20 digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct AccountId(String);

/// An account, as the list in the settings has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whose it is.
    pub name: String,
    /// True if the vipservice is notified of its reads.
    #[serde(default)]
    pub vip: bool,
}

/// An account without its id: what a change writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Name of its holder.
    pub name: String,
    /// True if the vipservice is notified of its reads.
    #[serde(default)]
    pub vip: bool,
}

/// An account with the number of changes that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The account.
    pub account: Account,
    /// Its version, from 1.
    pub version: u64,
}

impl AccountId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`NotAnAccountId`] for anything but 1 to 20 ASCII digits.
    pub fn parse(text: &str) -> Result<Self, NotAnAccountId> {
        is_account_id(text).then(|| Self(text.to_owned())).ok_or(NotAnAccountId)
    }

    /// Returns the id with the digits of a number.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number.to_string())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Account {
    /// Returns the id, and all else.
    #[must_use]
    pub fn into_parts(self) -> (AccountId, Profile) {
        let Self { id, name, vip } = self;
        (id, Profile { name, vip })
    }
}

impl Profile {
    /// Returns the account with this id.
    #[must_use]
    pub fn with_id(self, id: AccountId) -> Account {
        let Self { name, vip } = self;
        Account { id, name, vip }
    }
}

fn is_account_id(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AccountId {
    type Error = NotAnAccountId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_account_id(&text) { Ok(Self(text)) } else { Err(NotAnAccountId) }
    }
}

/// The text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an account id has 1 to 20 digits, as in 10000")]
pub struct NotAnAccountId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_20_digits() {
        for (text, valid) in [
            ("10000", true),
            ("0", true),
            ("12345678901234567890", true),
            ("123456789012345678901", false),
            ("", false),
            ("1000a", false),
            ("-1", false),
            (" 1", false),
            ("١", false),
            ("../1", false),
        ] {
            assert_eq!(AccountId::parse(text).is_ok(), valid, "{text:?}");
        }
    }
}
