//! What one service says to another: all that the services share, besides the code that carries it.
//!
//! A serialized type is a promise. Readers are tolerant within a major version: fields they do not
//! know pass, so a newer producer may add some. What changes a field's meaning is a new major
//! version, with a new `type`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

/// The message's `type`, up to the major version.
pub const VIP_NOTIFICATION: &str = "vip.notification.v1";

/// "A VIP's account was read": what accountservice puts on the work queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipNotification {
    /// The account that was read.
    pub account_id: String,
    /// When it was read: RFC 3339 in UTC, to the millisecond.
    #[serde(serialize_with = "millis")]
    pub read_at: Timestamp,
}

/// An instant as every body of ours writes it: RFC 3339, UTC, three digits of a second.
///
/// # Errors
/// Only the serializer's own.
pub fn millis<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{instant:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_exactly_the_one_that_was_promised() {
        let notification = VipNotification {
            account_id: "10000".into(),
            read_at: "2026-11-20T06:27:33.757Z".parse().unwrap(),
        };
        let body = r#"{"accountId":"10000","readAt":"2026-11-20T06:27:33.757Z"}"#;
        assert_eq!(serde_json::to_string(&notification).unwrap(), body);
        assert_eq!(serde_json::from_str::<VipNotification>(body).unwrap(), notification);
    }

    #[test]
    fn whole_seconds_keep_their_three_digits() {
        let notification =
            VipNotification { account_id: "1".into(), read_at: "2026-11-20T06:27:33Z".parse().unwrap() };
        assert!(serde_json::to_string(&notification).unwrap().contains("06:27:33.000Z"));
    }

    #[test]
    fn a_field_of_a_newer_minor_version_passes() {
        let newer = r#"{"accountId":"1","readAt":"2026-11-20T06:27:33.757Z","channel":"web"}"#;
        assert!(serde_json::from_str::<VipNotification>(newer).is_ok());
    }
}
