//! Dead letters that are not lost on their way.

use lapin::{BasicProperties, ExchangeKind, options::BasicRejectOptions};

use crate::{
    dead_letters::{client_with_dead, reject},
    death_stories::{deaths, line},
    kit::{Client, body, in_time, number, text},
};

#[tokio::test]
async fn at_least_once_delivers_to_the_dead() {
    let arguments =
        [("x-dead-letter-strategy", text("at-least-once")), ("x-overflow", text("reject-publish"))];
    let client = client_with_dead("quorum", &arguments).await;
    for text in ["a", "b"] {
        client.send("q", text).await;
        reject(&client, "q").await;
    }
    let a = client.until_get("dead").await;
    assert_eq!(body(&a), "a");
    let lines: Vec<_> = deaths(&a).iter().map(line).collect();
    assert_eq!(lines, ["count=1 exchange= queue=q reason=rejected routing-keys=[q]"]);
    assert_eq!(body(&client.until_get("dead").await), "b");
}

#[tokio::test]
async fn at_least_once_keeps_what_cannot_be_delivered() {
    let client = Client::new().await;
    client.exchange("dlx", ExchangeKind::Fanout, []).await;
    let arguments = [
        ("x-dead-letter-exchange", text("dlx")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-max-length", number(1)),
    ];
    client.queue_of_type("quorum", "q", arguments).await;
    client.send("q", "kept").await;
    reject(&client, "q").await;
    // It is not ready any more, and it still takes the room.
    client.until_ready("q", 0).await;
    let mut taken = 0;
    while client.try_publish("", "q", "more", BasicProperties::default()).await.is_ack() {
        taken += 1;
        assert!(taken < 100, "the queue never fills");
    }
}

/// Declares a retry queue as the services use it: a quorum queue with a TTL, which dead-letters back to the work queue.
#[tokio::test]
async fn a_quorum_queue_as_a_place_to_wait() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "work", []).await;
    let arguments = [
        ("x-message-ttl", number(100)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("work")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    client.queue_of_type("quorum", "wait", arguments).await;
    for text in ["a", "b", "c"] {
        client.send("wait", text).await;
    }
    for expected in ["a", "b", "c"] {
        let back = client.until_get("work").await;
        assert_eq!((body(&back).as_str(), back.redelivered), (expected, false));
        assert_eq!(
            line(&deaths(&back)[0]),
            "count=1 exchange= queue=wait reason=expired routing-keys=[wait]"
        );
    }
}

#[tokio::test]
async fn at_least_once_after_too_many_deliveries() {
    let arguments = [
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", number(1)),
    ];
    let client = client_with_dead("quorum", &arguments).await;
    client.send("q", "poison").await;
    let mut subscription = client.consume("q", 1).await;
    for _ in 0..2 {
        let delivery = subscription.next().await;
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    let dead = client.until_get("dead").await;
    assert_eq!(line(&deaths(&dead)[0]), "count=1 exchange= queue=q reason=delivery_limit routing-keys=[q]");
}
