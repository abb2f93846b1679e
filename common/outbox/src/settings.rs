//! The outbox's key.

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Section, more_than_zero};
use serde::{Deserialize, Serialize};

/// The settings of the outbox.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// How many notifications wait on disk for the broker before VIP reads are answered 503 (default 100000)
    pub outbox_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { outbox_max: 100_000 }
    }
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        more_than_zero([("outbox_max", self.outbox_max == 0)])
    }
}
