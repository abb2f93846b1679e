//! When and how the broker says that it has a message, and that it does not.

use std::collections::BTreeSet;

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, confirm};
use lapin::ExchangeKind;

use crate::kit::{Client, Frame, Wire, number, publish, text};

async fn confirming(client: &Client) -> Wire {
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(confirm::Select { nowait: false }).await, "confirm.select-ok");
    wire
}

/// Reads confirms until every tag up to `count` has its own, whether alone or with others; those that were refused.
async fn confirmed(wire: &mut Wire, count: u64) -> BTreeSet<u64> {
    let (mut open, mut refused): (BTreeSet<u64>, _) = ((1..=count).collect(), BTreeSet::new());
    let mut settle = |tag: u64, multiple: bool, is_ack: bool| {
        let settled: Vec<_> =
            open.iter().copied().filter(|other| *other == tag || multiple && *other <= tag).collect();
        assert!(!settled.is_empty(), "{tag} is confirmed twice");
        for tag in settled {
            open.remove(&tag);
            if !is_ack {
                refused.insert(tag);
            }
        }
        open.is_empty()
    };
    loop {
        let is_done = match wire.next().await {
            Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => {
                settle(ack.delivery_tag, ack.multiple, true)
            }
            Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))) => {
                settle(nack.delivery_tag, nack.multiple, false)
            }
            other => panic!("{other:?}"),
        };
        if is_done {
            return refused;
        }
    }
}

#[tokio::test]
async fn every_message_is_confirmed_once() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum", "stream"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        let mut wire = confirming(&client).await;
        for _ in 0..200 {
            let properties = BasicProperties::default().with_delivery_mode(2);
            wire.publish(publish("", queue_type), properties, b"body").await;
        }
        assert_eq!(confirmed(&mut wire, 200).await, BTreeSet::new(), "{queue_type}");
        assert_eq!(wire.barrier().await, "nothing", "{queue_type}: no confirm too many");
    }
}

#[tokio::test]
async fn tags_count_from_the_select_on() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    wire.publish(publish("", "q"), BasicProperties::default(), b"before").await;
    assert_eq!(wire.outcome(confirm::Select { nowait: false }).await, "confirm.select-ok");
    wire.publish(publish("", "q"), BasicProperties::default(), b"after").await;
    assert_eq!(confirmed(&mut wire, 1).await, BTreeSet::new());
    // To ask again changes nothing.
    assert_eq!(wire.outcome(confirm::Select { nowait: false }).await, "confirm.select-ok");
    wire.publish(publish("", "q"), BasicProperties::default(), b"again").await;
    match wire.next().await {
        Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => assert_eq!(ack.delivery_tag, 2),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_to_nowhere_is_confirmed() {
    let client = Client::new().await;
    let mut wire = confirming(&client).await;
    let publish = basic::Publish { mandatory: false, ..publish("amq.fanout", "") };
    wire.publish(publish, BasicProperties::default(), b"").await;
    assert_eq!(wire.answer().await, "basic.ack");
}

#[tokio::test]
async fn a_mandatory_message_to_nowhere_is_returned_before_its_confirm() {
    let client = Client::new().await;
    let mut wire = confirming(&client).await;
    let properties = BasicProperties::default().with_message_id("mine".into());
    wire.publish(publish("amq.direct", "nobody"), properties.clone(), b"body").await;
    match wire.next().await {
        Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Return(returned))) => {
            assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
            assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("amq.direct", "nobody"));
        }
        other => panic!("{other:?}"),
    }
    let Frame::Header(header) = wire.next().await else { panic!("no header") };
    assert_eq!((header.properties, header.body_size), (properties, 4));
    assert_eq!(wire.next().await, Frame::Body(b"body".to_vec()));
    assert_eq!(wire.answer().await, "basic.ack");
}

#[tokio::test]
async fn returns_come_without_confirms_too() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    wire.publish(publish("", "nobody"), BasicProperties::default(), b"").await;
    assert_eq!(wire.answer().await, "basic.return");
    // An empty body has no frame.
    assert!(matches!(wire.next().await, Frame::Header(_)));
    assert_eq!(wire.barrier().await, "nothing");
}

#[tokio::test]
async fn of_many_mandatory_messages_those_to_nowhere_are_returned() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = confirming(&client).await;
    for n in 0..20 {
        let properties = BasicProperties::default().with_message_id(n.to_string().into());
        wire.publish(publish("", if n % 3 == 0 { "nobody" } else { "q" }), properties, b"").await;
    }
    let (mut returned, mut unconfirmed) = (vec![], (1..=20).collect::<BTreeSet<u64>>());
    while !unconfirmed.is_empty() {
        match wire.next().await {
            Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => unconfirmed
                .retain(|tag| *tag > ack.delivery_tag || (!ack.multiple && *tag != ack.delivery_tag)),
            Frame::Header(header) => {
                returned.push(header.properties.message_id().clone().unwrap().to_string())
            }
            _ => {}
        }
    }
    assert_eq!(returned, ["0", "3", "6", "9", "12", "15", "18"]);
}

#[tokio::test]
async fn a_full_queue_that_rejects_is_a_nack() {
    let client = Client::new().await;
    client.queue("q", [("x-max-length", number(2)), ("x-overflow", text("reject-publish"))]).await;
    let mut wire = confirming(&client).await;
    for _ in 0..4 {
        wire.publish(publish("", "q"), BasicProperties::default(), b"").await;
    }
    assert_eq!(confirmed(&mut wire, 4).await, BTreeSet::from([3, 4]));
}

#[tokio::test]
async fn one_full_queue_of_two_is_a_nack_although_the_other_has_it() {
    let client = Client::new().await;
    client.exchange("e", ExchangeKind::Fanout, []).await;
    client.queue("full", [("x-max-length", number(0)), ("x-overflow", text("reject-publish"))]).await;
    client.queue("free", []).await;
    for queue in ["full", "free"] {
        client.bind(queue, "e", "", []).await;
    }
    assert!(client.try_publish("e", "", "body", BasicProperties::default()).await.is_nack());
    assert_eq!(client.drain("free").await, ["body"]);
    assert_eq!(client.drain("full").await, [""; 0]);
}

#[tokio::test]
async fn a_message_that_is_consumed_at_once_is_confirmed() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let no_ack = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut subscription = client.consume_with("q", 0, no_ack, []).await;
    for n in 0..20 {
        client.send("q", &n.to_string()).await;
    }
    assert_eq!(subscription.bodies(20).await.len(), 20);
}
