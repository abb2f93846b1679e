//! The contract between services: messages, queues, and the request that a message belongs to.
//!
//! In reading order:
//! - this file: the notification, and the versions of it that a reader understands
//! - [`RequestContext`]: the request's id and trace, which travel with the message
//! - [`event`]: an event as a message, with the CloudEvents attributes
//! - [`topology`]: the queue and the stream, with their arguments
//!
//! A serialized type is a promise. Readers are tolerant within a major version: they ignore unknown fields, so a newer
//! producer may add some. A field with a new meaning needs a new major version, with a new `type`.

mod trace;
mod event;
pub mod topology;

use jiff::Timestamp;
use messaging::millis;
use serde::{Deserialize, Serialize};

pub use self::{
    event::{event, event_with_id},
    trace::{RequestContext, TRACEPARENT, TRACESTATE, TraceContext},
};

/// Message type of [`VipNotification`], up to the major version.
pub const VIP_NOTIFICATION: &str = "vip.notification.v1";

/// A VIP's account was read: the message that the accountservice sends to the vipservice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipNotification {
    /// Id of the account that was read.
    pub account_id: String,
    /// Time of the read: RFC 3339 in UTC, to the millisecond.
    #[serde(serialize_with = "millis")]
    pub read_at: Timestamp,
}

/// An account was created, changed or deleted: the event that the accountservice publishes for whoever wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountEvent {
    /// Id of the account.
    pub account_id: String,
    /// Version that the change made, as in the account's `ETag`.
    pub version: u64,
    /// Whose account it is; absent if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is a VIP's; absent if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<bool>,
}

/// Result of comparing a message's `type` with the type that a reader understands, such as `vip.notification.v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The reader's type. A minor version, as in `v1.2`, adds fields; the others keep their meaning.
    Ours,
    /// The same contract in another major version, in which fields may mean something else.
    OtherVersion,
    /// Another type.
    Foreign,
}

impl Kind {
    /// Compares a message's type with the reader's.
    #[must_use]
    pub fn of(kind: &str, ours: &str) -> Self {
        let Some((contract, our_major)) = ours.rsplit_once(".v") else { return Self::Foreign };
        let version = kind.strip_prefix(contract).and_then(|rest| rest.strip_prefix(".v"));
        match version.map(|version| version.split('.').next().unwrap_or_default()) {
            Some(major) if major == our_major => Self::Ours,
            Some(major) if major.parse::<u32>().is_ok() => Self::OtherVersion,
            _ => Self::Foreign,
        }
    }
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
    fn a_type_is_compared_by_its_name_and_its_major_version() {
        for (kind, is) in [
            ("vip.notification.v1", Kind::Ours),
            ("vip.notification.v1.7", Kind::Ours),
            ("vip.notification.v2", Kind::OtherVersion),
            ("vip.notification.v2.1", Kind::OtherVersion),
            ("vip.notification.v10", Kind::OtherVersion),
            ("vip.notification.v", Kind::Foreign),
            ("vip.notification", Kind::Foreign),
            ("vip.notification.vip", Kind::Foreign),
            ("vip.birthday.v1", Kind::Foreign),
            ("", Kind::Foreign),
        ] {
            assert_eq!(Kind::of(kind, VIP_NOTIFICATION), is, "{kind}");
        }
    }

    #[test]
    fn a_field_of_a_newer_minor_version_is_ignored() {
        let newer = r#"{"accountId":"1","readAt":"2026-11-20T06:27:33.757Z","channel":"web"}"#;
        assert!(serde_json::from_str::<VipNotification>(newer).is_ok());
    }
}
