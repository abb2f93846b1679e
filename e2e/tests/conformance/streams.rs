//! Streams: read again and again, from any place.

use amq_protocol::protocol::{BasicProperties, basic, queue};
use e2e::wait::until_true;
use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::{AMQPValue, DecimalValue},
};

use crate::kit::{
    Call as _, Client, LIMIT, Place, Subscription, Wire, body, consume, declare, get, header, in_time,
    number, publish, qos, table, text, with_headers,
};

/// A stream `s` that holds "0", "1" and so on.
async fn stream_of(count: usize) -> Client {
    let client = Client::new().await;
    client.queue_of_type("stream", "s", []).await;
    for n in 0..count {
        client.send("s", &n.to_string()).await;
    }
    client
}

async fn read(client: &Client, from: AMQPValue) -> Subscription {
    let options = BasicConsumeOptions::default();
    client.consume_with("s", 100, options, [("x-stream-offset", from)]).await
}

fn offset(delivery: &Delivery) -> i64 {
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
        (text("middle"), "connection 541 INTERNAL_ERROR (0, 0)"),
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
async fn what_a_stream_cannot_do_is_refused() {
    let client = stream_of(1).await;
    let mut wire = client.wire().await;
    let purge = queue::Purge { queue: "s".into(), ..Default::default() };
    let no_ack = basic::Consume { no_ack: true, ..consume("s", "") };
    let exclusive = basic::Consume { exclusive: true, ..consume("s", "") };
    let if_empty = queue::Delete { queue: "s".into(), if_empty: true, ..Default::default() };
    wire.outcomes([
        ("stream: consume without prefetch", consume("s", "").class(), "channel 406 PRECONDITION_FAILED - consumer prefetch count is not set for stream queue 's' in vhost 'VHOST' (60, 20)"),
        ("stream: get", get("s").class(), "connection 540 NOT_IMPLEMENTED - basic.get not supported by stream queues queue 's' in vhost 'VHOST' (60, 70)"),
        ("stream: purge", purge.class(), "connection 540 NOT_IMPLEMENTED - queue.purge not supported by stream queues queue 's' in vhost 'VHOST' (50, 30)"),
        ("stream: qos", qos(10).class(), "basic.qos-ok"),
        ("stream: consume without acks", no_ack.class(), "connection 540 NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queue 's' in vhost 'VHOST' (60, 20)"),
        ("stream: qos again", qos(10).class(), "basic.qos-ok"),
        ("stream: consume as the only one", exclusive.class(), "basic.consume-ok"),
        ("stream: delete if empty", if_empty.class(), "queue.delete-ok"),
    ])
    .await;
}

#[tokio::test]
async fn a_stream_is_durable_and_shared() {
    let mut wire = Wire::open(&Place::new().await).await;
    let with = |change: fn(&mut queue::Declare)| {
        let mut declare = declare("s", [("x-queue-type", text("stream"))]);
        change(&mut declare);
        declare.class()
    };
    wire.outcomes([
        ("stream, transient", with(|q| q.durable = false), "channel 406 PRECONDITION_FAILED - invalid property 'non-durable' for queue 's' in vhost 'VHOST' (50, 10)"),
        ("stream, exclusive", with(|q| q.exclusive = true), "channel 406 PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 's' in vhost 'VHOST' (50, 10)"),
        ("stream, auto-delete", with(|q| q.auto_delete = true), "channel 406 PRECONDITION_FAILED - invalid property 'auto-delete' for queue 's' in vhost 'VHOST' (50, 10)"),
        ("stream, server-named", with(|q| q.queue = "".into()), "channel 406 PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_stream_queue (50, 10)"),
    ])
    .await;
}

#[tokio::test]
async fn arguments_of_streams_are_checked() {
    let mut wire = Wire::open(&Place::new().await).await;
    let mut rows = vec![];
    let table: [(&str, AMQPValue, &str); 10] = [
        ("x-max-length-bytes", number(1_000_000), "queue.declare-ok"),
        ("x-max-age", text("1D"), "queue.declare-ok"),
        ("x-max-age", text("soon"), "connection 541 INTERNAL_ERROR (0, 0)"),
        (
            "x-max-age",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in vhost 'VHOST': {unacceptable_type,signedint} (50, 10)",
        ),
        ("x-stream-max-segment-size-bytes", number(1_000_000), "queue.declare-ok"),
        (
            "x-max-length",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q' in vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-message-ttl",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-dead-letter-exchange",
            text(""),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-dead-letter-exchange' for queue 'q' in vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-delivery-limit",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q' in vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-single-active-consumer",
            AMQPValue::Boolean(true),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue 'q' in vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
    ];
    for (n, (argument, value, reference)) in table.into_iter().enumerate() {
        let (name, key) = (format!("q{n}"), format!("stream with {argument} {value:?}"));
        let found = wire.outcome(declare(&name, [("x-queue-type", text("stream")), (argument, value)])).await;
        rows.push((key, found.replace(&name, "q"), reference));
    }
    wire.place().all_answer(rows);
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
async fn nothing_goes_back_into_a_stream() {
    let client = stream_of(3).await;
    let settlements = [
        ("nack", basic::Nack { delivery_tag: 1, multiple: false, requeue: false }.class()),
        ("requeue", basic::Nack { delivery_tag: 1, multiple: false, requeue: true }.class()),
        ("reject", basic::Reject { delivery_tag: 1, requeue: false }.class()),
    ];
    let mut rows = vec![];
    for (key, settlement) in settlements {
        let mut wire = client.wire().await;
        assert_eq!(wire.outcome(qos(1)).await, "basic.qos-ok");
        let arguments = table([("x-stream-offset", text("first"))]);
        let consume = basic::Consume { arguments, ..consume("s", "") };
        assert_eq!(wire.outcome(consume).await, "basic.consume-ok");
        assert_eq!(wire.answer().await, "basic.deliver");
        assert_eq!(wire.content().await.1, b"0");
        wire.send(1, settlement).await;
        let mut answer = wire.answer().await;
        if answer == "basic.deliver" {
            answer = String::from_utf8(wire.content().await.1).unwrap();
        }
        rows.push((format!("stream: {key}"), answer, "1"));
    }
    client.place.all_answer(rows);
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
async fn the_oldest_entries_go_when_a_stream_is_too_large() {
    let client = Client::new().await;
    let arguments =
        [("x-max-length-bytes", number(100_000)), ("x-stream-max-segment-size-bytes", number(50_000))];
    client.queue_of_type("stream", "s", arguments).await;
    for n in 0..60 {
        client.send("s", &format!("{n:>10000}")).await;
    }
    until_true("the oldest are gone", LIMIT, async || {
        offset(&read(&client, text("first")).await.next().await) > 0
    })
    .await;

    // What is left is the end without a gap. Offsets only grow: RabbitMQ uses one for itself at each segment's begin.
    let mut reader = read(&client, text("first")).await;
    let first = reader.next().await;
    let (mut at, mut last_offset): (u32, _) = (body(&first).trim().parse().unwrap(), offset(&first));
    assert!(at >= 30, "{at} is still there");
    while at < 59 {
        let next = reader.next().await;
        assert_eq!(body(&next).trim(), (at + 1).to_string());
        assert!(offset(&next) > last_offset);
        (at, last_offset) = (at + 1, offset(&next));
    }
    // Who asks for what has gone gets what is there.
    let again = read(&client, AMQPValue::LongLongInt(1)).await.next().await;
    assert_eq!(offset(&again), offset(&first));
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

#[tokio::test]
async fn a_message_without_delivery_mode_comes_out_of_a_stream() {
    let client = stream_of(1).await;
    let delivery = read(&client, text("first")).await.next().await;
    client.answers("delivery mode out of a stream", delivery.properties.delivery_mode(), Some(1));
}

/// What a header's value is when it comes out again, or how it is refused.
#[tokio::test]
async fn headers_come_out_of_a_stream() {
    let client = stream_of(0).await;
    let array = AMQPValue::FieldArray(vec![number(1), text("two")].into());
    let rows: [(&str, AMQPValue, &str); 14] = [
        ("bool", AMQPValue::Boolean(true), "the same"),
        ("i8", AMQPValue::ShortShortInt(-8), "the same"),
        ("u8", AMQPValue::ShortShortUInt(200), "the same"),
        ("i16", AMQPValue::ShortInt(-16_000), "the same"),
        ("u16", AMQPValue::ShortUInt(60_000), "the same"),
        ("i32", number(-5), "the same"),
        ("u32", AMQPValue::LongUInt(4_000_000_000), "the same"),
        ("i64", AMQPValue::LongLongInt(i64::MIN), "the same"),
        ("f64", AMQPValue::Double(-2.5e300), "the same"),
        ("text", text("ü ✓"), "the same"),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000), "the same"),
        ("array", array, "None"),
        ("table", AMQPValue::FieldTable(table([("deep", number(1))])), "None"),
        (
            "decimal",
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 }),
            "connection 541 INTERNAL_ERROR (0, 0)",
        ),
    ];
    let mut reader = read(&client, text("first")).await;
    let mut wire = client.wire().await;
    let mut found = vec![];
    for (name, value, reference) in rows {
        wire.publish(publish("", "s"), with_headers([("h", value.clone())]), b"").await;
        let mut answer = wire.barrier().await;
        if answer == "nothing" {
            let out = header(&reader.next().await, "h");
            answer = if out.as_ref() == Some(&value) { "the same".into() } else { format!("{out:?}") };
        }
        found.push((format!("stream header {name}"), answer, reference));
    }
    client.place.all_answer(found);
}
