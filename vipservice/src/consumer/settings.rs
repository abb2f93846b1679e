//! The keys that say how notifications are consumed.

use std::time::Duration;

use contracts::topology::VIP_QUEUE;
use documented::DocumentedFields;
use hops_config::{InvalidValue, LiveSection, Moment, Reloadable, Section, more_than_zero};
use humantime_serde::re::humantime;
use messaging::{ConsumeOptions, retry::RetryPolicy};
use serde::{Deserialize, Serialize};

/// The settings of the consumer.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// How many notifications are handled at a time; the broker sends no more than that (default 50)
    pub consumer_prefetch: u16,
    /// Time limit for handling one notification, without waiting for the broker; then it counts as failed (default
    /// 10s)
    #[serde(with = "hops_config::reloadable::duration")]
    pub handler_timeout: Reloadable<Duration>,
    /// How long a notification that failed waits before it is tried again: the first time, the second, and so on;
    /// after the last it goes to vip_queue.dead (default "1s, 5s, 30s")
    pub retry_delays: Delays,
    /// The largest notification that is read, in bytes; real ones have 57 (default 65536)
    pub notification_limit: Reloadable<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consumer_prefetch: 50,
            handler_timeout: Duration::from_secs(10).into(),
            retry_delays: Delays::default(),
            notification_limit: (64 * 1024).into(),
        }
    }
}

impl Section for Settings {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        more_than_zero([
            ("consumer_prefetch", self.consumer_prefetch == 0),
            ("handler_timeout", self.handler_timeout.at(moment).is_zero()),
            ("notification_limit", *self.notification_limit.at(moment) == 0),
        ])
    }
}

impl Settings {
    /// Returns the retry policy for notifications that fail.
    #[must_use]
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy::new(VIP_QUEUE, &self.retry_delays.0)
    }

    /// Returns the options for consuming the work queue.
    #[must_use]
    pub fn consume_options(section: &LiveSection<Self>) -> ConsumeOptions {
        let started = section.started();
        ConsumeOptions {
            prefetch: started.consumer_prefetch,
            handler_timeout: section.live(|settings, moment| *settings.handler_timeout.at(moment)),
            retry_policy: Some(started.retry_policy()),
        }
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
