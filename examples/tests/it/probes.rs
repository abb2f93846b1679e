//! Probes of rules that affect a pattern and differ among brokers. Each returns the behavior that it observed.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use crate::{kit::Place, patterns::tests};

tests! {
    priorities_of_a_quorum_queue_are_known: quorum_priorities,
    deliveries_of_a_message_that_always_fails_are_known: always_failing,
    what_becomes_of_a_mandatory_reply_is_known: mandatory_reply,
}

async fn quorum_queue(channel: &Channel) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare("q".into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
}

/// Publishes a mandatory message, and returns true if the broker returns it.
async fn is_returned(channel: &Channel, key: &str, body: &[u8], properties: BasicProperties) -> bool {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let confirm = channel.basic_publish("".into(), key.into(), options, body, properties).await.unwrap();
    confirm.await.unwrap().take_message().is_some()
}

pub(crate) async fn quorum_priorities() -> String {
    let place = Place::new().await;
    let (_connection, channel) = place.vhost.channel().await;
    quorum_queue(&channel).await;
    for priority in [1, 8, 9] {
        let properties = BasicProperties::default().with_priority(priority);
        assert!(!is_returned(&channel, "q", &[priority], properties).await);
    }
    let get = channel.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap();
    match get.unwrap().delivery.data[..] {
        [9] => "more than two, strict",
        [8] => "two, normal and high",
        _ => "none",
    }
    .into()
}

pub(crate) async fn always_failing() -> String {
    let place = Place::new().await;
    let (_connection, channel) = place.vhost.channel().await;
    quorum_queue(&channel).await;
    assert!(!is_returned(&channel, "q", b"poison", BasicProperties::default()).await);
    for deliveries in 0..50 {
        // A message that waits in a queue is not always available at once.
        let get = async || channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap();
        let Some(message) = get().await else {
            let is_gone = place.vhost.ready("q").await == Some(0);
            assert!(is_gone, "it waits and is not delivered");
            return format!("dropped after {deliveries}");
        };
        message.reject(BasicRejectOptions { requeue: true }).await.unwrap();
    }
    "never dropped".into()
}

pub(crate) async fn mandatory_reply() -> String {
    const REPLY_TO: &str = "amq.rabbitmq.reply-to";
    let place = Place::new().await;
    let (_connection, channel) = place.vhost.channel().await;
    quorum_queue(&channel).await;
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consume = channel.basic_consume(REPLY_TO.into(), "".into(), no_ack, FieldTable::default());
    let mut replies = consume.await.unwrap();
    let asks = BasicProperties::default().with_reply_to(REPLY_TO.into());
    assert!(!is_returned(&channel, "q", b"question", asks).await);

    let (_connection, server) = place.vhost.channel().await;
    server.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let question = server.basic_get("q".into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let reply_to = question.properties.reply_to().clone().unwrap();
    let is_returned = is_returned(&server, reply_to.as_str(), b"reply", BasicProperties::default()).await;
    let is_delivered = timeout(Duration::from_secs(10), replies.next()).await.is_ok();
    match (is_delivered, is_returned) {
        (true, true) => "delivered, and returned",
        (true, false) => "delivered",
        (false, _) => "not delivered",
    }
    .into()
}
