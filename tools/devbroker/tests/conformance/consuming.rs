//! Consumers: their deliveries, their order, and their cancellation.

use amq_protocol::protocol::{AMQPClass, basic};
use e2e::wait::until_true;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions};

use crate::kit::{Client, Frame, LIMIT, consume, in_time, qos, text};

/// Refusal of a consumer where it or another one is exclusive.
const IN_EXCLUSIVE_USE: &str =
    "channel 403 ACCESS_REFUSED - queue 'q' in vhost 'VHOST' in exclusive use (60, 20)";

#[tokio::test]
async fn a_consumer_gets_what_was_there_and_what_comes() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "before").await;
    let mut subscription = client.consume("q", 10).await;
    client.send("q", "after").await;
    assert_eq!(subscription.bodies(2).await, ["before", "after"]);
}

#[tokio::test]
async fn a_delivery_says_where_it_comes_from() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.bind("q", "amq.topic", "a.#", []).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(consume("q", "mine")).await, "basic.consume-ok");
    client.publish("amq.topic", "a.b", "body", Default::default()).await;
    match wire.next().await {
        Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) => {
            assert_eq!((deliver.consumer_tag.as_str(), deliver.delivery_tag), ("mine", 1));
            assert_eq!((deliver.exchange.as_str(), deliver.routing_key.as_str()), ("amq.topic", "a.b"));
            assert!(!deliver.redelivered);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_consumer_without_a_tag_gets_one() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    let mut tags = vec![];
    for _ in 0..2 {
        wire.send(1, consume("q", "")).await;
        match wire.next().await {
            Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok))) => {
                tags.push(ok.consumer_tag)
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(tags.iter().all(|tag| tag.as_str().starts_with("amq.ctag-")) && tags[0] != tags[1], "{tags:?}");
}

#[tokio::test]
async fn a_tag_is_used_once_in_a_channel() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(consume("q", "mine")).await, "basic.consume-ok");
    let reference = "connection 530 NOT_ALLOWED - attempt to reuse consumer tag 'mine' (60, 20)";
    assert_eq!(wire.outcome(consume("q", "mine")).await, reference);

    // Each channel has its own.
    wire.open_channel(2).await;
    for channel in [1, 2] {
        wire.send(channel, consume("q", "mine")).await;
        assert_eq!(wire.answer().await, "basic.consume-ok");
    }
}

#[tokio::test]
async fn a_consumers_priority_is_a_number() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    let arguments = crate::kit::table([("x-priority", text("high"))]);
    let answer = wire.outcome(basic::Consume { arguments, ..consume("q", "") }).await;
    let reference = "channel 406 PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost \
        'VHOST': \"expected integer, got longstr\" (60, 20)";
    client.answers("x-priority that is no number", answer, reference);
}

#[tokio::test]
async fn a_cancelled_consumer_gets_no_more_and_keeps_what_it_has() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    let mut subscription = client.consume("q", 10).await;
    let delivery = subscription.next().await;
    let cancel =
        subscription.channel.basic_cancel(subscription.consumer.tag(), BasicCancelOptions::default());
    in_time(cancel).await.unwrap();
    client.send("q", "b").await;
    assert_eq!(client.counts("q").await, Some((1, 0)), "a is still in hand, and b waits");
    assert!(in_time(delivery.ack(BasicAckOptions::default())).await.unwrap());
    assert_eq!(client.drain("q").await, ["b"]);
}

#[tokio::test]
async fn no_ack_needs_none_and_knows_no_prefetch() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for n in 0..5 {
        client.send("q", &n.to_string()).await;
    }
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut subscription = client.consume_with("q", 1, no_ack, []).await;
    assert_eq!(subscription.bodies(5).await, ["0", "1", "2", "3", "4"]);
    drop(subscription);
    assert_eq!(client.drain("q").await, [""; 0]);
}

#[tokio::test]
async fn an_active_consumer_is_the_only_one_until_it_goes() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        let single = ("x-single-active-consumer", lapin::types::AMQPValue::Boolean(true));
        client.queue_of_type(queue_type, queue_type, [single]).await;
        let mut first = client.consume(queue_type, 10).await;
        let mut second = client.consume(queue_type, 10).await;
        for n in 0..4 {
            client.send(queue_type, &n.to_string()).await;
        }
        assert_eq!(first.bodies(4).await, ["0", "1", "2", "3"]);
        assert!(second.is_silent().await, "{queue_type}");
        in_time(first.channel.close(200, "done".into())).await.unwrap();
        assert_eq!(second.bodies(4).await, ["0", "1", "2", "3"], "{queue_type}: in their order");
    }
}

#[tokio::test]
async fn a_single_active_queue_takes_no_exclusive_consumer() {
    let client = Client::new().await;
    client.queue("q", [("x-single-active-consumer", lapin::types::AMQPValue::Boolean(true))]).await;
    let mut wire = client.wire().await;
    let exclusive = basic::Consume { exclusive: true, ..consume("q", "") };
    assert_eq!(wire.outcome(exclusive.clone()).await, IN_EXCLUSIVE_USE);

    // A quorum queue takes no notice of it.
    let single = ("x-single-active-consumer", lapin::types::AMQPValue::Boolean(true));
    client.queue_of_type("quorum", "quorum", [single]).await;
    let exclusive = basic::Consume { queue: "quorum".into(), ..exclusive };
    assert_eq!(wire.outcome(exclusive).await, "basic.consume-ok");
}

#[tokio::test]
async fn where_others_consume_nobody_may_alone() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(consume("q", "first")).await, "basic.consume-ok");
    let exclusive = || basic::Consume { exclusive: true, ..consume("q", "second") };
    assert_eq!(client.wire().await.outcome(exclusive()).await, IN_EXCLUSIVE_USE, "elsewhere");
    assert_eq!(wire.outcome(exclusive()).await, IN_EXCLUSIVE_USE, "on the same channel, which is closed");
    assert_eq!(wire.outcome(exclusive()).await, "basic.consume-ok", "the first went with its channel");
}

#[tokio::test]
async fn an_exclusive_consumer_keeps_others_away_until_it_goes() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let exclusive = |tag: &str| basic::Consume { exclusive: true, ..consume("q", tag) };
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(qos(1)).await, "basic.qos-ok");
    assert_eq!(wire.outcome(exclusive("first")).await, "basic.consume-ok");
    client.send("q", "a").await;
    assert_eq!(wire.answer().await, "basic.deliver");
    wire.content().await;
    client.send("q", "b").await;
    assert_eq!(client.drain("q").await, ["b"], "who just asks is no consumer");

    let mut other = client.wire().await;
    assert_eq!(other.outcome(exclusive("second")).await, IN_EXCLUSIVE_USE);
    let cancel = basic::Cancel { consumer_tag: "first".into(), nowait: false };
    assert_eq!(wire.outcome(cancel).await, "basic.cancel-ok");
    assert_eq!(other.outcome(exclusive("second")).await, "basic.consume-ok", "the first is cancelled");
    drop(other);
    until_true("the second has gone with its connection", LIMIT, async || {
        wire.outcome(consume("q", "third")).await == "basic.consume-ok"
    })
    .await;
}

#[tokio::test]
async fn a_single_active_quorum_queue_gives_nothing_to_who_just_asks() {
    let client = Client::new().await;
    let single = ("x-single-active-consumer", lapin::types::AMQPValue::Boolean(true));
    let mut wire = client.wire().await;
    let mut answers = vec![];
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, [single.clone()]).await;
        answers.push(wire.outcome(basic::Get { queue: queue_type.into(), no_ack: false }).await);
    }
    assert_eq!(answers[0], "basic.get-empty");
    let refusal = "channel 405 RESOURCE_LOCKED - cannot obtain access to locked queue 'quorum' in vhost \
        'VHOST'. basic.get operations are not supported by <<\"quorum\">> queues with single active consumer (60, 70)";
    client.answers("get from a single active quorum queue", &answers[1], refusal);
}

#[tokio::test]
async fn a_consumer_that_is_cancelled_by_the_broker_ends_and_its_channel_does_not() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum", "stream"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        let mut subscription = client.consume(queue_type, 1).await;
        in_time(client.channel.queue_delete(queue_type.into(), Default::default())).await.unwrap();
        assert!(subscription.end().await.is_none(), "{queue_type}");
        until_true("the channel is usable", LIMIT, async || {
            in_time(subscription.channel.basic_qos(1, Default::default())).await.is_ok()
        })
        .await;
    }
}
