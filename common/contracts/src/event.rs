//! An event as a message: AMQP properties, trace context, and the CloudEvents attributes that repeat them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use messaging::{JSON, Message, PublishError};
use serde::Serialize;
use uuid::Uuid;

use super::{RequestContext, TRACEPARENT, TRACESTATE};

/// Prefix of the CloudEvents 1.0 attributes in AMQP's binary mode:
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md>.
const CLOUD_EVENTS: &str = "cloudEvents_";

/// Builds a JSON event with a new id, in the context of a request.
///
/// # Errors
/// [`PublishError::Invalid`] if the body cannot be written as JSON.
pub fn event<T: Serialize>(
    kind: &str,
    app_id: &str,
    subject: &str,
    context: &RequestContext,
    body: &T,
) -> Result<Message, PublishError> {
    event_with_id(&Uuid::now_v7().to_string(), kind, app_id, subject, context, body)
}

/// Builds a JSON event under a given id, by which a receiver detects duplicates.
///
/// # Errors
/// [`PublishError::Invalid`] if the body cannot be written as JSON.
pub fn event_with_id<T: Serialize>(
    id: &str,
    kind: &str,
    app_id: &str,
    subject: &str,
    context: &RequestContext,
    body: &T,
) -> Result<Message, PublishError> {
    let body = serde_json::to_vec(body).map_err(|e| PublishError::Invalid(e.to_string()))?;
    let now = Timestamp::now();
    let mut headers = BTreeMap::new();
    for (attribute, value) in [
        ("id", id.to_owned()),
        ("source", format!("/{app_id}")),
        ("type", kind.to_owned()),
        ("specversion", "1.0".to_owned()),
        ("time", format!("{now:.3}")),
        ("subject", subject.to_owned()),
    ] {
        headers.insert(format!("{CLOUD_EVENTS}{attribute}"), value);
    }
    headers.insert(TRACEPARENT.into(), context.trace.traceparent());
    if let Some(state) = context.trace.tracestate() {
        headers.insert(TRACESTATE.into(), state.to_owned());
    }
    Ok(Message {
        id: Some(id.to_owned()),
        kind: Some(kind.to_owned()),
        content_type: Some(JSON.to_owned()),
        content_encoding: None,
        correlation_id: Some(context.request_id.clone()),
        app_id: Some(app_id.to_owned()),
        timestamp: Some(now.as_second().unsigned_abs()),
        headers,
        body: body.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> RequestContext {
        RequestContext::from_parts_or_new(Some("7f3a"), None, Some("vendor=1"))
    }

    #[test]
    fn an_event_says_the_same_in_properties_and_in_cloud_events() {
        let message = event("vip.notification.v1", "accountservice", "10000", &context(), &["body"]).unwrap();
        let attribute = |name: &str| message.headers.get(&format!("cloudEvents_{name}")).map(String::as_str);
        assert_eq!(attribute("id"), message.id.as_deref());
        assert_eq!(attribute("type"), Some("vip.notification.v1"));
        assert_eq!(attribute("source"), Some("/accountservice"));
        assert_eq!(attribute("specversion"), Some("1.0"));
        assert_eq!(attribute("subject"), Some("10000"));
        assert!(attribute("time").unwrap().ends_with('Z'));
        assert_eq!(message.correlation_id.as_deref(), Some("7f3a"));
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        let id = Uuid::parse_str(message.id.as_deref().unwrap()).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }

    #[test]
    fn a_given_id_is_the_messages_and_the_cloud_events() {
        let message = event_with_id("7", "offer.v1", "vipservice", "10000", &context(), &["body"]).unwrap();
        assert_eq!((message.id.as_deref(), message.headers["cloudEvents_id"].as_str()), (Some("7"), "7"));
    }

    #[test]
    fn the_request_is_found_again_in_its_message() {
        let message = event("vip.notification.v1", "accountservice", "10000", &context(), &["body"]).unwrap();
        let context = RequestContext::of(&message);
        assert_eq!(context.request_id, "7f3a");
        assert!(message.headers["traceparent"].contains(&format!("{:032x}", context.trace.id())));
    }
}
