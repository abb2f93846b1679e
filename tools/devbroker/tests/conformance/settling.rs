//! Ack, nack, reject and recover: what goes, what comes back, and how often it has.

use amq_protocol::protocol::basic;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRecoverOptions, BasicRejectOptions};

use crate::kit::{Client, body, in_time};

/// A queue with these messages.
async fn queue_of(bodies: &[&str]) -> Client {
    let client = Client::new().await;
    client.queue("q", []).await;
    for body in bodies {
        client.send("q", body).await;
    }
    client
}

#[tokio::test]
async fn an_acked_message_is_gone() {
    let client = queue_of(&["a", "b"]).await;
    let mut subscription = client.consume("q", 10).await;
    let (a, _b) = (subscription.next().await, subscription.next().await);
    in_time(a.ack(BasicAckOptions::default())).await.unwrap();
    in_time(subscription.channel.close(200, "done".into())).await.unwrap();
    client.until_ready("q", 1).await;
    assert_eq!(client.drain("q").await, ["b"]);
}

#[tokio::test]
async fn a_multiple_ack_takes_all_before_it() {
    let client = queue_of(&["a", "b", "c", "d"]).await;
    let mut subscription = client.consume("q", 10).await;
    subscription.bodies(2).await;
    let c = subscription.next().await;
    subscription.next().await;
    in_time(c.ack(BasicAckOptions { multiple: true })).await.unwrap();
    in_time(subscription.channel.close(200, "done".into())).await.unwrap();
    client.until_ready("q", 1).await;
    assert_eq!(client.drain("q").await, ["d"]);
}

#[tokio::test]
async fn a_multiple_ack_has_to_name_what_is_in_hand() {
    let client = queue_of(&["a", "b", "c"]).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(crate::kit::consume("q", "")).await, "basic.consume-ok");
    for _ in 0..3 {
        assert_eq!(wire.answer().await, "basic.deliver");
        wire.content().await;
    }
    assert_eq!(wire.silent_outcome(basic::Ack { delivery_tag: 2, multiple: false }).await, "nothing");
    let unknown = "channel 406 PRECONDITION_FAILED - unknown delivery tag 2 (60, 80)";
    assert_eq!(wire.silent_outcome(basic::Ack { delivery_tag: 2, multiple: true }).await, unknown);
    client.until_ready("q", 2).await;
}

#[tokio::test]
async fn a_nack_without_requeue_drops() {
    let client = queue_of(&["a", "b"]).await;
    let a = client.until_get("q").await;
    in_time(a.nack(BasicNackOptions::default())).await.unwrap();
    let b = client.until_get("q").await;
    in_time(b.reject(BasicRejectOptions { requeue: false })).await.unwrap();
    assert_eq!(client.drain("q").await, [""; 0]);
}

#[tokio::test]
async fn what_is_requeued_comes_back_to_its_place() {
    let client = queue_of(&["a", "b", "c", "d"]).await;
    let (a, b, c) = (client.until_get("q").await, client.until_get("q").await, client.until_get("q").await);
    for delivery in [b, a] {
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    client.until_ready("q", 3).await;
    assert_eq!(client.drain("q").await, ["a", "b", "d"]);
    in_time(c.nack(BasicNackOptions { requeue: true, ..Default::default() })).await.unwrap();
    assert_eq!(client.until_drained("q", 1).await, ["c"]);
}

#[tokio::test]
async fn a_multiple_nack_gives_all_back_in_order() {
    let client = queue_of(&["a", "b", "c", "d"]).await;
    let mut subscription = client.consume("q", 3).await;
    subscription.bodies(2).await;
    let c = subscription.next().await;
    in_time(subscription.channel.basic_cancel(subscription.consumer.tag(), Default::default()))
        .await
        .unwrap();
    in_time(c.nack(BasicNackOptions { multiple: true, requeue: true })).await.unwrap();
    client.until_ready("q", 4).await;
    assert_eq!(client.drain("q").await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn nack_of_tag_zero_gives_all_back() {
    let client = queue_of(&["a", "b"]).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(crate::kit::get("q")).await, "basic.get-ok");
    wire.content().await;
    let nack = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
    assert_eq!(wire.silent_outcome(nack).await, "nothing");
    client.until_ready("q", 2).await;
}

#[tokio::test]
async fn redelivered_is_said_of_what_was_delivered_before() {
    let client = queue_of(&["a", "b"]).await;
    let a = client.until_get("q").await;
    assert!(!a.redelivered);
    in_time(a.nack(BasicNackOptions { requeue: true, ..Default::default() })).await.unwrap();
    client.until_ready("q", 2).await;
    for again in [true, false] {
        assert_eq!(client.until_get("q").await.redelivered, again);
    }
}

#[tokio::test]
async fn recover_gives_all_back() {
    let client = queue_of(&["a", "b"]).await;
    if !client.does("recover", basic::Recover { requeue: true }, "basic.recover-ok").await {
        return;
    }
    let other = client.another().await;
    for _ in 0..2 {
        other.until_get("q").await;
    }
    in_time(other.channel.basic_recover(BasicRecoverOptions { requeue: true })).await.unwrap();
    client.until_ready("q", 2).await;
    let a = client.until_get("q").await;
    assert_eq!((body(&a).as_str(), a.redelivered), ("a", true));
}

#[tokio::test]
async fn recover_without_requeue_and_async() {
    let client = queue_of(&["a"]).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(crate::kit::get("q")).await, "basic.get-ok");
    wire.content().await;
    let answer = wire.outcome(basic::Recover { requeue: false }).await;
    client.answers(
        "recover without requeue",
        answer,
        "connection 540 NOT_IMPLEMENTED - requeue=false (60, 110)",
    );
    let answer = wire.silent_outcome(basic::RecoverAsync { requeue: true }).await;
    client.answers("recover-async", answer, "nothing");
}

#[tokio::test]
async fn what_a_consumer_rejects_it_gets_again() {
    let client = queue_of(&["a"]).await;
    let mut subscription = client.consume("q", 1).await;
    for n in 0..5 {
        let delivery = subscription.next().await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), ("a", n > 0));
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
}
