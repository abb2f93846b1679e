//! Operations that a stream refuses, and its retention. Reading is in `streams`.

use amq_protocol::protocol::{basic, queue};
use e2e::wait::until_true;
use lapin::types::{AMQPValue, DecimalValue};

use crate::{
    kit::{
        Call as _, Client, LIMIT, Place, Wire, body, consume, declare, get, header, number, publish, qos,
        table, text, with_headers,
    },
    streams::{offset, read, stream_of},
};

#[tokio::test]
async fn what_a_stream_cannot_do_is_refused() {
    let client = stream_of(1).await;
    let mut wire = client.wire().await;
    let purge = queue::Purge { queue: "s".into(), ..Default::default() };
    let no_ack = basic::Consume { no_ack: true, ..consume("s", "") };
    let exclusive = basic::Consume { exclusive: true, ..consume("s", "") };
    let if_empty = queue::Delete { queue: "s".into(), if_empty: true, ..Default::default() };
    wire.outcomes([
        (
            "stream: consume without prefetch",
            consume("s", "").class(),
            "channel 406 PRECONDITION_FAILED \
            - consumer prefetch count is not set for stream queue 's' in vhost 'VHOST' (60, 20)",
        ),
        (
            "stream: get",
            get("s").class(),
            "connection 540 NOT_IMPLEMENTED - basic.get not supported by \
            stream queues queue 's' in vhost 'VHOST' (60, 70)",
        ),
        (
            "stream: purge",
            purge.class(),
            "connection 540 NOT_IMPLEMENTED - queue.purge not supported by \
            stream queues queue 's' in vhost 'VHOST' (50, 30)",
        ),
        ("stream: qos", qos(10).class(), "basic.qos-ok"),
        (
            "stream: consume without acks",
            no_ack.class(),
            "connection 540 NOT_IMPLEMENTED - automatic \
            acknowledgement not supported by stream queue 's' in vhost 'VHOST' (60, 20)",
        ),
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
        (
            "stream, transient",
            with(|q| q.durable = false),
            "channel 406 PRECONDITION_FAILED - invalid \
            property 'non-durable' for queue 's' in vhost 'VHOST' (50, 10)",
        ),
        (
            "stream, exclusive",
            with(|q| q.exclusive = true),
            "channel 406 PRECONDITION_FAILED - invalid \
            property 'exclusive-owner' for queue 's' in vhost 'VHOST' (50, 10)",
        ),
        (
            "stream, auto-delete",
            with(|q| q.auto_delete = true),
            "channel 406 PRECONDITION_FAILED - \
            invalid property 'auto-delete' for queue 's' in vhost 'VHOST' (50, 10)",
        ),
        (
            "stream, server-named",
            with(|q| q.queue = "".into()),
            "channel 406 PRECONDITION_FAILED - \
            Cannot declare a server-named queue for type rabbit_stream_queue (50, 10)",
        ),
    ])
    .await;
}

#[tokio::test]
async fn arguments_of_streams_are_checked() {
    let mut wire = Wire::open(&Place::new().await).await;
    let mut rows = vec![];
    let table: [(&str, AMQPValue, &str); 8] = [
        ("x-max-length-bytes", number(1_000_000), "queue.declare-ok"),
        (
            "x-max-age",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in vhost 'VHOST': \
                {unacceptable_type,signedint} (50, 10)",
        ),
        ("x-stream-max-segment-size-bytes", number(1_000_000), "queue.declare-ok"),
        (
            "x-max-length",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q' in vhost \
                'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-message-ttl",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost \
                'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-dead-letter-exchange",
            text(""),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-dead-letter-exchange' for queue 'q' in \
                vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-delivery-limit",
            number(1),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue 'q' in vhost \
                'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
        (
            "x-single-active-consumer",
            AMQPValue::Boolean(true),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue 'q' in \
                vhost 'VHOST' of queue type rabbit_stream_queue (50, 10)",
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
async fn a_stream_may_forget_what_is_old() {
    let mut wire = Wire::open(&Place::new().await).await;
    let with =
        |name, age| declare(name, [("x-queue-type", text("stream")), ("x-max-age", text(age))]).class();
    wire.outcomes([
        ("stream with x-max-age 1D", with("day", "1D"), "queue.declare-ok"),
        (
            "stream with x-max-age soon",
            with("soon", "soon"),
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'soon' in vhost 'VHOST': invalid_max_age (50, 10)",
        ),
    ])
    .await;
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
async fn a_message_without_delivery_mode_comes_out_of_a_stream() {
    let client = stream_of(1).await;
    let delivery = read(&client, text("first")).await.next().await;
    client.answers("delivery mode out of a stream", delivery.properties.delivery_mode(), Some(1));
}

/// Returns a header's value as it is delivered, or the error with which it is refused.
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
