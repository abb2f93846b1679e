//! What can be set.

use std::time::Duration;

use contracts::topology::VIP_QUEUE;
use documented::DocumentedFields;
use hops_config::{Live, ServiceSettings, SharedSettings, more_than_zero};
use humantime_serde::re::humantime;
use messaging::{ConsumeOptions, retry::RetryPolicy};
use serde::{Deserialize, Serialize};

use crate::offer::{Hours, OfferRules};

/// The vipservice's settings.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// What every service has
    pub shared: SharedSettings,
    /// How many notifications are handled at a time; the broker sends no more than that (default 50)
    pub consumer_prefetch: u16,
    /// How long handling one may take before it counts as failed, waiting for the broker excepted (default 10s)
    #[serde(with = "humantime_serde")]
    pub handler_timeout: Duration,
    /// How long a notification that failed waits before it is tried again: the first time, the second, and so on;
    /// after the last it goes to vip_queue.dead (default "1s, 5s, 30s")
    pub retry_delays: Delays,
    /// The largest notification that is read, in bytes; real ones have 57 (default 65536)
    pub notification_limit: usize,
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
            retry_delays: Delays::default(),
            notification_limit: 64 * 1024,
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

    /// Returns the retry policy of notifications.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy::new(VIP_QUEUE, &self.retry_delays.0)
    }

    /// How the work queue is consumed, with a time-out that may change.
    #[must_use]
    pub fn consume_options(&self, handler_timeout: Live<Duration>) -> ConsumeOptions {
        ConsumeOptions {
            prefetch: self.consumer_prefetch,
            handler_timeout,
            retry_policy: Some(self.retry_policy()),
        }
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "vipservice";
    const LIVE: &'static [&'static str] =
        &["handler_timeout", "notification_limit", "offer_hours", "offer_text", "offer_valid_for"];

    fn shared(&self) -> &SharedSettings {
        &self.shared
    }

    fn check(&self) -> Result<(), String> {
        const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
        more_than_zero([
            ("consumer_prefetch", self.consumer_prefetch == 0),
            ("handler_timeout", self.handler_timeout.is_zero()),
            ("notification_limit", self.notification_limit == 0),
            ("offers_max", self.offers_max == 0),
            ("offers_max_bytes", self.offers_max_bytes == 0),
        ])?;
        if self.offer_text.trim().is_empty() {
            return Err("offer_text: must not be empty".into());
        }
        if self.offer_valid_for.is_zero() || self.offer_valid_for > TEN_YEARS {
            return Err("offer_valid_for: must be more than 0s and at most ten years".into());
        }
        Ok(())
    }
}

/// Waiting times, one after the other, written `"1s, 5s, 30s"`; none at all as `""`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delays(Vec<Duration>);

impl From<Delays> for String {
    fn from(Delays(delays): Delays) -> Self {
        let written: Vec<_> =
            delays.into_iter().map(|delay| humantime::format_duration(delay).to_string()).collect();
        written.join(", ")
    }
}

impl Default for Delays {
    fn default() -> Self {
        Self([1, 5, 30].map(Duration::from_secs).to_vec())
    }
}

impl TryFrom<String> for Delays {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const SHORTEST: Duration = Duration::from_millis(1);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        // `1s 5s` is one time of six seconds to that parser, and hardly what was meant.
        let delay = |word: &str| match word.contains(char::is_whitespace) {
            true => None,
            false => humantime::parse_duration(word).ok().filter(|delay| (SHORTEST..=DAY).contains(delay)),
        };
        let words = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
        match words.map(delay).collect::<Option<Vec<_>>>() {
            Some(delays) if delays.len() <= 10 => Ok(Self(delays)),
            _ => Err(format!("`{text}`: write at most ten times from 1ms to 1day, as in \"1s, 5s, 30s\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_read_one_by_one_and_bounded() {
        let read = |text: &str| Delays::try_from(text.to_owned()).map(|delays| delays.0).ok();
        let ms = |all: &[u64]| Some(all.iter().copied().map(Duration::from_millis).collect::<Vec<_>>());
        for (text, delays) in [
            ("1s, 5s, 30s", ms(&[1000, 5000, 30_000])),
            ("250ms", ms(&[250])),
            ("", ms(&[])),
            ("1s 5s", None),
            ("1s,", None),
            ("1", None),
            ("0s", None),
            ("2days", None),
            ("1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s", None),
        ] {
            assert_eq!(read(text), delays, "{text}");
        }
    }
}
