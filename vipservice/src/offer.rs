//! Hop 8, offer: "under certain circumstances" the VIP gets an offer. This file defines the circumstances.
//!
//! It does no I/O and reads no clock: the same notification leads to the same offer.

use std::{str::FromStr, time::Duration};

use contracts::VipNotification;
use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Reloadable, Section};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// The settings of the rule.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// The text of an offer, at most 4096 bytes (default "A weekend in the mountains, for you and a guest")
    pub offer_text: Reloadable<String>,
    /// How long an offer is valid, counted from the read (default 7days)
    #[serde(with = "hops_config::reloadable::duration")]
    pub offer_valid_for: Reloadable<Duration>,
    /// The hours of the day, in UTC, whose reads lead to an offer: "9-17" is from 9:00 to 16:59 (default "0-24")
    pub offer_hours: Reloadable<Hours>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offer_text: String::from("A weekend in the mountains, for you and a guest").into(),
            offer_valid_for: Duration::from_secs(7 * 24 * 60 * 60).into(),
            offer_hours: Hours::default().into(),
        }
    }
}

impl Section for Settings {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        const LONGEST_TEXT: usize = 4096;
        const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
        let OfferRules { text, valid_for, .. } = self.rules(moment);
        if text.trim().is_empty() {
            return Err(InvalidValue::new("offer_text", "must not be empty"));
        }
        if text.len() > LONGEST_TEXT {
            return Err(InvalidValue::new("offer_text", "must have at most 4096 bytes"));
        }
        if valid_for.is_zero() || valid_for > TEN_YEARS {
            return Err(InvalidValue::new("offer_valid_for", "must be more than 0s and at most ten years"));
        }
        Ok(())
    }
}

impl Settings {
    /// Returns the rules at this moment.
    #[must_use]
    pub fn rules(&self, moment: Moment) -> OfferRules {
        OfferRules {
            text: self.offer_text.at(moment).clone(),
            valid_for: *self.offer_valid_for.at(moment),
            hours: *self.offer_hours.at(moment),
        }
    }
}

/// The rules by which offers are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferRules {
    /// Text of the offer.
    pub text: String,
    /// Time from the read until the offer expires.
    pub valid_for: Duration,
    /// Hours whose reads lead to an offer.
    pub hours: Hours,
}

/// An offer to one account holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Account that receives the offer.
    pub account_id: String,
    /// Text shown to the account holder.
    pub text: String,
    /// Time of the read that led to the offer.
    pub read_at: Timestamp,
    /// Time at which the offer expires.
    pub valid_until: Timestamp,
}

/// Decides whether a read leads to an offer.
#[must_use]
pub fn offer_for(notification: &VipNotification, rules: &OfferRules) -> Option<Offer> {
    rules.hours.contain(notification.read_at).then(|| Offer {
        account_id: notification.account_id.clone(),
        text: rules.text.clone(),
        read_at: notification.read_at,
        // Beyond the last representable time, it is the last one.
        valid_until: notification.read_at.checked_add(rules.valid_for).unwrap_or(Timestamp::MAX),
    })
}

/// A range of hours of the day in UTC, without its end: `9-17`, or over midnight, `22-6`.
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
    /// Returns all hours.
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
            _ => Err(format!(
                "`{text}` is not a valid range of hours: write two numbers from 0 to 24, as in \"9-17\""
            )),
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
    use hops_config::LiveSection;

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
    fn the_last_representable_time_causes_no_panic() {
        let last = VipNotification { account_id: "1".into(), read_at: Timestamp::MAX };
        assert_eq!(offer_for(&last, &rules("0-24")).unwrap().valid_until, Timestamp::MAX);
    }

    #[test]
    fn a_text_that_an_entry_of_the_stream_has_no_room_for_is_refused() {
        let check = |text: String| {
            let section = LiveSection::from(Settings { offer_text: text.into(), ..Settings::default() });
            section.live(|settings, moment| settings.check(moment).map_err(|why| why.to_string())).get()
        };
        assert_eq!(check("x".repeat(4096)), Ok(()));
        assert!(check("x".repeat(4097)).unwrap_err().contains("at most 4096 bytes"));
    }

    #[test]
    fn an_invalid_range_of_hours_is_refused() {
        for text in ["", "9", "9-", "9-9", "24-6", "-1-5", "9-25", "nine-five"] {
            assert!(text.parse::<Hours>().unwrap_err().contains("9-17"), "{text}");
        }
    }
}
