//! Streams: read again and again, from any place.

use amq_protocol::protocol::{BasicProperties, basic};
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::AMQPValue,
};

use crate::kit::{Client, Subscription, body, consume, header, in_time, number, qos, table, text};

/// A stream `s` that holds "0", "1" and so on.
pub(crate) async fn stream_of(count: usize) -> Client {
    let client = Client::new().await;
    client.queue_of_type("stream", "s", []).await;
    for n in 0..count {
        client.send("s", &n.to_string()).await;
    }
    client
}

pub(crate) async fn read(client: &Client, from: AMQPValue) -> Subscription {
    let options = BasicConsumeOptions::default();
    client.consume_with("s", 100, options, [("x-stream-offset", from)]).await
}

pub(crate) fn offset(delivery: &Delivery) -> i64 {
    match header(delivery, "x-stream-offset") {
        Some(AMQPValue::LongLongInt(offset)) => offset,
        other => panic!("{other:?} is no offset"),
    }
}

#[tokio::test]
async fn a_stream_is_read_from_its_first_entry_by_any_number_of_readers() {
    let client = stream_of(5).await;
    for _ in 0..2 {
        let mut reader = read(&client, text("first")).await;
        for n in 0..5 {
            let delivery = reader.next().await;
            assert_eq!((body(&delivery), offset(&delivery)), (n.to_string(), n));
            assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "s"));
            assert!(!delivery.redelivered);
            in_time(delivery.ack(BasicAckOptions::default())).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_stream_is_read_from_an_offset() {
    let client = stream_of(5).await;
    for offset in [AMQPValue::LongLongInt(3), number(3), AMQPValue::ShortInt(3)] {
        assert_eq!(read(&client, offset).await.bodies(2).await, ["3", "4"]);
    }
}

#[tokio::test]
async fn next_is_what_comes_after_and_the_default() {
    let client = stream_of(3).await;
    let mut next = read(&client, text("next")).await;
    let mut default = client.consume("s", 10).await;
    client.send("s", "3").await;
    for reader in [&mut next, &mut default] {
        let delivery = reader.next().await;
        assert_eq!((body(&delivery), offset(&delivery)), ("3".into(), 3));
    }
}

#[tokio::test]
async fn last_reaches_the_last_entry() {
    let client = stream_of(5).await;
    // It begins at a chunk, which holds one entry or more.
    let mut reader = read(&client, text("last")).await;
    let first = reader.next().await;
    let mut at = offset(&first);
    while at < 4 {
        at = offset(&reader.next().await);
    }
    assert_eq!(at, 4);
}

#[tokio::test]
async fn a_stream_is_read_from_a_time() {
    let client = stream_of(3).await;
    let mut answers = vec![];
    for from in [AMQPValue::Timestamp(1_700_000_000), text("1h")] {
        let mut wire = client.wire().await;
        assert_eq!(wire.outcome(qos(10)).await, "basic.qos-ok");
        let arguments = table([("x-stream-offset", from)]);
        answers.push(wire.outcome(basic::Consume { arguments, ..consume("s", "") }).await);
        if answers.last().is_some_and(|answer| answer == "basic.consume-ok") {
            assert_eq!(wire.answer().await, "basic.deliver");
        }
    }
    client.answers("stream offsets that are times", answers, ["basic.consume-ok", "basic.consume-ok"]);
}

#[tokio::test]
async fn beyond_the_end_there_is_nothing_until_it_is_reached() {
    let client = stream_of(3).await;
    let mut reader = read(&client, AMQPValue::LongLongInt(5)).await;
    for n in 3..7 {
        client.send("s", &n.to_string()).await;
    }
    let delivery = reader.next().await;
    client.answers("read from beyond the end", (body(&delivery), offset(&delivery)), ("5", 5));
}

#[tokio::test]
async fn an_offset_that_is_none_is_refused() {
    let client = stream_of(1).await;
    let mut rows = vec![];
    for (from, reference) in [
        (
            text("middle"),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 's' in vhost 'VHOST': \
                {invalid_stream_offset_arg,{longstr,<<\"middle\">>}} (60, 20)",
        ),
        (number(-1), "basic.consume-ok"),
        (AMQPValue::Boolean(true), "connection 541 INTERNAL_ERROR (0, 0)"),
    ] {
        let mut wire = client.wire().await;
        assert_eq!(wire.outcome(qos(10)).await, "basic.qos-ok");
        let key = format!("stream offset {from:?}");
        let arguments = table([("x-stream-offset", from)]);
        rows.push((key, wire.outcome(basic::Consume { arguments, ..consume("s", "") }).await, reference));
    }
    client.place.all_answer(rows);
}

#[tokio::test]
async fn prefetch_bounds_a_reader() {
    let client = stream_of(10).await;
    let options = BasicConsumeOptions::default();
    let mut reader = client.consume_with("s", 3, options, [("x-stream-offset", text("first"))]).await;
    reader.bodies(2).await;
    let third = reader.next().await;
    assert!(reader.is_silent().await, "a fourth is in hand");
    in_time(third.ack(BasicAckOptions { multiple: true })).await.unwrap();
    assert_eq!(reader.bodies(3).await, ["3", "4", "5"]);
}

#[tokio::test]
async fn a_stream_counts_what_it_holds() {
    let client = stream_of(3).await;
    // RabbitMQ's count lags behind.
    client.until_ready("s", 3).await;
    let mut reader = read(&client, text("first")).await;
    reader.bodies(3).await;
    let (ready, consumers) = client.counts("s").await.unwrap();
    assert_eq!(ready, 3, "reading takes nothing away");
    client.answers("readers of a stream, counted", consumers, 0);
}

#[tokio::test]
async fn a_stream_can_be_bound_like_any_queue() {
    let client = stream_of(0).await;
    client.bind("s", "amq.topic", "a.*", []).await;
    let properties = BasicProperties::default()
        .with_message_id("id".into())
        .with_correlation_id("correlation".into())
        .with_content_type("text/plain".into())
        .with_type("type".into())
        .with_app_id("app".into())
        .with_timestamp(1_700_000_000)
        .with_delivery_mode(2);
    client.publish("amq.topic", "a.b", "body", properties.clone()).await;
    let delivery = read(&client, text("first")).await.next().await;
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("amq.topic", "a.b"));
    assert_eq!(
        delivery.properties,
        properties.with_headers(table([("x-stream-offset", AMQPValue::LongLongInt(0))]))
    );
}
