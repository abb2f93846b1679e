//! Messages and queues with a time to live.

use std::time::{Duration, Instant};

use lapin::BasicProperties;

use crate::kit::{Client, body, in_time, number, publish};

fn expiring(milliseconds: &str) -> BasicProperties {
    BasicProperties::default().with_expiration(milliseconds.into())
}

#[tokio::test]
async fn a_queues_messages_expire() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, [("x-message-ttl", number(300))]).await;
        client.send(queue_type, "a").await;
        client.until_ready(queue_type, 0).await;
        assert_eq!(client.drain(queue_type).await, [""; 0], "{queue_type}");
    }
}

#[tokio::test]
async fn a_message_expires() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        client.publish("", queue_type, "a", expiring("300")).await;
        client.publish("", queue_type, "b", BasicProperties::default()).await;
        client.until_ready(queue_type, 1).await;
        assert_eq!(client.drain(queue_type).await, ["b"], "{queue_type}");
    }
}

#[tokio::test]
async fn the_shorter_of_two_times_counts() {
    let client = Client::new().await;
    client.queue("long", [("x-message-ttl", number(60_000))]).await;
    client.queue("short", [("x-message-ttl", number(100))]).await;
    client.publish("", "long", "a", expiring("100")).await;
    client.publish("", "short", "a", expiring("60000")).await;
    client.until_ready("long", 0).await;
    client.until_ready("short", 0).await;
}

#[tokio::test]
async fn a_message_without_time_reaches_a_waiting_consumer_only() {
    let client = Client::new().await;
    client.queue("q", [("x-message-ttl", number(0))]).await;
    client.send("q", "for nobody").await;
    assert_eq!(client.drain("q").await, [""; 0]);
    let mut subscription = client.consume("q", 10).await;
    client.send("q", "for somebody").await;
    assert_eq!(subscription.bodies(1).await, ["for somebody"]);
}

#[tokio::test]
async fn what_is_in_hand_does_not_expire() {
    let client = Client::new().await;
    client.queue("q", [("x-message-ttl", number(100))]).await;
    // It waits already, so the message never does.
    let mut subscription = client.consume("q", 1).await;
    client.send("q", "in hand").await;
    let delivery = subscription.next().await;
    client.send("q", "waiting").await;
    client.until_ready("q", 0).await;
    assert!(in_time(delivery.ack(Default::default())).await.unwrap(), "it can still be acked");
    client.send("q", "next").await;
    assert_eq!(subscription.bodies(1).await, ["next"]);
}

#[tokio::test]
async fn what_is_given_back_late_expires_at_once() {
    let client = Client::new().await;
    client.queue("q", [("x-message-ttl", number(100))]).await;
    let mut subscription = client.consume("q", 1).await;
    client.send("q", "late").await;
    let delivery = subscription.next().await;
    // As long as this one waits in vain, the other is in hand.
    client.send("q", "clock").await;
    client.until_ready("q", 0).await;
    let cancelled = subscription.channel.basic_cancel(subscription.consumer.tag(), Default::default());
    in_time(cancelled).await.unwrap();
    let requeue = lapin::options::BasicNackOptions { requeue: true, ..Default::default() };
    in_time(delivery.nack(requeue)).await.unwrap();
    in_time(subscription.channel.close(200, "done".into())).await.unwrap();
    assert_eq!(client.drain("q").await, [""; 0]);
}

#[tokio::test]
async fn an_expired_message_goes_when_it_is_the_first() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "stays").await;
    client.publish("", "q", "short", expiring("50")).await;
    client.queue("clock", [("x-message-ttl", number(300))]).await;
    client.send("clock", "tick").await;
    client.until_ready("clock", 0).await;
    assert_eq!(client.counts("q").await, Some((2, 0)), "the short one waits behind the other");
    assert_eq!(client.drain("q").await, ["stays"]);
}

#[tokio::test]
async fn what_has_expired_behind_another_is_not_delivered() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        for (queue, how) in [("by get", "get"), ("by consumer", "consume")] {
            let queue = &format!("{queue_type} {queue}");
            client.queue_of_type(queue_type, queue, []).await;
            client.send(queue, "stays").await;
            client.publish("", queue, "short", expiring("1")).await;
            client.send(queue, "after").await;
            let clock = &format!("{queue} clock");
            client.queue(clock, [("x-message-ttl", number(100))]).await;
            client.send(clock, "tick").await;
            client.until_ready(clock, 0).await;
            if how == "get" {
                let first = client.get(queue).await.unwrap();
                assert_eq!(body(&first.delivery), "stays");
                // A quorum queue finds out what has expired later.
                let left = if queue_type == "classic" { 1 } else { 2 };
                assert_eq!(first.message_count, left, "{queue}");
                assert_eq!(client.drain(queue).await, ["after"], "{queue}");
            } else {
                assert_eq!(client.consume(queue, 10).await.bodies(2).await, ["stays", "after"], "{queue}");
            }
        }
    }
}

#[tokio::test]
async fn an_expiration_that_is_no_number_is_refused() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    let mut rows = vec![];
    for (expiration, reference) in [
        ("soon", "channel 406 PRECONDITION_FAILED - invalid expiration 'soon': no_integer (60, 40)"),
        ("-1", "channel 406 PRECONDITION_FAILED - invalid expiration '-1': {value_negative,-1} (60, 40)"),
        (
            "1.5",
            "channel 406 PRECONDITION_FAILED - invalid expiration '1.5': {leftover_string,\".5\"} (60, 40)",
        ),
        ("", "channel 406 PRECONDITION_FAILED - invalid expiration '': no_integer (60, 40)"),
        (" 1", "channel 406 PRECONDITION_FAILED - invalid expiration ' 1': no_integer (60, 40)"),
        (
            "315360000001",
            "channel 406 PRECONDITION_FAILED - invalid expiration '315360000001': \
                {value_too_large,315360000001} (60, 40)",
        ),
        ("315360000000", "nothing"),
        ("+5", "nothing"),
        ("0", "nothing"),
    ] {
        wire.publish(publish("", "q"), expiring(expiration), b"").await;
        rows.push((format!("expiration {expiration:?}"), wire.barrier().await, reference));
    }
    client.place.all_answer(rows);
}

#[tokio::test]
async fn an_expiration_is_shown_as_a_plain_number() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        client.publish("", queue_type, "a", expiring("+050000")).await;
        let delivery = client.until_get(queue_type).await;
        let expiration = delivery.properties.expiration().as_ref().map(|text| text.as_str());
        assert_eq!(expiration, Some("50000"), "{queue_type}");
    }
}

#[tokio::test]
async fn a_message_of_low_priority_expires_behind_a_high_one_in_a_quorum_queue() {
    let client = Client::new().await;
    client.queue("classic", [("x-max-priority", number(9))]).await;
    client.queue_of_type("quorum", "quorum", []).await;
    for queue in ["classic", "quorum"] {
        client.publish("", queue, "high", BasicProperties::default().with_priority(9)).await;
        client.publish("", queue, "low", expiring("50").with_priority(0)).await;
    }
    client.queue("clock", [("x-message-ttl", number(1000))]).await;
    client.send("clock", "tick").await;
    client.until_ready("clock", 0).await;
    assert_eq!(client.counts("classic").await, Some((2, 0)), "the low one waits behind the high one");
    client.answers(
        "counts of a quorum queue whose low one has expired",
        client.counts("quorum").await,
        Some((1, 0)),
    );
    assert_eq!(client.drain("classic").await, ["high"]);
    assert_eq!(client.drain("quorum").await, ["high"]);
}

#[tokio::test]
async fn an_expiration_of_zero_is_for_a_consumer_that_waits() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.publish("", "q", "for nobody", expiring("0")).await;
    assert_eq!(client.drain("q").await, [""; 0]);
    let mut subscription = client.consume("q", 10).await;
    client.publish("", "q", "for somebody", expiring("0")).await;
    assert_eq!(subscription.bodies(1).await, ["for somebody"]);
}

#[tokio::test]
async fn a_stream_keeps_a_message_longer_than_its_expiration() {
    let client = Client::new().await;
    client.queue_of_type("stream", "s", []).await;
    client.publish("", "s", "a", expiring("1")).await;
    client.queue("clock", [("x-message-ttl", number(100))]).await;
    client.send("clock", "tick").await;
    client.until_ready("clock", 0).await;
    let first = [("x-stream-offset", crate::kit::text("first"))];
    let delivery = client.consume_with("s", 1, Default::default(), first).await.next().await;
    assert_eq!(body(&delivery), "a");
    assert_eq!(delivery.properties.expiration().as_ref().map(|text| text.as_str()), Some("1"));
}

#[tokio::test]
async fn an_unused_queue_expires() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, [("x-expires", number(500))]).await;
        client.send(queue_type, "a").await;
        let start = Instant::now();
        // Asked for over the other kind of use: a passive declaration would keep it.
        let mut wire = client.wire().await;
        loop {
            wire.publish(publish("", queue_type), BasicProperties::default(), b"").await;
            if wire.barrier().await == "basic.return" {
                break;
            }
            assert!(start.elapsed() < crate::kit::LIMIT, "{queue_type} stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(client.counts(queue_type).await, None);
    }
}

#[tokio::test]
async fn a_used_queue_does_not_expire() {
    let client = Client::new().await;
    client.queue("used", [("x-expires", number(1500))]).await;
    let mut subscription = client.consume("used", 1).await;
    client.queue("unused", [("x-expires", number(2000))]).await;
    let mut wire = client.wire().await;
    loop {
        wire.publish(publish("", "unused"), BasicProperties::default(), b"").await;
        if wire.barrier().await == "basic.return" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.send("used", "still here").await;
    assert_eq!(subscription.bodies(1).await, ["still here"]);
}

#[tokio::test]
async fn an_expiration_is_kept_while_a_message_waits() {
    let client = Client::new().await;
    client.queue("q", [("x-message-ttl", number(60_000))]).await;
    client.publish("", "q", "a", expiring("50000")).await;
    let delivery = client.until_get("q").await;
    assert_eq!(body(&delivery), "a");
    assert_eq!(delivery.properties.expiration().as_ref().map(|text| text.as_str()), Some("50000"));
}
