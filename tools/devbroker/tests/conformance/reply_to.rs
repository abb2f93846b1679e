//! Requests and replies without a queue: `amq.rabbitmq.reply-to`.

use amq_protocol::protocol::basic;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::kit::{Client, body, consume, declare_passive, in_time, publish};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Somebody who asks: a channel and where its replies come.
async fn asking(client: &Client) -> (Channel, Consumer) {
    let channel = client.another_channel().await;
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let replies = channel.basic_consume(REPLY_TO.into(), "".into(), no_ack, FieldTable::default());
    let replies = in_time(replies).await.unwrap();
    (channel, replies)
}

async fn ask(channel: &Channel, body: &str) {
    let properties =
        BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id(body.into());
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    in_time(channel.basic_publish("".into(), "service".into(), options, body.as_bytes(), properties))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reply_reaches_who_asked() {
    let client = Client::new().await;
    client.queue("service", []).await;
    let (one, mut replies_to_one) = asking(&client).await;
    let (two, mut replies_to_two) = asking(&client).await;
    ask(&one, "first").await;
    ask(&two, "second").await;

    let service = client.another().await;
    for _ in 0..2 {
        let request = service.until_get("service").await;
        let reply_to = request.properties.reply_to().clone().unwrap();
        assert!(reply_to.as_str().starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
        let reply = format!("re: {}", body(&request));
        let properties = BasicProperties::default()
            .with_correlation_id(request.properties.correlation_id().clone().unwrap());
        let options = BasicPublishOptions::default();
        let published =
            service.channel.basic_publish("".into(), reply_to, options, reply.as_bytes(), properties);
        assert!(in_time(async { published.await?.await }).await.unwrap().is_ack());
    }
    for (replies, expected) in [(&mut replies_to_one, "first"), (&mut replies_to_two, "second")] {
        let reply = in_time(replies.next()).await.unwrap().unwrap();
        assert_eq!(body(&reply), format!("re: {expected}"));
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), expected);
        assert_eq!(reply.exchange.as_str(), "");
    }
}

#[tokio::test]
async fn a_mandatory_reply() {
    let client = Client::new().await;
    client.queue("service", []).await;
    let (one, mut replies) = asking(&client).await;
    ask(&one, "first").await;
    let request = client.until_get("service").await;
    let reply_to = request.properties.reply_to().clone().unwrap();
    let confirmation = client.try_publish("", reply_to.as_str(), "reply", BasicProperties::default()).await;
    assert_eq!(body(&in_time(replies.next()).await.unwrap().unwrap()), "reply");
    client.answers("a mandatory reply is returned", confirmation.take_message().is_some(), false);
}

#[tokio::test]
async fn a_reply_to_who_is_gone_is_lost() {
    let client = Client::new().await;
    client.queue("service", []).await;
    let (one, _replies) = asking(&client).await;
    ask(&one, "first").await;
    let request = client.until_get("service").await;
    let reply_to = request.properties.reply_to().clone().unwrap();
    in_time(one.close(200, "done".into())).await.unwrap();
    let confirmation = client.try_publish("", reply_to.as_str(), "late", BasicProperties::default()).await;
    let answer = (confirmation.is_ack(), confirmation.take_message().is_some());
    client.answers("a reply to a client that has gone is confirmed, and returned", answer, (true, false));
}

#[tokio::test]
async fn replies_are_consumed_without_acks_and_before_asking() {
    let client = Client::new().await;
    client.queue("service", []).await;
    let mut wire = client.wire().await;
    let no_ack = basic::Consume { no_ack: true, ..consume(REPLY_TO, "") };
    let mut answers = vec![wire.outcome(consume(REPLY_TO, "")).await];
    wire.publish(publish("", "service"), BasicProperties::default().with_reply_to(REPLY_TO.into()), b"")
        .await;
    answers.push(wire.barrier().await);
    answers.push(wire.outcome(no_ack.clone()).await);
    answers.push(wire.outcome(no_ack).await);
    let refusal = |text, method| format!("channel 406 PRECONDITION_FAILED - {text} (60, {method})");
    let reference = [
        refusal("reply consumer cannot acknowledge", 20),
        refusal("fast reply consumer does not exist", 40),
        "basic.consume-ok".into(),
        refusal("reply consumer already set", 20),
    ];
    assert_eq!(answers, reference);
}

#[tokio::test]
async fn who_answers_can_ask_whether_anybody_waits() {
    let client = Client::new().await;
    client.queue("service", []).await;
    let (one, _replies) = asking(&client).await;
    ask(&one, "first").await;
    let request = client.until_get("service").await;
    let reply_to = request.properties.reply_to().clone().unwrap();
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(declare_passive(reply_to.as_str())).await, "queue.declare-ok");
    in_time(one.close(200, "done".into())).await.unwrap();
    let gone = wire.outcome(declare_passive(reply_to.as_str())).await;
    assert!(gone.starts_with("channel 404 NOT_FOUND - no queue 'amq.rabbitmq.reply-to."), "{gone}");
    assert_eq!(wire.outcome(declare_passive(REPLY_TO)).await, "queue.declare-ok");
}

#[tokio::test]
async fn a_request_through_a_queue_of_ones_own() {
    let client = Client::new().await;
    client.queue("service", []).await;
    let channel = client.another_channel().await;
    let mine = channel.queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default());
    let mine = in_time(mine).await.unwrap();
    let properties = BasicProperties::default().with_reply_to(mine.name().clone());
    client.publish("", "service", "request", properties).await;
    let request = client.until_get("service").await;
    let reply_to = request.properties.reply_to().clone().unwrap();
    client.send(reply_to.as_str(), "reply").await;
    assert_eq!(client.drain(mine.name().as_str()).await, ["reply"]);
}
