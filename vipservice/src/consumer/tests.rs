//! The consumer with a broker that is a double: what becomes of each kind of message.

use std::sync::Mutex;

use messaging::MockMessagingClient;
use serde_json::Value;

use super::*;
use crate::settings::Settings;

fn notification() -> Message {
    let context = RequestContext::from_parts_or_new(Some("7f3a"), None, None);
    let body =
        VipNotification { account_id: "10000".into(), read_at: "2026-11-20T06:27:33.757Z".parse().unwrap() };
    contracts::event(VIP_NOTIFICATION, "accountservice", "10000", &context, &body).unwrap()
}

fn with_body(body: &str) -> Message {
    Message { body: body.to_owned().into(), ..notification() }
}

fn consumer(settings: &Settings, client: MockMessagingClient) -> Arc<Consumer> {
    let mut registry = Registry::default();
    let offers = Offers::new(Arc::new(client), "vipservice.1", &mut registry);
    let (rules, settings) = (settings.offer.clone().into(), settings.consumer.clone().into());
    Arc::new(Consumer::new(&settings, &rules, offers, &mut registry))
}

/// What becomes of a message, when the broker takes everything.
async fn outcome(message: Message) -> Outcome {
    let mut client = MockMessagingClient::new();
    client.expect_append().returning(|_, _| Ok(()));
    consumer(&Settings::default(), client).on_message(Delivery::new(message, false)).await
}

#[tokio::test]
async fn a_notification_becomes_an_offer_with_its_id_and_its_request() {
    let (message, appended) = (notification(), Arc::new(Mutex::new(vec![])));
    let mut client = MockMessagingClient::new();
    let entries = Arc::clone(&appended);
    client.expect_append().times(1).returning(move |stream, entry| {
        entries.lock().unwrap().push((stream.to_owned(), entry));
        Ok(())
    });
    let consumer = consumer(&Settings::default(), client);
    assert_eq!(consumer.on_message(Delivery::new(message.clone(), false)).await, Outcome::Ack);

    let (stream, entry) = appended.lock().unwrap().remove(0);
    assert_eq!((stream.as_str(), &entry.id), ("offers", &message.id));
    assert_eq!(entry.correlation_id.as_deref(), Some("7f3a"));
    let offer: Value = serde_json::from_slice(&entry.body).unwrap();
    assert_eq!(offer["id"], message.id.as_deref().unwrap());
    assert_eq!((&offer["accountId"], &offer["requestId"]), (&"10000".into(), &"7f3a".into()));
    assert_eq!(
        (&offer["madeBy"], &offer["readAt"]),
        (&"vipservice.1".into(), &"2026-11-20T06:27:33.757Z".into())
    );
    assert_eq!(offer["validUntil"], "2026-11-27T06:27:33.757Z");
}

#[tokio::test]
async fn a_message_nobody_can_ever_read_is_a_dead_letter_with_its_reason() {
    for (message, reason) in [
        (Message { id: None, ..notification() }, "no message_id"),
        (Message { id: Some(String::new()), ..notification() }, "no message_id"),
        (Message { content_type: None, ..notification() }, "content type is none"),
        (Message { content_type: Some("text/plain".into()), ..notification() }, "content type is text/plain"),
        (Message { kind: Some("vip.birthday.v1".into()), ..notification() }, "type is vip.birthday.v1"),
        (Message { kind: Some("hello".into()), ..notification() }, "type is hello"),
        (with_body(""), "not a notification"),
        (with_body("{"), "not a notification"),
        (with_body("[]"), "not a notification"),
        (with_body(r#"{"readAt":"2026-11-20T06:27:33.757Z"}"#), "missing field `accountId`"),
        (with_body(r#"{"accountId":"10000"}"#), "missing field `readAt`"),
        (with_body(r#"{"accountId":10000,"readAt":"2026-11-20T06:27:33.757Z"}"#), "invalid type"),
        (
            with_body(r#"{"accountId":"10000","readAt":"2017-02-15 20:06:27.033757223 +0000 UTC"}"#),
            "not a notification",
        ),
        (with_body(r#"{"accountId":"","readAt":"2026-11-20T06:27:33.757Z"}"#), "accountId is empty"),
        (with_body(&" ".repeat(65_537)), "65536 are allowed"),
        (Message { body: vec![0xff, 0xfe].into(), ..notification() }, "not a notification"),
    ] {
        match outcome(message).await {
            Outcome::DeadLetter(why) => assert!(why.contains(reason), "{reason}: {why}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_newer_minor_version_adds_passes() {
    let newer = r#"{"accountId":"10000","readAt":"2026-11-20T06:27:33.757Z","channel":"web"}"#;
    assert_eq!(outcome(with_body(newer)).await, Outcome::Ack);
    for kind in [None, Some("vip.notification.v1"), Some("vip.notification.v1.7")] {
        let message = Message { kind: kind.map(str::to_owned), ..notification() };
        assert_eq!(outcome(message).await, Outcome::Ack, "{kind:?}");
    }
    let charset = Message { content_type: Some("application/json; charset=utf-8".into()), ..notification() };
    assert_eq!(outcome(charset).await, Outcome::Ack);
}

#[tokio::test]
async fn a_newer_major_version_waits_for_a_newer_replica() {
    for kind in ["vip.notification.v2", "vip.notification.v2.1", "vip.notification.v0"] {
        let message = Message { kind: Some(kind.into()), ..notification() };
        assert!(matches!(outcome(message).await, Outcome::Retry(why) if why.contains(kind)), "{kind}");
    }
}

#[tokio::test]
async fn a_no_of_the_rule_is_acked_and_counted_and_nothing_is_appended() {
    let mut client = MockMessagingClient::new();
    client.expect_append().never();
    let hours: offer::Hours = "9-17".parse().unwrap();
    let offer = offer::Settings { offer_hours: hours.into(), ..offer::Settings::default() };
    let settings = Settings { offer, ..Settings::default() };
    let consumer = consumer(&settings, client);
    assert_eq!(Arc::clone(&consumer).on_message(Delivery::new(notification(), false)).await, Outcome::Ack);
    assert_eq!(consumer.declined.get(), 1);
}

#[tokio::test]
async fn an_offer_that_replicas_would_skip_is_not_appended_and_its_message_is_a_dead_letter() {
    let for_account = |length: usize| {
        let account = "x".repeat(length);
        with_body(&format!(r#"{{"accountId":"{account}","readAt":"2026-11-20T06:27:33.757Z"}}"#))
    };
    let mut settings = Settings::default();
    settings.consumer.notification_limit = (1024 * 1024).into();
    settings.offer.offer_text = "\u{1}".repeat(4096).into();
    let mut client = MockMessagingClient::new();
    client.expect_append().times(1).returning(|_, _| Ok(()));
    let consumer = consumer(&settings, client);
    let handle = |message| Arc::clone(&consumer).on_message(Delivery::new(message, false));
    // All that the default limit lets in, and the longest text.
    assert_eq!(handle(for_account(64 * 1024)).await, Outcome::Ack);
    let Outcome::DeadLetter(why) = handle(for_account(128 * 1024)).await else { panic!("it is appended") };
    assert!(why.contains("at most 131072 are appended"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_fails_is_published_again_and_is_no_failure_of_the_message() {
    let mut client = MockMessagingClient::new();
    let mut tries = 0;
    client.expect_append().times(5).returning(move |_, _| {
        tries += 1;
        match tries {
            1 => Err(PublishError::Unconfirmed("cut".into())),
            2 => Err(PublishError::Nacked),
            3 | 4 => Err(PublishError::Unroutable("312".into())),
            _ => Ok(()),
        }
    });
    let consumer = consumer(&Settings::default(), client);
    assert_eq!(consumer.on_message(Delivery::new(notification(), false)).await, Outcome::Ack);
}
