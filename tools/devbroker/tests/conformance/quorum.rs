//! Quorum queues where they differ from classic ones: refused arguments, and delivery limits.

use e2e::wait::until;
use lapin::{
    options::{BasicNackOptions, BasicRejectOptions, QueueDeclareOptions},
    types::AMQPValue,
};

use crate::{
    failures::counters,
    kit::{Call as _, Client, LIMIT, Place, Wire, body, consume, declare, header, in_time, number, text},
};
use amq_protocol::protocol::{basic, queue};

fn quorum() -> (&'static str, AMQPValue) {
    ("x-queue-type", text("quorum"))
}

#[tokio::test]
async fn a_quorum_queue_is_durable_and_shared() {
    let mut wire = Wire::open(&Place::new().await).await;
    let with = |change: fn(&mut queue::Declare)| {
        let mut declare = declare("q", [quorum()]);
        change(&mut declare);
        declare.class()
    };
    wire.outcomes([
        (
            "quorum, transient",
            with(|q| q.durable = false),
            "channel 406 PRECONDITION_FAILED - invalid \
            property 'non-durable' for queue 'q' in vhost 'VHOST' (50, 10)",
        ),
        (
            "quorum, exclusive",
            with(|q| q.exclusive = true),
            "channel 406 PRECONDITION_FAILED - invalid \
            property 'exclusive-owner' for queue 'q' in vhost 'VHOST' (50, 10)",
        ),
        (
            "quorum, auto-delete",
            with(|q| q.auto_delete = true),
            "channel 406 PRECONDITION_FAILED - \
            invalid property 'auto-delete' for queue 'q' in vhost 'VHOST' (50, 10)",
        ),
        (
            "quorum, server-named",
            with(|q| q.queue = "".into()),
            "channel 406 PRECONDITION_FAILED - \
            Cannot declare a server-named queue for type rabbit_quorum_queue (50, 10)",
        ),
        ("quorum", with(|_| {}), "queue.declare-ok"),
        ("quorum, again", with(|_| {}), "queue.declare-ok"),
        (
            "quorum, again as classic",
            declare("q", []).class(),
            "channel 406 PRECONDITION_FAILED - \
            inequivalent arg 'x-queue-type' for queue 'q' in vhost 'VHOST': received 'classic' but \
            current is 'quorum' (50, 10)",
        ),
    ])
    .await;
}

/// A key, arguments, and what comes of a declaration with them.
type Row = (&'static str, Vec<(&'static str, AMQPValue)>, &'static str);

#[tokio::test]
async fn arguments_of_quorum_queues_are_checked() {
    let mut wire = Wire::open(&Place::new().await).await;
    let strategy = |value| ("x-dead-letter-strategy", text(value));
    let mut rows = vec![];
    let table: [Row; 10] = [
        ("delivery limit", vec![("x-delivery-limit", number(5))], "queue.declare-ok"),
        ("delivery limit 0", vec![("x-delivery-limit", number(0))], "queue.declare-ok"),
        ("delivery limit -1", vec![("x-delivery-limit", number(-1))], "queue.declare-ok"),
        ("delivery limit of text", vec![("x-delivery-limit", text("5"))], "queue.declare-ok"),
        (
            "unknown strategy",
            vec![strategy("exactly-once")],
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-dead-letter-strategy' for queue 'q' in \
                vhost 'VHOST': invalid_dlx_strategy (50, 10)",
        ),
        ("at-least-once without exchange", vec![strategy("at-least-once")], "queue.declare-ok"),
        (
            "at-least-once with drop-head",
            vec![
                strategy("at-least-once"),
                ("x-dead-letter-exchange", text("")),
                ("x-overflow", text("drop-head")),
            ],
            "queue.declare-ok",
        ),
        ("group size", vec![("x-quorum-initial-group-size", number(1))], "queue.declare-ok"),
        (
            "x-queue-mode",
            vec![("x-queue-mode", text("lazy"))],
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-queue-mode' for queue 'q' in vhost \
                'VHOST' of queue type rabbit_quorum_queue (50, 10)",
        ),
        (
            "x-max-age",
            vec![("x-max-age", text("1D"))],
            "channel 406 PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in vhost 'VHOST' \
                of queue type rabbit_quorum_queue (50, 10)",
        ),
    ];
    for (n, (key, arguments, reference)) in table.into_iter().enumerate() {
        let name = format!("q{n}");
        let mut declare = declare(&name, [quorum()]);
        for (argument, value) in arguments {
            declare.arguments.insert(argument.into(), value);
        }
        let found = wire.outcome(declare).await.replace(&name, "q");
        rows.push((format!("quorum with {key}"), found, reference));
    }
    wire.place().all_answer(rows);
}

#[tokio::test]
async fn a_quorum_queue_takes_a_channel_wide_prefetch() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    let mut wire = client.wire().await;
    // Where the broker has a channel-wide prefetch at all.
    if wire.outcome(basic::Qos { prefetch_count: 1, global: true }).await == "basic.qos-ok" {
        let answer = wire.outcome(consume("q", "")).await;
        client.answers("channel-wide prefetch on a quorum queue", answer, "basic.consume-ok");
    }
}

#[tokio::test]
async fn a_reject_and_a_lost_consumer_count_as_failures_and_a_nack_does_not() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    client.send("q", "a").await;
    let mut subscription = client.consume("q", 1).await;
    let mut counts = vec![];
    for n in 0..4 {
        let delivery = subscription.next().await;
        counts.push(counters(&delivery));
        let requeue = BasicNackOptions { requeue: true, ..Default::default() };
        if n % 2 == 0 {
            in_time(delivery.nack(requeue)).await.unwrap();
        } else {
            in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
        }
    }
    let reference =
        ["", "redelivered acquired=1", "redelivered acquired=2 failed=1", "redelivered acquired=3 failed=1"];
    client.answers("counters after nack, reject, nack", counts, reference);
}

#[tokio::test]
async fn a_lost_consumer_counts_too() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    client.send("q", "a").await;
    for _ in 0..2 {
        let other = client.another().await;
        let mut subscription = other.consume("q", 1).await;
        assert_eq!(subscription.bodies(1).await, ["a"]);
        in_time(other.connection.close(200, "done".into())).await.unwrap();
    }
    client.until_ready("q", 1).await;
    let delivery = client.until_get("q").await;
    client.answers(
        "counters after two lost consumers",
        counters(&delivery),
        "redelivered acquired=2 failed=2",
    );
}

#[tokio::test]
async fn classic_queues_do_not_count() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", "a").await;
    let delivery = client.until_get("q").await;
    in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    client.until_ready("q", 1).await;
    assert_eq!(header(&client.until_get("q").await, "x-delivery-count"), None);
}

#[tokio::test]
async fn at_its_delivery_limit_a_message_dies() {
    let client = Client::new().await;
    client.queue("dead", []).await;
    let arguments = [
        ("x-delivery-limit", number(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.queue_of_type("quorum", "q", arguments).await;
    client.send("q", "poison").await;
    client.send("q", "good").await;
    let mut subscription = client.consume("q", 1).await;
    let mut seen = vec![];
    loop {
        let delivery = subscription.next().await;
        seen.push(body(&delivery));
        if body(&delivery) == "good" {
            break;
        }
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    assert_eq!(seen, ["poison", "poison", "poison", "good"], "a limit of two is three deliveries");
    let dead = client.until_get("dead").await;
    assert_eq!(header(&dead, "x-first-death-reason"), Some(text("delivery_limit")));
    assert_eq!(header(&dead, "x-delivery-count"), None, "the count is the queue's");
}

#[tokio::test]
async fn a_limit_without_an_exchange_drops() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", [("x-delivery-limit", number(1))]).await;
    client.send("q", "poison").await;
    let mut subscription = client.consume("q", 1).await;
    for _ in 0..2 {
        let delivery = subscription.next().await;
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    client.send("q", "good").await;
    assert_eq!(subscription.bodies(1).await, ["good"]);
}

#[tokio::test]
async fn without_a_limit_of_its_own_a_queue_has_twenty() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    client.send("q", "poison").await;
    let mut subscription = client.consume("q", 1).await;
    let mut deliveries = 0;
    for _ in 0..21 {
        let delivery = subscription.next().await;
        deliveries += 1;
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    client.answers("a 22nd delivery", !subscription.is_silent().await, false);
    assert_eq!(deliveries, 21);
}

#[tokio::test]
async fn a_get_counts_as_acquired() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", [("x-delivery-limit", number(100))]).await;
    client.send("q", "a").await;
    let mut counts = vec![];
    for _ in 0..3 {
        let delivery = client.until_get("q").await;
        counts.push(counters(&delivery));
        in_time(delivery.nack(BasicNackOptions { requeue: true, ..Default::default() })).await.unwrap();
        client.until_ready("q", 1).await;
    }
    let reference = ["", "redelivered acquired=1", "redelivered acquired=2"];
    client.answers("counters after get and nack, twice", counts, reference);
}

#[tokio::test]
async fn a_nack_is_no_failure_and_a_message_that_is_nacked_for_ever_never_dies() {
    let client = Client::new().await;
    client.queue("dead", []).await;
    let arguments = [
        ("x-delivery-limit", number(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.queue_of_type("quorum", "q", arguments).await;
    client.send("q", "a").await;
    let mut deliveries = 0;
    while deliveries < 10 {
        let next = until("it is back, or dead", LIMIT, async || {
            let again = client.get("q").await.map(Some);
            if again.is_none() && client.get("dead").await.is_some() { Some(None) } else { again }
        });
        let Some(again) = next.await else { break };
        deliveries += 1;
        in_time(again.delivery.nack(BasicNackOptions { requeue: true, ..Default::default() })).await.unwrap();
    }
    client.answers("deliveries under a limit of two, each nacked", deliveries, 10);
}

#[tokio::test]
async fn an_exclusive_consumer_of_a_quorum_queue() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    let exclusive = |tag| basic::Consume { exclusive: true, ..consume("q", tag) };
    let mut wire = client.wire().await;
    let mut answers = vec![];
    assert_eq!(wire.outcome(consume("q", "first")).await, "basic.consume-ok");
    answers.push(wire.outcome(exclusive("second")).await);
    let mut wire = client.wire().await;
    answers.push(wire.outcome(exclusive("third")).await);
    answers.push(client.wire().await.outcome(consume("q", "fourth")).await);
    assert_eq!(answers, ["basic.consume-ok"; 3], "a quorum queue takes no notice of it");
}

#[tokio::test]
async fn what_a_quorum_queue_gets_back_comes_before_the_rest_in_the_order_of_its_return() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    for text in ["a", "b", "c", "d"] {
        client.send("q", text).await;
    }
    let (a, b, c) = (client.until_get("q").await, client.until_get("q").await, client.until_get("q").await);
    for delivery in [c, a, b] {
        in_time(delivery.nack(BasicNackOptions { requeue: true, ..Default::default() })).await.unwrap();
    }
    client.until_ready("q", 4).await;
    let order = client.drain("q").await;
    client.answers("order of returns to a quorum queue", order, ["c", "a", "b", "d"]);
}

#[tokio::test]
async fn a_quorum_queue_cannot_be_deleted_on_conditions() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    let mut wire = client.wire().await;
    let delete =
        |if_unused, if_empty| queue::Delete { queue: "q".into(), if_unused, if_empty, nowait: false };
    wire.outcomes([
        ("quorum, delete if unused", delete(true, false).class(), "connection 540 NOT_IMPLEMENTED - \
            cannot delete queue 'q' in vhost 'VHOST'. queue.delete operations with if-unused flag set are not supported by quorum queues (50, 40)"),
        ("quorum, delete if empty", delete(false, true).class(), "connection 540 NOT_IMPLEMENTED - cannot \
            delete queue 'q' in vhost 'VHOST'. queue.delete operations with if-empty flag set are not supported by quorum queues (50, 40)"),
        ("quorum, delete", delete(false, false).class(), "queue.delete-ok"),
    ])
    .await;
}

#[tokio::test]
async fn a_passive_declaration_may_name_any_type() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "q", []).await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let arguments = crate::kit::table([("x-queue-type", text("classic"))]);
    in_time(client.channel.queue_declare("q".into(), passive, arguments)).await.unwrap();
}
