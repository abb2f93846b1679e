//! Prefetch of consumers, and the order in which they get deliveries.

use amq_protocol::protocol::{AMQPClass, basic};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions};

use crate::kit::{Call as _, Client, Frame, Wire, body, consume, in_time, number, qos, table};

#[tokio::test]
async fn prefetch_bounds_what_is_in_hand() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        for n in 0..5 {
            client.send(queue_type, &n.to_string()).await;
        }
        let mut subscription = client.consume(queue_type, 2).await;
        assert_eq!(subscription.bodies(1).await, ["0"]);
        let second = subscription.next().await;
        assert!(subscription.is_silent().await, "{queue_type}: a third is in hand");
        in_time(second.ack(BasicAckOptions::default())).await.unwrap();
        assert_eq!(subscription.bodies(1).await, ["2"]);
        assert!(subscription.is_silent().await, "{queue_type}: one ack, one delivery");
    }
}

#[tokio::test]
async fn prefetch_is_each_consumers_own() {
    let client = Client::new().await;
    client.queue("one", []).await;
    client.queue("two", []).await;
    for n in 0..6 {
        client.send("one", &n.to_string()).await;
        client.send("two", &n.to_string()).await;
    }
    let mut wire = client.wire().await;
    let rows = [
        ("qos 1", qos(1).class(), "basic.qos-ok"),
        ("consume with 1", consume("one", "a").class(), "basic.consume-ok"),
    ];
    wire.outcomes(rows).await;
    let mut deliveries = vec![delivered(&mut wire).await];
    assert_eq!(wire.outcome(qos(3)).await, "basic.qos-ok");
    assert_eq!(wire.outcome(consume("two", "b")).await, "basic.consume-ok");
    for _ in 0..3 {
        deliveries.push(delivered(&mut wire).await);
    }
    assert_eq!(deliveries, ["a", "b", "b", "b"]);
    client.until_ready("one", 5).await;
    client.until_ready("two", 3).await;
}

#[tokio::test]
async fn no_prefetch_is_no_bound() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for n in 0..300 {
        client.send("q", &n.to_string()).await;
    }
    let mut subscription = client.consume("q", 0).await;
    assert_eq!(subscription.bodies(300).await.last().unwrap(), "299");
}

#[tokio::test]
async fn a_prefetch_is_for_consumers_to_come() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut subscription = client.consume("q", 1).await;
    in_time(subscription.channel.basic_qos(5, Default::default())).await.unwrap();
    for n in 0..3 {
        client.send("q", &n.to_string()).await;
    }
    assert_eq!(subscription.bodies(1).await, ["0"]);
    assert!(subscription.is_silent().await, "it began with one, and one it is");
}

#[tokio::test]
async fn a_prefetch_for_the_whole_channel() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    let answer = wire.outcome(basic::Qos { prefetch_count: 1, global: true }).await;
    client.answers("global qos", answer, "basic.qos-ok");
}

#[tokio::test]
async fn a_prefetch_size_is_not_implemented() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    // basic.qos with a prefetch size of 1, which the codec does not write.
    wire.raw(&[1, 0, 1, 0, 0, 0, 11, 0, 60, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0xCE]).await;
    let reference = "connection 540 NOT_IMPLEMENTED - prefetch_size!=0 (1) (60, 10)";
    assert_eq!(wire.answer().await, reference);
}

#[tokio::test]
async fn consumers_take_turns() {
    let client = Client::new().await;
    for queue_type in ["classic", "quorum"] {
        client.queue_of_type(queue_type, queue_type, []).await;
        let mut consumers = vec![];
        for _ in 0..3 {
            consumers.push(client.consume(queue_type, 10).await);
        }
        for n in 0..9 {
            client.send(queue_type, &n.to_string()).await;
        }
        let mut got = vec![];
        for consumer in &mut consumers {
            got.push(consumer.bodies(3).await);
        }
        got.sort();
        assert_eq!(got, [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]], "{queue_type}");
    }
}

#[tokio::test]
async fn a_busy_consumer_is_passed_over() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut busy = client.consume("q", 1).await;
    client.send("q", "0").await;
    assert_eq!(busy.bodies(1).await, ["0"]);
    let mut free = client.consume("q", 10).await;
    for n in 1..6 {
        client.send("q", &n.to_string()).await;
    }
    assert_eq!(free.bodies(5).await, ["1", "2", "3", "4", "5"]);
    assert!(busy.is_silent().await);
}

#[tokio::test]
async fn consumers_of_higher_priority_go_first() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let arguments = table([("x-priority", number(10))]);
    let prior = basic::Consume { arguments, ..consume("q", "") };
    if !client.does("x-priority of a consumer", prior, "basic.consume-ok").await {
        return;
    }
    let options = BasicConsumeOptions::default();
    let mut low = client.consume_with("q", 1, options, []).await;
    let mut high = client.consume_with("q", 2, options, [("x-priority", number(10))]).await;
    for n in 0..4 {
        client.send("q", &n.to_string()).await;
    }
    let mut got = high.bodies(1).await;
    got.extend(low.bodies(1).await);
    client.answers("x-priority of consumers", got, ["0", "2"]);
}

#[tokio::test]
async fn what_a_consumer_gives_back_another_gets() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let (mut one, mut two) = (client.consume("q", 1).await, client.consume("q", 1).await);
    client.send("q", "a").await;
    client.send("q", "b").await;
    let (first, second) = (one.next().await, two.next().await);
    assert_ne!(body(&first), body(&second));
    in_time(first.nack(BasicNackOptions { requeue: true, ..Default::default() })).await.unwrap();
    // Only the first has room again.
    let again = one.next().await;
    assert_eq!((body(&again), again.redelivered), (body(&first), true));
}

/// Reads one delivery with its content; the consumer's tag.
async fn delivered(wire: &mut Wire) -> String {
    let tag = match wire.next().await {
        Frame::Method(_, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))) => {
            deliver.consumer_tag.to_string()
        }
        other => panic!("{other:?}"),
    };
    wire.content().await;
    tag
}
