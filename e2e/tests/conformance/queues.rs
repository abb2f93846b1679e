//! Queues: declaring, finding again, owning, emptying and deleting them.

use amq_protocol::protocol::{AMQPClass, basic, queue};
use lapin::{
    options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use crate::kit::{
    Call as _, Client, Frame, Place, Wire, bind, consume, declare, declare_passive, get, in_time, number,
    text,
};

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
async fn a_queue_declared_with_other_properties_is_refused() {
    let mut wire = Wire::open(&Place::new().await).await;
    assert_eq!(wire.outcome(declare("q", [])).await, "queue.declare-ok");
    let other = |change: &dyn Fn(&mut queue::Declare)| {
        let mut declare = declare("q", []);
        change(&mut declare);
        declare.class()
    };
    let refusal = |argument: &str, found: &str, current: &str| {
        format!(
            "channel 406 PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost 'VHOST': \
             received {found} but current is {current} (50, 10)"
        )
    };
    let transient = other(&|declare| declare.durable = false);
    assert_eq!(wire.outcome(transient).await, refusal("durable", "'false'", "'true'"));
    let auto_delete = other(&|declare| declare.auto_delete = true);
    assert_eq!(wire.outcome(auto_delete).await, refusal("auto_delete", "'true'", "'false'"));
    let exclusive = wire.outcome(other(&|declare| declare.exclusive = true)).await;
    assert_eq!(
        exclusive,
        "channel 405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost 'VHOST'. It could be originally declared on another connection or the exclusive property value does not match ... (50, 10)"
    );
    let passive = other(&|declare| (declare.passive, declare.durable) = (true, false));
    assert_eq!(wire.outcome(passive).await, "queue.declare-ok", "a passive declaration asks for nothing");
}

/// Each argument: what it is declared with, what it is declared with again, and how the difference is named.
#[tokio::test]
async fn a_queue_declared_with_other_arguments_is_refused() {
    let mut wire = Wire::open(&Place::new().await).await;
    let table: [(&str, Option<AMQPValue>, Option<AMQPValue>, &str); 14] = [
        ("x-message-ttl", Some(number(1000)), Some(number(2000)), "received '2000' but current is '1000'"),
        (
            "x-message-ttl",
            Some(number(1000)),
            None,
            "received none but current is the value '1000' of type 'signedint'",
        ),
        (
            "x-message-ttl",
            None,
            Some(number(1000)),
            "received the value '1000' of type 'signedint' but current is none",
        ),
        ("x-message-ttl", Some(number(1000)), Some(AMQPValue::LongLongInt(1000)), "queue.declare-ok"),
        ("x-message-ttl", Some(number(1000)), Some(AMQPValue::ShortInt(1000)), "queue.declare-ok"),
        (
            "x-expires",
            Some(number(100_000)),
            Some(number(200_000)),
            "received '200000' but current is '100000'",
        ),
        ("x-max-length", Some(number(1)), Some(number(2)), "received '2' but current is '1'"),
        ("x-max-length-bytes", Some(number(1)), Some(number(2)), "received '2' but current is '1'"),
        (
            "x-overflow",
            Some(text("reject-publish")),
            Some(text("drop-head")),
            "received 'drop-head' but current is 'reject-publish'",
        ),
        ("x-dead-letter-exchange", Some(text("a")), Some(text("b")), "received 'b' but current is 'a'"),
        ("x-max-priority", Some(number(5)), Some(number(6)), "received '6' but current is '5'"),
        (
            "x-single-active-consumer",
            Some(AMQPValue::Boolean(true)),
            None,
            "received none but current is the value 'true' of type 'bool'",
        ),
        (
            "x-queue-type",
            Some(text("classic")),
            Some(text("quorum")),
            "received 'quorum' but current is 'classic'",
        ),
        ("x-queue-type", None, Some(text("classic")), "queue.declare-ok"),
    ];
    let mut rows = vec![];
    for (n, (argument, first, second, reference)) in table.into_iter().enumerate() {
        let name = format!("q{n}");
        let with = |value: &Option<AMQPValue>| {
            let mut declare = declare(&name, []);
            if let Some(value) = value {
                declare.arguments.insert(argument.into(), value.clone());
            }
            declare
        };
        assert_eq!(wire.outcome(with(&first)).await, "queue.declare-ok", "{argument} {first:?}");
        let found = wire.outcome(with(&second)).await;
        let start = format!(
            "channel 406 PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in vhost 'VHOST': "
        );
        let found = found.strip_prefix(&start).map_or(found.clone(), |rest| rest.replace(" (50, 10)", ""));
        rows.push((format!("{argument} {first:?} again as {second:?}"), found, reference));
    }
    wire.place().all_answer(rows);
}

/// Arguments that no queue takes.
#[tokio::test]
async fn arguments_are_checked() {
    let mut wire = Wire::open(&Place::new().await).await;
    let mut rows = vec![];
    let table: [(&str, AMQPValue, &str); 22] = [
        ("x-message-ttl", number(-1), "invalid: {value_negative,-1}"),
        ("x-message-ttl", text("1000"), "invalid: \"expected integer, got longstr\""),
        ("x-message-ttl", AMQPValue::LongLongInt(99_999_999_999), "queue.declare-ok"),
        ("x-message-ttl", number(0), "queue.declare-ok"),
        ("x-expires", number(0), "invalid: {value_zero,0}"),
        ("x-expires", number(-1), "invalid: {value_negative,-1}"),
        ("x-max-length", number(-1), "invalid: {value_negative,-1}"),
        ("x-max-length", text("1"), "invalid: \"expected integer, got longstr\""),
        ("x-max-length-bytes", number(-1), "invalid: {value_negative,-1}"),
        ("x-max-priority", number(256), "invalid: {max_value_exceeded,256}"),
        ("x-max-priority", number(-1), "invalid: {value_negative,-1}"),
        ("x-max-priority", number(0), "queue.declare-ok"),
        ("x-overflow", text("burst"), "invalid: invalid_overflow"),
        ("x-overflow", number(1), "invalid: {unacceptable_type,signedint}"),
        (
            "x-dead-letter-exchange",
            number(1),
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost 'VHOST'",
        ),
        ("x-dead-letter-routing-key", text("key"), "invalid: routing_key_but_no_dlx_defined"),
        ("x-queue-type", text("triangular"), "invalid: \"unsupported queue type 'triangular'\""),
        ("x-queue-type", number(1), "invalid: {unacceptable_type,signedint}"),
        ("x-single-active-consumer", text("true"), "invalid: {unacceptable_type,longstr}"),
        ("x-delivery-limit", number(5), "invalid of queue type rabbit_classic_queue"),
        ("x-max-age", text("1D"), "invalid of queue type rabbit_classic_queue"),
        ("x-unknown", text("anything"), "queue.declare-ok"),
    ];
    for (n, (argument, value, reference)) in table.into_iter().enumerate() {
        let key = format!("{argument} {value:?}");
        let found = wire.outcome(declare(&format!("q{n}"), [(argument, value)])).await;
        let start = format!("invalid arg '{argument}' for queue 'q{n}' in vhost 'VHOST'");
        let found = found.replace("channel 406 PRECONDITION_FAILED - ", "").replace(&start, "invalid");
        let found = found.replace(" (50, 10)", "").replace(&format!("'q{n}'"), "'q'");
        rows.push((key, found, reference));
    }
    wire.place().all_answer(rows);
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
            "channel 405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost 'VHOST'. It could be originally declared on another connection or the exclusive property value does not match that o... ({class}, {method})"
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
async fn a_queue_that_is_neither_durable_nor_exclusive() {
    let mut wire = Wire::open(&Place::new().await).await;
    let transient = queue::Declare { durable: false, ..declare("q", []) };
    let answer = wire.outcome(transient).await;
    // RabbitMQ 4.3 refuses it.
    wire.place().answers("transient queue", answer, "queue.declare-ok");
}

#[tokio::test]
async fn a_virtual_hosts_queues_are_its_own() {
    let (one, two) = (Client::new().await, Client::new().await);
    one.queue("q", []).await;
    assert_eq!((one.counts("q").await, two.counts("q").await), (Some((0, 0)), None));
}
