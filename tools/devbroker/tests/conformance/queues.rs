//! Queues: declaring, finding again, owning, emptying and deleting them.

use amq_protocol::protocol::{basic, queue};
use lapin::{
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::kit::{Call as _, Client, Place, Wire, bind, consume, declare, declare_passive, get, in_time};

#[tokio::test]
async fn a_queue_is_declared_found_and_counted() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    client.send("q", "b").await;
    assert_eq!(client.counts("q").await, Some((2, 0)));
    let _subscription = client.consume("q", 1).await;
    client.until_ready("q", 1).await;
    assert_eq!(client.counts("q").await, Some((1, 1)), "what is in hand is not ready");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let mut wire = Wire::open(&Place::new().await).await;
    let delete = queue::Delete { queue: "q".into(), ..Default::default() };
    let purge = queue::Purge { queue: "q".into(), ..Default::default() };
    let unbind = queue::Unbind { queue: "q".into(), exchange: "amq.direct".into(), ..Default::default() };
    let rows = [
        (
            "declare passive, unknown queue",
            declare_passive("q").class(),
            "channel 404 NOT_FOUND - no queue 'q' in vhost 'VHOST' (50, 10)",
        ),
        (
            "consume, unknown queue",
            consume("q", "").class(),
            "channel 404 NOT_FOUND - no queue 'q' in vhost 'VHOST' (60, 20)",
        ),
        (
            "get, unknown queue",
            get("q").class(),
            "channel 404 NOT_FOUND - no queue 'q' in vhost 'VHOST' (60, 70)",
        ),
        (
            "purge, unknown queue",
            purge.class(),
            "channel 404 NOT_FOUND - no queue 'q' in vhost 'VHOST' (50, 30)",
        ),
        (
            "bind, unknown queue",
            bind("q", "amq.direct", "").class(),
            "channel 404 NOT_FOUND - no queue 'q' in vhost 'VHOST' (50, 20)",
        ),
        ("delete, unknown queue", delete.class(), "queue.delete-ok"),
        ("unbind, unknown queue", unbind.class(), "queue.unbind-ok"),
        (
            "cancel, unknown tag",
            basic::Cancel { consumer_tag: "nobody".into(), nowait: false }.class(),
            "basic.cancel-ok",
        ),
    ];
    wire.outcomes(rows).await;
}

#[tokio::test]
async fn names_of_the_brokers_own_are_refused() {
    let mut wire = Wire::open(&Place::new().await).await;
    let reserved =
        "channel 403 ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*' (50, 10)";
    wire.outcomes([
        ("declare amq.mine", declare("amq.mine", []).class(), reserved),
        (
            "declare passive amq.mine",
            declare_passive("amq.mine").class(),
            "channel 404 NOT_FOUND - no queue 'amq.mine' in vhost 'VHOST' (50, 10)",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_queue_without_a_name_gets_one() {
    let client = Client::new().await;
    let declare = |exclusive| {
        let options = QueueDeclareOptions { exclusive, durable: !exclusive, ..Default::default() };
        client.channel.queue_declare("".into(), options, FieldTable::default())
    };
    let (one, two) = (in_time(declare(true)).await.unwrap(), in_time(declare(false)).await.unwrap());
    assert_ne!(one.name(), two.name());
    for queue in [one, two] {
        assert!(queue.name().as_str().starts_with("amq.gen-"), "{queue:?}");
        client.send(queue.name().as_str(), "a").await;
        assert_eq!(client.drain(queue.name().as_str()).await, ["a"]);
    }
}

#[tokio::test]
async fn no_name_means_the_queue_that_the_channel_declared_last() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    let no_queue = "channel 404 NOT_FOUND - no previously declared queue (60, 70)";
    wire.outcomes([("get, no queue declared before", get("").class(), no_queue)]).await;
    assert_eq!(wire.outcome(declare("q", [])).await, "queue.declare-ok");
    client.send("q", "a").await;
    assert_eq!(wire.outcome(get("")).await, "basic.get-ok");
}

#[tokio::test]
async fn an_exclusive_queue_is_its_connections_alone() {
    let client = Client::new().await;
    let options = QueueDeclareOptions::exclusive();
    in_time(client.channel.queue_declare("q".into(), options, FieldTable::default())).await.unwrap();
    client.send("q", "a").await;
    let mut wire = client.wire().await;
    let locked = |method: u16, class: u16| -> String {
        format!(
            "channel 405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost \
                'VHOST'. It could be originally declared on another ... ({class}, {method})"
        )
    };
    assert_eq!(wire.outcome(declare_passive("q")).await, locked(10, 50));
    assert_eq!(
        wire.outcome(queue::Declare { exclusive: true, durable: false, ..declare("q", []) }).await,
        locked(10, 50)
    );
    assert_eq!(wire.outcome(consume("q", "")).await, locked(20, 60));
    assert_eq!(wire.outcome(get("q")).await, locked(70, 60));
    assert_eq!(wire.outcome(bind("q", "amq.direct", "")).await, locked(20, 50));
    assert_eq!(wire.outcome(queue::Purge { queue: "q".into(), ..Default::default() }).await, locked(30, 50));
    assert_eq!(wire.outcome(queue::Delete { queue: "q".into(), ..Default::default() }).await, locked(40, 50));
    // Anybody may publish to it.
    client.another().await.send("q", "b").await;
    assert_eq!(client.drain("q").await, ["a", "b"]);
}

#[tokio::test]
async fn an_exclusive_consumer_is_the_only_one() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let only = client.consume_with("q", 1, exclusive, []).await;
    let mut wire = client.wire().await;
    let refused = "channel 403 ACCESS_REFUSED - queue 'q' in vhost 'VHOST' in exclusive use (60, 20)";
    assert_eq!(wire.outcome(consume("q", "")).await, refused);
    in_time(only.channel.close(200, "done".into())).await.unwrap();
    assert_eq!(wire.outcome(consume("q", "")).await, "basic.consume-ok");
    let exclusive = basic::Consume { exclusive: true, ..consume("q", "") };
    assert_eq!(wire.outcome(exclusive).await, refused, "there is one already");
}

#[tokio::test]
async fn names_may_be_long_and_of_any_letters() {
    let client = Client::new().await;
    for name in ["ü ✓ / # *.", "x".repeat(255).as_str()] {
        client.queue(name, []).await;
        client.send(name, "a").await;
        assert_eq!(client.drain(name).await, ["a"]);
    }
}

#[tokio::test]
async fn a_virtual_hosts_queues_are_its_own() {
    let (one, two) = (Client::new().await, Client::new().await);
    one.queue("q", []).await;
    assert_eq!((one.counts("q").await, two.counts("q").await), (Some((0, 0)), None));
}
