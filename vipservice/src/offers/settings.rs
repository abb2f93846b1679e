//! The keys that say how many offers are kept.

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Section, more_than_zero};
use serde::{Deserialize, Serialize};

/// The settings of the offers.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// How many of the newest offers are shown, and kept in memory (default 10000)
    pub offers_max: usize,
    /// How many bytes of offers the stream keeps at least (default 1073741824, 1 GiB)
    pub offers_max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { offers_max: 10_000, offers_max_bytes: 1024 * 1024 * 1024 }
    }
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        more_than_zero([
            ("offers_max", self.offers_max == 0),
            ("offers_max_bytes", self.offers_max_bytes == 0),
        ])
    }
}
