//! In which order messages come.

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions},
};

use crate::kit::{Client, Place, Wire, body, declare, in_time, number, text};

#[tokio::test]
async fn first_in_first_out() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        let expected: Vec<_> = (0..50).map(|n| n.to_string()).collect();
        for body in &expected {
            client.send(queue_type, body).await;
        }
        assert_eq!(client.drain(queue_type).await, expected, "{queue_type}");
    }
}

#[tokio::test]
async fn higher_priorities_come_first() {
    let client = Client::new().await;
    client.queue("q", [("x-max-priority", number(5))]).await;
    for (body, priority) in
        [("1", Some(1)), ("none", None), ("5", Some(5)), ("9", Some(9)), ("3", Some(3)), ("5b", Some(5))]
    {
        let mut properties = BasicProperties::default();
        if let Some(priority) = priority {
            properties = properties.with_priority(priority);
        }
        client.publish("", "q", body, properties).await;
    }
    // None is the lowest, and more than the queue knows is its highest.
    assert_eq!(client.drain("q").await, ["5", "9", "5b", "3", "1", "none"]);
}

#[tokio::test]
async fn a_requeued_message_keeps_its_priority() {
    let client = Client::new().await;
    client.queue("q", [("x-max-priority", number(5))]).await;
    for priority in [4, 2, 3] {
        client
            .publish("", "q", &priority.to_string(), BasicProperties::default().with_priority(priority))
            .await;
    }
    let four = client.until_get("q").await;
    assert_eq!(body(&four), "4");
    in_time(four.nack(lapin::options::BasicNackOptions { requeue: true, ..Default::default() }))
        .await
        .unwrap();
    client.until_ready("q", 3).await;
    assert_eq!(client.drain("q").await, ["4", "3", "2"]);
}

#[tokio::test]
async fn a_queue_without_priorities_takes_no_notice_of_them() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for priority in [1, 9, 5] {
        client
            .publish("", "q", &priority.to_string(), BasicProperties::default().with_priority(priority))
            .await;
    }
    assert_eq!(client.drain("q").await, ["1", "9", "5"]);
}

#[tokio::test]
async fn a_quorum_queue_prefers_high_priorities() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    let none = BasicProperties::default();
    client.publish("", "q", "none", none.clone()).await;
    for priority in [0, 3, 4, 5, 9, 31, 32, 255] {
        client.publish("", "q", &priority.to_string(), none.clone().with_priority(priority)).await;
    }
    // 32 priorities, the highest first; a message that has none has 4.
    let order = client.drain("q").await;
    let reference = ["31", "32", "255", "9", "5", "none", "4", "3", "0"];
    client.answers("priorities in a quorum queue", order, reference);
}

#[tokio::test]
async fn a_quorum_queue_has_no_priorities_to_be_declared() {
    let mut wire = Wire::open(&Place::new().await).await;
    let declare = declare("q", [("x-queue-type", text("quorum")), ("x-max-priority", number(5))]);
    let reference = "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in \
        vhost 'VHOST' of queue type rabbit_quorum_queue (50, 10)";
    assert_eq!(wire.outcome(declare).await, reference);
}

#[tokio::test]
async fn one_publishers_messages_come_in_its_order_through_any_exchange() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for key in ["a", "b"] {
        client.bind("q", "amq.direct", key, []).await;
    }
    client.bind("q", "amq.fanout", "", []).await;
    for n in 0..12 {
        let (exchange, key) =
            [("", "q"), ("amq.direct", "a"), ("amq.fanout", ""), ("amq.direct", "b")][n % 4];
        client.publish(exchange, key, &n.to_string(), BasicProperties::default()).await;
    }
    let expected: Vec<_> = (0..12).map(|n| n.to_string()).collect();
    assert_eq!(client.drain("q").await, expected);
}

#[tokio::test]
async fn a_message_taken_and_returned_goes_before_the_younger() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    for n in 0..4 {
        client.send("q", &n.to_string()).await;
    }
    let mut subscription = client.consume_with("q", 1, BasicConsumeOptions::default(), []).await;
    let first = subscription.next().await;
    in_time(first.nack(lapin::options::BasicNackOptions { requeue: true, ..Default::default() }))
        .await
        .unwrap();
    let mut order = vec![];
    for _ in 0..4 {
        let delivery = subscription.next().await;
        order.push(body(&delivery));
        in_time(delivery.ack(BasicAckOptions::default())).await.unwrap();
    }
    client.answers("requeue in a quorum queue", order, ["0", "1", "2", "3"]);
}
