//! Channels: they open, close, fail one by one, and take their number again.

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm, exchange, queue, tx};
use lapin::{BasicProperties, types::ShortString};

use crate::kit::{
    Call as _, Client, Frame, Place, Wire, bind, body, consume, declare, declare_exchange, declare_passive,
    get, publish,
};

fn close() -> channel::Close {
    channel::Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 }
}

#[tokio::test]
async fn a_closed_channels_number_can_be_taken_again() {
    let mut wire = Wire::open(&Place::new().await).await;
    for _ in 0..3 {
        assert_eq!(wire.outcome(close()).await, "channel.close-ok");
        wire.open_channel(1).await;
    }
    assert_eq!(wire.outcome(declare("q", [])).await, "queue.declare-ok");
}

#[tokio::test]
async fn an_open_channel_cannot_be_opened() {
    let mut wire = Wire::open(&Place::new().await).await;
    let answer = wire.outcome(channel::Open {}).await;
    assert_eq!(answer, "connection 504 CHANNEL_ERROR - second 'channel.open' seen (20, 10)");
}

#[tokio::test]
async fn a_channels_error_closes_it_alone() {
    let mut wire = Wire::open(&Place::new().await).await;
    wire.open_channel(2).await;
    wire.send(2, declare("q", [])).await;
    assert_eq!(wire.answer().await, "queue.declare-ok");
    wire.send(2, consume("q", "tag")).await;
    assert_eq!(wire.answer().await, "basic.consume-ok");

    let refused = wire.outcome(declare_passive("nothing")).await;
    assert_eq!(refused, "channel 404 NOT_FOUND - no queue 'nothing' in vhost 'VHOST' (50, 10)");

    wire.publish(publish("", "q"), BasicProperties::default(), b"still here").await;
    assert_eq!(wire.answer().await, "basic.deliver");
}

#[tokio::test]
async fn what_comes_after_an_error_is_ignored_until_the_close_is_answered() {
    let mut wire = Wire::open(&Place::new().await).await;
    wire.send(1, declare_passive("nothing")).await;
    wire.send(1, declare("q", [])).await;
    wire.publish(publish("", "q"), BasicProperties::default(), b"lost").await;
    assert!(wire.answer().await.starts_with("channel 404 "));
    assert!(
        wire.outcome(declare_passive("q")).await.starts_with("channel 404 "),
        "it was declared all the same"
    );
}

#[tokio::test]
async fn a_connection_has_room_for_many_channels() {
    let mut wire = Wire::open(&Place::new().await).await;
    for id in (2..=200).chain([2047]) {
        wire.open_channel(id).await;
    }
    for id in [200, 2047] {
        wire.send(id, declare("q", [])).await;
        assert_eq!(wire.answer().await, "queue.declare-ok");
    }
}

#[tokio::test]
async fn delivery_tags_count_over_all_consumers_of_a_channel() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    let mut tags = vec![];
    for queue in ["one", "two"] {
        client.queue(queue, []).await;
        client.send(queue, "a").await;
        assert_eq!(wire.outcome(consume(queue, queue)).await, "basic.consume-ok");
        match wire.next().await {
            Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) => {
                tags.push((deliver.consumer_tag.to_string(), deliver.delivery_tag));
            }
            other => panic!("{other:?}"),
        }
        wire.content().await;
    }
    assert_eq!(tags, [("one".into(), 1), ("two".into(), 2)]);
    assert_eq!(wire.silent_outcome(basic::Ack { delivery_tag: 2, multiple: true }).await, "nothing", "both");
    assert_eq!(wire.outcome(close()).await, "channel.close-ok");
    assert_eq!((client.counts("one").await, client.counts("two").await), (Some((0, 0)), Some((0, 0))));
}

#[tokio::test]
async fn delivery_tags_count_from_one_in_each_channel() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for n in 0..4 {
        client.send("q", &n.to_string()).await;
    }
    let other = client.another().await;
    let mut tags = vec![];
    for client in [&client, &other, &client, &other] {
        tags.push(client.until_get("q").await.delivery_tag);
    }
    assert_eq!(tags, [1, 1, 2, 2]);
}

#[tokio::test]
async fn what_a_closed_channel_had_in_hand_goes_back_in_order() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for text in ["a", "b", "c"] {
        client.send("q", text).await;
    }
    let mut subscription = client.consume("q", 2).await;
    assert_eq!(subscription.bodies(2).await, ["a", "b"]);
    subscription.channel.close(200, "done".into()).await.unwrap();
    let mut redelivered = vec![];
    client.until_ready("q", 3).await;
    for _ in 0..3 {
        let delivery = client.until_get("q").await;
        redelivered.push((body(&delivery), delivery.redelivered));
    }
    let reference = [("a", true), ("b", true), ("c", false)].map(|(text, again)| (text.to_owned(), again));
    assert_eq!(redelivered, reference);
}

#[tokio::test]
async fn what_a_lost_connection_had_in_hand_goes_back() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(get("q")).await, "basic.get-ok");
    drop(wire);
    client.until_ready("q", 1).await;
    assert!(client.until_get("q").await.redelivered);
}

#[tokio::test]
async fn flow_can_be_asked_for_but_not_stopped() {
    let mut wire = Wire::open(&Place::new().await).await;
    let rows = [
        ("flow on", channel::Flow { active: true }.class(), "channel.flow-ok"),
        (
            "flow off",
            channel::Flow { active: false }.class(),
            "connection 540 NOT_IMPLEMENTED - active=false (20, 20)",
        ),
    ];
    wire.outcomes(rows).await;
}

#[tokio::test]
async fn transactions_and_access() {
    let mut wire = Wire::open(&Place::new().await).await;
    let rows = [
        (
            "tx.commit before tx.select",
            tx::Commit {}.class(),
            "channel 406 PRECONDITION_FAILED - channel is not transactional (90, 20)",
        ),
        ("tx.select", tx::Select {}.class(), "tx.select-ok"),
        ("tx.rollback", tx::Rollback {}.class(), "tx.rollback-ok"),
        ("tx.commit", tx::Commit {}.class(), "tx.commit-ok"),
        (
            "access.request",
            access::Request { realm: "/data".into(), ..Default::default() }.class(),
            "access.request-ok",
        ),
    ];
    wire.outcomes(rows).await;
}

#[tokio::test]
async fn a_channel_cannot_confirm_and_be_transactional() {
    let mut wire = Wire::open(&Place::new().await).await;
    assert_eq!(wire.outcome(confirm::Select { nowait: false }).await, "confirm.select-ok");
    let answer = wire.outcome(tx::Select {}).await;
    let reference = "channel 406 PRECONDITION_FAILED - cannot switch from confirm to tx mode (90, 10)";
    wire.place().answers("tx.select in confirm mode", answer, reference);
}

#[tokio::test]
async fn an_unknown_delivery_tag_closes_the_channel() {
    let mut wire = Wire::open(&Place::new().await).await;
    let unknown = |tag: u64, method: u16| {
        format!("channel 406 PRECONDITION_FAILED - unknown delivery tag {tag} (60, {method})")
    };
    let ack = basic::Ack { delivery_tag: 7, multiple: false };
    assert_eq!(wire.silent_outcome(ack).await, unknown(7, 80));
    let nack = basic::Nack { delivery_tag: 7, multiple: false, requeue: true };
    assert_eq!(wire.silent_outcome(nack).await, unknown(7, 120));
    let reject = basic::Reject { delivery_tag: 7, requeue: true };
    assert_eq!(wire.silent_outcome(reject).await, unknown(7, 90));
    let multiple = basic::Ack { delivery_tag: 7, multiple: true };
    assert_eq!(wire.silent_outcome(multiple).await, unknown(7, 80));
    // All that is in hand, which is nothing.
    let all = basic::Ack { delivery_tag: 0, multiple: true };
    assert_eq!(wire.silent_outcome(all).await, "nothing");
}

#[tokio::test]
async fn a_delivery_can_be_settled_once() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(get("q")).await, "basic.get-ok");
    wire.content().await;
    let ack = basic::Ack { delivery_tag: 1, multiple: false };
    assert_eq!(wire.silent_outcome(ack.clone()).await, "nothing");
    let reference = "channel 406 PRECONDITION_FAILED - unknown delivery tag 1 (60, 80)";
    assert_eq!(wire.silent_outcome(ack).await, reference);
}

#[tokio::test]
async fn a_tag_of_another_channel_is_unknown() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    let delivery = client.until_get("q").await;
    let ack = basic::Ack { delivery_tag: delivery.delivery_tag, multiple: false };
    let answer = client.wire().await.silent_outcome(ack).await;
    assert_eq!(answer, "channel 406 PRECONDITION_FAILED - unknown delivery tag 1 (60, 80)");
    assert_eq!(client.counts("q").await, Some((0, 0)), "it is still in the other's hand");
}

/// Everything that can be asked for without an answer.
#[tokio::test]
async fn with_nowait_there_is_no_answer() {
    let mut wire = Wire::open(&Place::new().await).await;
    let q: ShortString = "q".into();
    let calls = [
        queue::Declare { nowait: true, ..declare("q", []) }.class(),
        exchange::Declare { nowait: true, ..declare_exchange("e", "fanout", []) }.class(),
        queue::Bind { nowait: true, ..bind("q", "e", "") }.class(),
        confirm::Select { nowait: true }.class(),
        basic::Consume { nowait: true, ..consume("q", "tag") }.class(),
        basic::Cancel { consumer_tag: "tag".into(), nowait: true }.class(),
        queue::Purge { queue: q.clone(), nowait: true }.class(),
        exchange::Delete { exchange: "e".into(), nowait: true, ..Default::default() }.class(),
        queue::Delete { queue: q, nowait: true, ..Default::default() }.class(),
    ];
    for call in calls {
        let name = format!("{call:?}");
        assert_eq!(wire.silent_outcome(call).await, "nothing", "{name}");
    }
    assert!(wire.outcome(declare_passive("q")).await.starts_with("channel 404 "), "it was made and deleted");
}
