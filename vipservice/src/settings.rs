//! What can be set.

use std::time::Duration;

use common::{
    messaging::{ConsumeOptions, topology::VIP_DEAD},
    settings::{ServiceSettings, SharedSettings, more_than_zero},
};
use documented::DocumentedFields;
use serde::Deserialize;

use crate::offer::{Hours, OfferRules};

/// The vipservice's settings.
#[derive(Debug, Clone, Deserialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// What every service has
    pub shared: SharedSettings,
    /// How many notifications are handled at a time; the broker sends no more than that (default 50)
    pub consumer_prefetch: u16,
    /// How long handling one may take before it counts as failed, waiting for the broker excepted (default 10s)
    #[serde(with = "humantime_serde")]
    pub handler_timeout: Duration,
    /// What an offer says (default "A weekend in the mountains, for you and a guest")
    pub offer_text: String,
    /// How long an offer is good for, from the read on (default 7days)
    #[serde(with = "humantime_serde")]
    pub offer_valid_for: Duration,
    /// The hours of the day, in UTC, whose reads lead to an offer: "9-17" is from 9:00 to 16:59 (default "0-24")
    pub offer_hours: Hours,
    /// How many of the newest offers are shown, and kept in memory (default 10000)
    pub offers_max: usize,
    /// How many bytes of offers the stream keeps at least (default 1073741824, 1 GiB)
    pub offers_max_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shared: SharedSettings::default(),
            consumer_prefetch: 50,
            handler_timeout: Duration::from_secs(10),
            offer_text: "A weekend in the mountains, for you and a guest".into(),
            offer_valid_for: Duration::from_secs(7 * 24 * 60 * 60),
            offer_hours: Hours::default(),
            offers_max: 10_000,
            offers_max_bytes: 1024 * 1024 * 1024,
        }
    }
}

impl Settings {
    /// By which rules an offer is made.
    #[must_use]
    pub fn rules(&self) -> OfferRules {
        OfferRules { text: self.offer_text.clone(), valid_for: self.offer_valid_for, hours: self.offer_hours }
    }

    /// How the work queue is consumed.
    #[must_use]
    pub fn consume_options(&self) -> ConsumeOptions {
        ConsumeOptions {
            prefetch: self.consumer_prefetch,
            handler_timeout: self.handler_timeout,
            dead_letter_queue: Some(VIP_DEAD.into()),
        }
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "vipservice";

    fn shared(&self) -> &SharedSettings {
        &self.shared
    }

    fn check(&self) -> Result<(), String> {
        const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
        more_than_zero([
            ("consumer_prefetch", self.consumer_prefetch == 0),
            ("handler_timeout", self.handler_timeout.is_zero()),
            ("offers_max", self.offers_max == 0),
            ("offers_max_bytes", self.offers_max_bytes == 0),
        ])?;
        if self.offer_valid_for.is_zero() || self.offer_valid_for > TEN_YEARS {
            return Err("offer_valid_for: must be more than 0s and at most ten years".into());
        }
        Ok(())
    }
}
