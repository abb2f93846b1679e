//! The outbox's keys.

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Section, more_than_zero};
use serde::{Deserialize, Serialize};

/// The settings of the outbox.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// How many notifications wait on disk for the broker before VIP reads are answered 503 (default 100000)
    pub outbox_max: usize,
    /// What a VIP read waits for: disk, so that its notification survives a power loss, or os, so that it survives a
    /// killed process only (default disk)
    pub outbox_sync: SyncTo,
}

/// Place that a message has reached when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum SyncTo {
    /// The disk.
    Disk,
    /// The operating system.
    Os,
}

impl TryFrom<String> for SyncTo {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "disk" => Ok(Self::Disk),
            "os" => Ok(Self::Os),
            _ => Err(format!("`{text}` is not one of disk, os")),
        }
    }
}

impl From<SyncTo> for journal::SyncTo {
    fn from(sync: SyncTo) -> Self {
        match sync {
            SyncTo::Disk => Self::Disk,
            SyncTo::Os => Self::Os,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { outbox_max: 100_000, outbox_sync: SyncTo::Disk }
    }
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        more_than_zero([("outbox_max", self.outbox_max == 0)])
    }
}
