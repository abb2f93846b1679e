//! Published messages are delivered unchanged.

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame},
    protocol::{BasicProperties, basic},
};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};

use crate::kit::{Client, get, header, publish, table, text, with_headers};

#[tokio::test]
async fn every_property_comes_through() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_headers(table([("key", text("value"))]))
        .with_delivery_mode(2)
        .with_priority(9)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_message_id("message".into())
        .with_timestamp(1_700_000_000)
        .with_type("type".into())
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into())
        .with_expiration("100000".into());
    client.publish("", "q", "body", properties.clone()).await;
    let delivery = client.until_get("q").await;
    assert_eq!(delivery.properties, properties);
    assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "q"));
    assert!(!delivery.redelivered);
}

#[tokio::test]
async fn no_property_comes_through_as_none() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        client.send(queue_type, "body").await;
        let properties = client.until_get(queue_type).await.properties;
        let key = format!("headers of a first get from a {queue_type} queue");
        client.answers(&key, properties.headers(), None::<FieldTable>);
        assert_eq!(properties.with_headers(FieldTable::default()), with_headers([]), "{queue_type}");
    }
}

#[tokio::test]
async fn every_type_of_header_comes_through() {
    let client = Client::new().await;
    let nested = table([("deep", AMQPValue::FieldTable(table([("er", AMQPValue::LongInt(1))])))]);
    let array = FieldArray::from(vec![AMQPValue::LongInt(1), text("two"), AMQPValue::Void]);
    let values = [
        ("bool", AMQPValue::Boolean(true)),
        ("i8", AMQPValue::ShortShortInt(-8)),
        ("u8", AMQPValue::ShortShortUInt(200)),
        ("i16", AMQPValue::ShortInt(-16_000)),
        ("u16", AMQPValue::ShortUInt(60_000)),
        ("i32", AMQPValue::LongInt(-2_000_000_000)),
        ("u32", AMQPValue::LongUInt(4_000_000_000)),
        ("i64", AMQPValue::LongLongInt(i64::MIN)),
        ("f32", AMQPValue::Float(1.5)),
        ("f64", AMQPValue::Double(-2.5e300)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 })),
        ("text", text("ü ✓")),
        ("empty", text("")),
        ("array", AMQPValue::FieldArray(array)),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("table", AMQPValue::FieldTable(nested)),
        ("bytes", AMQPValue::ByteArray(vec![0, 255, 0xCE].into())),
        ("void", AMQPValue::Void),
    ];
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        client.publish("", queue_type, "body", with_headers(values.clone())).await;
        let delivery = client.until_get(queue_type).await;
        for (name, value) in &values {
            assert_eq!(header(&delivery, name).as_ref(), Some(value), "{name} in a {queue_type} queue");
        }
    }
}

#[tokio::test]
async fn bodies_of_every_size_come_through() {
    let client = Client::new().await;
    client.queue("q", []).await;
    // One frame holds 131,064 bytes of a body.
    for size in [0, 1, 131_063, 131_064, 131_065, 300_000, 3_000_000] {
        let body = "0123456789".repeat(size / 10) + &"x".repeat(size % 10);
        client.send("q", &body).await;
        assert!(client.until_get("q").await.data == body.as_bytes(), "{size} bytes");
    }
}

#[tokio::test]
async fn a_body_may_come_in_any_pieces() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    wire.send(1, publish("", "q")).await;
    wire.header(BasicProperties::default(), 7).await;
    for piece in ["a", "", "bcd", "efg"] {
        wire.frame(AMQPFrame::Body(1, piece.into())).await;
    }
    assert_eq!(wire.barrier().await, "nothing");
    assert_eq!(client.until_drained("q", 1).await, ["abcdefg"]);
}

#[tokio::test]
async fn two_channels_contents_may_come_in_turns() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    wire.open_channel(2).await;
    wire.send(1, publish("", "q")).await;
    wire.header(BasicProperties::default(), 3).await;
    wire.send(2, publish("", "q")).await;
    wire.frame(AMQPFrame::Body(1, b"on".to_vec())).await;
    let header = AMQPContentHeader { class_id: 60, body_size: 3, properties: BasicProperties::default() };
    wire.frame(AMQPFrame::Header(2, header)).await;
    wire.frame(AMQPFrame::Body(2, b"two".to_vec())).await;
    wire.frame(AMQPFrame::Body(1, b"e".to_vec())).await;
    assert_eq!(wire.barrier().await, "nothing");
    let mut bodies = client.until_drained("q", 2).await;
    bodies.sort();
    assert_eq!(bodies, ["one", "two"]);
}

#[tokio::test]
async fn a_body_longer_than_announced_is_refused() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    wire.send(1, publish("", "q")).await;
    wire.header(BasicProperties::default(), 3).await;
    wire.frame(AMQPFrame::Body(1, b"four".to_vec())).await;
    let reference = "connection 501 FRAME_ERROR - content body frame exceeds remaining content size (60, 40)";
    let answer = wire.barrier().await;
    client.answers("a body longer than announced", answer, reference);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    const LARGEST: usize = 16 * 1024 * 1024;
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    let mut answers = vec![];
    for size in [LARGEST, LARGEST + 1] {
        wire.send(1, publish("", "q")).await;
        wire.header(BasicProperties::default(), size).await;
        let body = vec![b'x'; size];
        for piece in body.chunks(131_064) {
            wire.frame(AMQPFrame::Body(1, piece.to_vec())).await;
        }
        answers.push(wire.barrier().await);
    }
    let refused = "channel 406 PRECONDITION_FAILED - message size 16777217 is larger than configured \
        max size 16777216 (60, 40)";
    client.answers("bodies of 16 MiB and one byte more", answers, ["nothing", refused]);
}

#[tokio::test]
async fn a_message_may_not_lie_about_its_user() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    wire.publish(publish("", "q"), BasicProperties::default().with_user_id("root".into()), b"").await;
    let answer = wire.barrier().await;
    let reference = "channel 406 PRECONDITION_FAILED - user_id property set to 'root' but authenticated \
        user was 'guest' (60, 40)";
    client.answers("another's user-id", answer, reference);
}

#[tokio::test]
async fn a_get_tells_how_many_are_left() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for n in 0..3 {
        client.send("q", &n.to_string()).await;
    }
    for left in [2, 1, 0] {
        assert_eq!(client.get("q").await.unwrap().message_count, left);
    }
    assert!(client.get("q").await.is_none());
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(get("q")).await, "basic.get-empty");
}

#[tokio::test]
async fn a_get_without_ack_takes_it_for_good() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(basic::Get { queue: "q".into(), no_ack: true }).await, "basic.get-ok");
    wire.content().await;
    let ack = basic::Ack { delivery_tag: 1, multiple: false };
    let unknown = "channel 406 PRECONDITION_FAILED - unknown delivery tag 1 (60, 80)";
    assert_eq!(wire.silent_outcome(ack).await, unknown);
    assert_eq!(client.counts("q").await, Some((0, 0)));
}
