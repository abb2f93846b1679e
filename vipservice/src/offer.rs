//! Hop 8, offer: "under certain circumstances" the VIP gets an offer. These are the circumstances.
//!
//! This file does no I/O, and the clock is the notification's: the same input gives the same offer.

use std::{str::FromStr, time::Duration};

use contracts::VipNotification;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// By which rules an offer is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferRules {
    /// What it says.
    pub text: String,
    /// How long it is good for, from the read on.
    pub valid_for: Duration,
    /// At which hours a read leads to one.
    pub hours: Hours,
}

/// What is offered to whom, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// To whom.
    pub account_id: String,
    /// What.
    pub text: String,
    /// Why: the read.
    pub read_at: Timestamp,
    /// Until when.
    pub valid_until: Timestamp,
}

/// Decides whether a read leads to an offer.
#[must_use]
pub fn offer_for(notification: &VipNotification, rules: &OfferRules) -> Option<Offer> {
    rules.hours.contain(notification.read_at).then(|| Offer {
        account_id: notification.account_id.clone(),
        text: rules.text.clone(),
        read_at: notification.read_at,
        // A read at the end of time is good until the end of time.
        valid_until: notification.read_at.checked_add(rules.valid_for).unwrap_or(Timestamp::MAX),
    })
}

/// Hours of the day in UTC, the last one excluded: `9-17`, or over midnight, `22-6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: i8,
    to: i8,
}

impl From<Hours> for String {
    fn from(Hours { from, to }: Hours) -> Self {
        format!("{from}-{to}")
    }
}

impl Hours {
    fn contain(self, instant: Timestamp) -> bool {
        let hour = instant.to_zoned(TimeZone::UTC).hour();
        if self.from <= self.to {
            (self.from..self.to).contains(&hour)
        } else {
            hour >= self.from || hour < self.to
        }
    }
}

impl Default for Hours {
    /// Around the clock.
    fn default() -> Self {
        Self { from: 0, to: 24 }
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hour = |text: &str| text.trim().parse().ok().filter(|hour| (0..=24).contains(hour));
        let hours = text.split_once('-').and_then(|(from, to)| Some((hour(from)?, hour(to)?)));
        match hours {
            Some((from, to)) if from != to && from < 24 => Ok(Self { from, to }),
            _ => Err(format!("`{text}` are no hours: write two from 0 to 24, as in \"9-17\"")),
        }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_at(instant: &str) -> VipNotification {
        VipNotification { account_id: "10000".into(), read_at: instant.parse().unwrap() }
    }

    fn rules(hours: &str) -> OfferRules {
        OfferRules {
            text: "A weekend".into(),
            valid_for: Duration::from_secs(3600),
            hours: hours.parse().unwrap(),
        }
    }

    #[test]
    fn an_offer_is_made_for_a_read_within_the_hours() {
        for (hours, instant, made) in [
            ("0-24", "2026-11-20T00:00:00Z", true),
            ("0-24", "2026-11-20T23:59:59.999Z", true),
            ("9-17", "2026-11-20T08:59:59.999Z", false),
            ("9-17", "2026-11-20T09:00:00Z", true),
            ("9-17", "2026-11-20T16:59:59Z", true),
            ("9-17", "2026-11-20T17:00:00Z", false),
            ("9-17", "2026-11-20T18:00:00+02:00", true),
            ("22-6", "2026-11-20T23:00:00Z", true),
            ("22-6", "2026-11-20T05:00:00Z", true),
            ("22-6", "2026-11-20T12:00:00Z", false),
        ] {
            assert_eq!(offer_for(&read_at(instant), &rules(hours)).is_some(), made, "{hours} {instant}");
        }
    }

    #[test]
    fn an_offer_says_what_to_whom_and_until_when() {
        let offer = offer_for(&read_at("2026-11-20T09:00:00Z"), &rules("0-24")).unwrap();
        assert_eq!((offer.account_id.as_str(), offer.text.as_str()), ("10000", "A weekend"));
        assert_eq!(offer.valid_until, "2026-11-20T10:00:00Z".parse().unwrap());
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let last = VipNotification { account_id: "1".into(), read_at: Timestamp::MAX };
        assert_eq!(offer_for(&last, &rules("0-24")).unwrap().valid_until, Timestamp::MAX);
    }

    #[test]
    fn what_are_no_hours_is_refused() {
        for text in ["", "9", "9-", "9-9", "24-6", "-1-5", "9-25", "nine-five"] {
            assert!(text.parse::<Hours>().unwrap_err().contains("9-17"), "{text}");
        }
    }
}
