//! A change to an account: an entry of the stream, and the rule that decides whether it counts. Pure.
//!
//! Every replica reads the same entries in the same order, so each comes to the same accounts. The rule compares numbers only: no
//! clock, no name of a replica, and nothing that only one of them knows.
//!
//! A writer names the version that it has seen, the `base`. The first change with a base wins, since it makes the version above it;
//! the next one with the same base is a lost update, and is rejected. Nobody can have seen a version that does not exist, so a base
//! above the current version means that this reader has not seen all entries: the broker has dropped the oldest ones. The change
//! counts then, and a renewal puts right what was missed: it states an account as a full replica has it.

use contracts::Kind;
use jiff::Timestamp;
use messaging::{Message, millis};
use serde::{Deserialize, Serialize};

use crate::account::{AccountId, Profile};

/// Message type of a [`Change`].
pub const CHANGE: &str = "account.change.v1";
/// Message type of a [`Renewal`].
pub const RENEWAL: &str = "account.renewal.v1";
/// Largest version that is read: what JSON's readers agree on (RFC 8259, section 6).
const MAX_VERSION: u64 = (1 << 53) - 1;
/// Most bytes of a text in an entry. Those of a writer are shorter.
const MAX_TEXT: usize = 512;

/// A write that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Name of the stream, as the first entry has it.
    pub stream: String,
    /// Id of the change: the `Idempotency-Key` of the request, or a generated one. A second entry with it changes nothing.
    pub change_id: String,
    /// Account that is written.
    pub account_id: AccountId,
    /// Version that the writer has seen; 0 if there was none.
    pub base: u64,
    /// The account as it is to be; `None` deletes it.
    #[serde(deserialize_with = "Option::deserialize")]
    pub account: Option<Profile>,
    /// Digest of the request, by which another request with the same key is found; empty for the first accounts.
    pub request: String,
    /// Replica that took the request.
    pub by: String,
    /// Time of the request.
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
}

/// An account as a replica has it, appended again before the broker drops the entries that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// Name of the stream, as the first entry has it.
    pub stream: String,
    /// The account.
    pub account_id: AccountId,
    /// Its version.
    pub version: u64,
    /// What it is; `None` if it was deleted.
    #[serde(deserialize_with = "Option::deserialize")]
    pub account: Option<Profile>,
}

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A change.
    Change(Change),
    /// A renewal.
    Renewal(Renewal),
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It counts, and made this version.
    Applied(u64),
    /// Another change came first, which made this version.
    Rejected(u64),
}

/// An account as a replica stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Number of changes that have counted.
    pub version: u64,
    /// The account; `None` if it was deleted. The row stays, so that the version goes on when somebody creates it again.
    pub account: Option<Profile>,
    /// Bytes of the stream that were read up to the newest entry with this state: see [`super::upkeep`].
    pub renewed: u64,
}

/// What became of a change, for whoever asks again with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Offset of the newest entry with this id.
    pub offset: u64,
    /// Account that was to be changed.
    pub account_id: AccountId,
    /// Digest of the request.
    pub request: String,
    /// Whether it counts.
    pub verdict: Verdict,
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// A sentence that says why it is none: anybody may append to a stream. Every replica skips the same ones.
    pub fn read(message: &Message) -> Result<Self, String> {
        let kind = message.kind.as_deref().unwrap_or_default();
        let entry = match (Kind::of(kind, CHANGE), Kind::of(kind, RENEWAL)) {
            (Kind::Ours, _) => serde_json::from_slice(&message.body).map(Self::Change),
            (_, Kind::Ours) => serde_json::from_slice(&message.body).map(Self::Renewal),
            _ => return Err(format!("its type is {kind:?}")),
        };
        let entry = entry.map_err(|e| e.to_string())?;
        let (version, profile, texts) = match &entry {
            Self::Change(Change { stream, change_id, base, account, request, by, .. }) => {
                (base.saturating_add(1), account, [stream, change_id, request, by])
            }
            Self::Renewal(Renewal { stream, version, account, .. }) => (*version, account, [stream; 4]),
        };
        let texts = texts.into_iter().chain(profile.as_ref().map(|profile| &profile.name));
        if let Some(text) = texts.map(String::as_str).find(|text| text.len() > MAX_TEXT) {
            return Err(format!("a text in it has {} bytes", text.len()));
        }
        if !(1..=MAX_VERSION).contains(&version) {
            return Err(format!("{version} is not a version"));
        }
        Ok(entry)
    }

    /// Returns the account that it is about.
    #[must_use]
    pub fn account_id(&self) -> &AccountId {
        match self {
            Self::Change(change) => &change.account_id,
            Self::Renewal(renewal) => &renewal.account_id,
        }
    }

    /// Returns the name of the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        match self {
            Self::Change(change) => &change.stream,
            Self::Renewal(renewal) => &renewal.stream,
        }
    }
}

impl Change {
    /// Decides whether the change counts, for an account with this version; 0 if there was none.
    #[must_use]
    pub fn verdict(&self, current: u64) -> Verdict {
        match self.base >= current {
            true => Verdict::Applied(self.base + 1),
            false => Verdict::Rejected(current),
        }
    }
}

impl Renewal {
    /// Returns whether it is the account's newest state that is known. For a replica that has read everything it is what that has.
    #[must_use]
    pub fn counts(&self, current: u64) -> bool {
        self.version >= current
    }
}

#[cfg(test)]
mod tests;
