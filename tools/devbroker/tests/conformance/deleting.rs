//! Deleted queues, and who is notified of them.

use amq_protocol::protocol::{AMQPClass, basic, queue};
use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};

use crate::kit::{Call as _, Client, Frame, consume, declare, in_time};

#[tokio::test]
async fn an_exclusive_queue_goes_with_its_connection() {
    let client = Client::new().await;
    let owner = client.another().await;
    let options = QueueDeclareOptions::exclusive();
    in_time(owner.channel.queue_declare("q".into(), options, FieldTable::default())).await.unwrap();
    in_time(owner.connection.close(200, "done".into())).await.unwrap();
    client.until_gone("q").await;
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let client = Client::new().await;
    let options = QueueDeclareOptions::durable().auto_delete();
    in_time(client.channel.queue_declare("q".into(), options, FieldTable::default())).await.unwrap();
    client.send("q", "a").await;
    let (mut one, two) = (client.consume("q", 1).await, client.consume("q", 1).await);
    assert_eq!(one.bodies(1).await, ["a"]);
    in_time(two.channel.basic_cancel(two.consumer.tag(), Default::default())).await.unwrap();
    assert_eq!(client.counts("q").await, Some((0, 1)));
    in_time(one.channel.close(200, "done".into())).await.unwrap();
    client.until_gone("q").await;
}

#[tokio::test]
async fn an_auto_delete_queue_that_nobody_consumed_stays() {
    let client = Client::new().await;
    let other = client.another().await;
    let options = QueueDeclareOptions::durable().auto_delete();
    in_time(other.channel.queue_declare("q".into(), options, FieldTable::default())).await.unwrap();
    in_time(other.connection.close(200, "done".into())).await.unwrap();
    assert_eq!(client.counts("q").await, Some((0, 0)));
}

#[tokio::test]
async fn a_purge_takes_what_is_ready_and_counts_it() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for text in ["a", "b", "c"] {
        client.send("q", text).await;
    }
    let in_hand = client.until_get("q").await;
    let purged = in_time(client.channel.queue_purge("q".into(), Default::default())).await.unwrap();
    assert_eq!(purged, 2);
    in_time(in_hand.nack(lapin::options::BasicNackOptions { requeue: true, ..Default::default() }))
        .await
        .unwrap();
    assert_eq!(client.until_drained("q", 1).await, ["a"]);
}

#[tokio::test]
async fn a_delete_counts_what_was_ready() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for text in ["a", "b", "c"] {
        client.send("q", text).await;
    }
    let _in_hand = client.until_get("q").await;
    let deleted =
        in_time(client.channel.queue_delete("q".into(), QueueDeleteOptions::default())).await.unwrap();
    assert_eq!(deleted, 2, "what is in hand does not count");
    assert_eq!(client.counts("q").await, None);
}

#[tokio::test]
async fn a_delete_can_be_bound_to_conditions() {
    let client = Client::new().await;
    client.queue("full", []).await;
    client.send("full", "a").await;
    client.queue("used", []).await;
    let subscription = client.consume("used", 1).await;
    let mut wire = client.wire().await;
    let delete = |queue: &str, if_unused, if_empty| -> AMQPClass {
        queue::Delete { queue: queue.into(), if_unused, if_empty, nowait: false }.class()
    };
    wire.outcomes([
        (
            "delete if empty",
            delete("full", false, true),
            "channel 406 PRECONDITION_FAILED - queue 'full' in vhost 'VHOST' not empty (50, 40)",
        ),
        (
            "delete if unused",
            delete("used", true, false),
            "channel 406 PRECONDITION_FAILED - queue 'used' in vhost 'VHOST' in use (50, 40)",
        ),
        ("delete if empty, used", delete("used", false, true), "queue.delete-ok"),
        ("delete if unused, full", delete("full", true, false), "queue.delete-ok"),
    ])
    .await;
    drop(subscription);
}

#[tokio::test]
async fn a_consumer_is_told_when_its_queue_is_deleted() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    assert_eq!(wire.outcome(consume("q", "mine")).await, "basic.consume-ok");
    in_time(client.channel.queue_delete("q".into(), QueueDeleteOptions::default())).await.unwrap();
    match wire.next().await {
        Frame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))) => {
            assert_eq!((cancel.consumer_tag.as_str(), cancel.nowait), ("mine", true));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(wire.outcome(declare("q", [])).await, "queue.declare-ok", "the channel goes on");
}
