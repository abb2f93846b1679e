//! The firehose: events of messages on the exchange `amq.rabbitmq.trace`, while an operator has switched it on.

use std::collections::BTreeSet;

use amq_protocol::protocol::exchange;
use lapin::{
    BasicProperties, ExchangeKind,
    message::Delivery,
    options::{BasicAckOptions, BasicRejectOptions},
    types::AMQPValue,
};

use crate::kit::{
    Call as _, Client, Place, Wire, body, declare_exchange, header, in_time, number, publish, table, text,
};

const TRACE: &str = "amq.rabbitmq.trace";

/// A client with a queue `q`, and a queue `events` for the events that match a pattern.
async fn traced(pattern: &str) -> Client {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.queue("events", []).await;
    client.bind("events", TRACE, pattern, []).await;
    client.place.vhost.trace(true).await;
    client
}

/// Takes the next event, which has this routing key.
async fn event(client: &Client, key: &str) -> Delivery {
    let event = client.until_get("events").await;
    in_time(event.acker.ack(BasicAckOptions::default())).await.unwrap();
    assert_eq!((event.exchange.as_str(), event.routing_key.as_str()), (TRACE, key));
    event
}

/// Asserts that no event is left. The channel that asks is the one on which all others have come about.
async fn assert_no_event(client: &Client) {
    assert_eq!(client.drain("events").await, [""; 0]);
}

fn array<const N: usize>(texts: [&str; N]) -> AMQPValue {
    AMQPValue::FieldArray(texts.map(text).to_vec().into())
}

#[tokio::test]
async fn a_published_message_is_an_event_with_its_exchange_its_keys_and_its_properties() {
    let client = traced("publish.#").await;
    client.exchange("e", ExchangeKind::Topic, []).await;
    client.bind("q", "e", "a.*", []).await;
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_headers(table([("h", text("v"))]))
        .with_delivery_mode(2)
        .with_priority(3)
        .with_message_id("m".into())
        .with_type("t".into());
    client.publish("e", "a.b", "hello", properties).await;

    let published = event(&client, "publish.e").await;
    assert_eq!(body(&published), "hello");
    let names: BTreeSet<_> = published.properties.headers().as_ref().unwrap().inner().keys().collect();
    let names: Vec<_> = names.into_iter().map(|name| name.as_str()).collect();
    let expected = [
        "channel",
        "connection",
        "exchange_name",
        "node",
        "properties",
        "routed_queues",
        "routing_keys",
        "user",
        "vhost",
    ];
    assert_eq!(names, expected);
    let properties = AMQPValue::FieldTable(table([
        ("content_type", text("text/plain")),
        ("headers", AMQPValue::FieldTable(table([("h", text("v"))]))),
        ("delivery_mode", number(2)),
        ("priority", number(3)),
        ("message_id", text("m")),
        ("type", text("t")),
    ]));
    for (name, expected) in [
        ("exchange_name", text("e")),
        ("routing_keys", array(["a.b"])),
        ("properties", properties),
        ("vhost", text(client.place.vhost.name())),
        ("channel", number(1)),
        ("user", text("guest")),
        ("routed_queues", array(["q"])),
    ] {
        assert_eq!(header(&published, name), Some(expected), "{name}");
    }
    let only_headers =
        BasicProperties::default().with_headers(published.properties.headers().clone().unwrap());
    assert_eq!(published.properties, only_headers);
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_an_event_too() {
    let client = traced("#").await;
    client.exchange("e", ExchangeKind::Topic, []).await;
    // Through the default exchange it is routed to a name, which is that of no queue.
    for (exchange, routed) in [("e", array([])), ("", array(["nowhere"]))] {
        client.try_publish(exchange, "nowhere", "lost", BasicProperties::default()).await;
        let published = event(&client, &format!("publish.{exchange}")).await;
        assert_eq!(header(&published, "exchange_name"), Some(text(exchange)));
        assert_eq!(header(&published, "routing_keys"), Some(array(["nowhere"])));
        assert_eq!(header(&published, "routed_queues"), Some(routed));
    }
    assert_no_event(&client).await;
}

#[tokio::test]
async fn each_delivery_is_an_event_and_says_whether_it_is_one_again() {
    let client = traced("deliver.*").await;
    client.send("q", "hello").await;
    for redelivered in [0, 1] {
        let got = client.until_get("q").await;
        let delivered = event(&client, "deliver.q").await;
        assert_eq!(body(&delivered), "hello");
        for (name, expected) in [
            ("exchange_name", text("")),
            ("routing_keys", array(["q"])),
            ("redelivered", number(redelivered)),
        ] {
            assert_eq!(header(&delivered, name), Some(expected), "{name}");
        }
        assert_eq!(header(&delivered, "routed_queues"), None);
        in_time(got.acker.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    let mut consumer = client.consume("q", 1).await;
    assert_eq!(consumer.bodies(1).await, ["hello"]);
    assert_eq!(header(&event(&client, "deliver.q").await, "redelivered"), Some(number(1)));
    assert_no_event(&client).await;
}

#[tokio::test]
async fn the_firehose_is_of_one_vhost_does_not_trace_itself_and_can_be_switched_off() {
    let client = traced("#").await;
    let elsewhere = Client::new().await;
    elsewhere.queue("q", []).await;
    elsewhere.queue("events", []).await;
    elsewhere.bind("events", TRACE, "#", []).await;
    elsewhere.send("q", "elsewhere").await;
    assert_no_event(&elsewhere).await;

    client.send("q", "here").await;
    event(&client, "publish.").await;
    assert_no_event(&client).await;
    client.place.vhost.trace(false).await;
    client.send("q", "afterwards").await;
    assert_no_event(&client).await;
}

#[tokio::test]
async fn the_exchange_of_the_firehose_is_internal() {
    let mut wire = Wire::open(&Place::new().await).await;
    let declare = declare_exchange(TRACE, "topic", []);
    wire.outcomes([
        (
            "declare amq.rabbitmq.trace passive",
            exchange::Declare { passive: true, ..declare.clone() }.class(),
            "exchange.declare-ok",
        ),
        (
            "declare amq.rabbitmq.trace internal",
            exchange::Declare { internal: true, ..declare.clone() }.class(),
            "exchange.declare-ok",
        ),
        (
            "declare amq.rabbitmq.trace for clients",
            declare.class(),
            "channel 406 PRECONDITION_FAILED - inequivalent arg 'internal' for exchange \
                'amq.rabbitmq.trace' in vhost 'VHOST': received 'false' but current is 'true' (40, 10)",
        ),
    ])
    .await;
    wire.publish(publish(TRACE, "key"), BasicProperties::default(), b"").await;
    assert_eq!(
        wire.answer().await,
        "channel 403 ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost 'VHOST' (60, 40)"
    );
}
