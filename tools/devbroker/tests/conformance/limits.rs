//! Queues with a largest length.

use lapin::BasicProperties;

use crate::kit::{Client, number, text};

#[tokio::test]
async fn the_oldest_go_where_nothing_else_is_said() {
    let client = Client::new().await;
    if !client.makes("x-max-length with drop-head", [("x-max-length", number(1))]).await {
        return;
    }
    client.queue("q", [("x-max-length", number(2))]).await;
    for text in ["a", "b", "c", "d"] {
        client.send("q", text).await;
    }
    assert_eq!(client.drain("q").await, ["c", "d"]);
}

#[tokio::test]
async fn the_newest_are_refused_where_that_is_said() {
    let client = Client::new().await;
    client.queue("q", [("x-max-length", number(2)), ("x-overflow", text("reject-publish"))]).await;
    let mut acked = vec![];
    for text in ["a", "b", "c", "d"] {
        acked.push(client.try_publish("", "q", text, BasicProperties::default()).await.is_ack());
    }
    assert_eq!(acked, [true, true, false, false]);
    assert_eq!(client.drain("q").await, ["a", "b"]);
    assert!(
        client.try_publish("", "q", "e", BasicProperties::default()).await.is_ack(),
        "there is room again"
    );
}

#[tokio::test]
async fn what_is_in_hand_takes_no_room() {
    let client = Client::new().await;
    client.queue("q", [("x-max-length", number(1)), ("x-overflow", text("reject-publish"))]).await;
    client.send("q", "a").await;
    let _in_hand = client.until_get("q").await;
    assert!(client.try_publish("", "q", "b", BasicProperties::default()).await.is_ack());
    assert!(client.try_publish("", "q", "c", BasicProperties::default()).await.is_nack());
}

#[tokio::test]
async fn bytes_count_where_that_is_said() {
    let client = Client::new().await;
    if !client.makes("x-max-length-bytes of a queue", [("x-max-length-bytes", number(10))]).await {
        return;
    }
    client.queue("q", [("x-max-length-bytes", number(10))]).await;
    for text in ["aaaa", "bbbb", "cccc"] {
        client.send("q", text).await;
    }
    assert_eq!(client.drain("q").await, ["bbbb", "cccc"]);
    client.send("q", "longer than ten").await;
    assert_eq!(client.drain("q").await, [""; 0]);
}

#[tokio::test]
async fn a_length_of_nothing_keeps_nothing() {
    let client = Client::new().await;
    if !client.makes("x-max-length with drop-head", [("x-max-length", number(1))]).await {
        return;
    }
    client.queue("q", [("x-max-length", number(0))]).await;
    client.send("q", "a").await;
    assert_eq!(client.drain("q").await, [""; 0]);
    let mut subscription = client.consume("q", 1).await;
    client.send("q", "b").await;
    client.answers("length 0, a consumer waits", subscription.bodies(1).await, ["b"]);
}

#[tokio::test]
async fn a_quorum_queue_has_a_length_too() {
    let client = Client::new().await;
    if !client.makes("x-max-length with drop-head", [("x-max-length", number(1))]).await {
        return;
    }
    client.queue_of_type("quorum", "drop", [("x-max-length", number(2))]).await;
    for text in ["a", "b", "c", "d"] {
        client.send("drop", text).await;
    }
    client.until_ready("drop", 2).await;
    assert_eq!(client.drain("drop").await, ["c", "d"]);
}

#[tokio::test]
async fn a_full_quorum_queue_refuses_sooner_or_later() {
    let client = Client::new().await;
    let arguments = [("x-max-length", number(3)), ("x-overflow", text("reject-publish"))];
    client.queue_of_type("quorum", "q", arguments).await;
    let mut taken = 0;
    while client.try_publish("", "q", "a", BasicProperties::default()).await.is_ack() {
        taken += 1;
        assert!(taken < 1000, "it takes everything");
    }
    // The publisher's side learns with a delay that the queue is full, so a quorum queue may take some more.
    assert!((3..10).contains(&taken), "{taken}");
    assert_eq!(client.drain("q").await.len(), taken);
}

#[tokio::test]
async fn overflow_that_a_type_does_not_know_is_refused() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    let mut rows = vec![];
    for (queue_type, overflow, reference) in [
        ("classic", "reject-publish-dlx", "queue.declare-ok"),
        ("quorum", "reject-publish-dlx", "queue.declare-ok"),
        (
            "stream",
            "reject-publish",
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'stream' in vhost \
                'VHOST' of queue type rabbit_stream_queue (50, 10)",
        ),
    ] {
        let name = format!("overflow of a {queue_type} queue: {overflow}");
        let arguments = [("x-queue-type", text(queue_type)), ("x-overflow", text(overflow))];
        rows.push((name, wire.outcome(crate::kit::declare(queue_type, arguments)).await, reference));
    }
    client.place.all_answer(rows);
}
