//! Arguments of queues: their checks, and their equivalence in repeated declarations.

use amq_protocol::protocol::queue;
use lapin::types::AMQPValue;

use crate::kit::{Call as _, Place, Wire, declare, number, text};

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
        "channel 405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost \
            'VHOST'. It could be originally declared on another ... (50, 10)"
    );
    let passive = other(&|declare| (declare.passive, declare.durable) = (true, false));
    assert_eq!(wire.outcome(passive).await, "queue.declare-ok", "a passive declaration asks for nothing");
}

/// Each argument: what it is declared with, what it is declared with again, and how the difference is named.
#[tokio::test]
async fn a_queue_declared_with_other_arguments_is_refused() {
    let mut wire = Wire::open(&Place::new().await).await;
    let table: [(&str, Option<AMQPValue>, Option<AMQPValue>, &str); 13] = [
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
            // With these every broker takes them.
            for (name, needed, value) in [
                ("x-max-length", "x-overflow", "reject-publish"),
                ("x-max-length-bytes", "x-queue-type", "stream"),
            ] {
                if argument == name {
                    declare.arguments.insert(needed.into(), text(value));
                }
            }
            declare
        };
        assert_eq!(wire.outcome(with(&first)).await, "queue.declare-ok", "{argument} {first:?}");
        let found = wire.outcome(with(&second)).await;
        let start = format!(
            "channel 406 PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in \
                vhost 'VHOST': "
        );
        let found = found.strip_prefix(&start).map_or(found.clone(), |rest| rest.replace(" (50, 10)", ""));
        rows.push((format!("{argument} {first:?} again as {second:?}"), found, reference));
    }
    wire.place().all_answer(rows);

    let with = |overflow| declare("overflow", [("x-overflow", text(overflow))]);
    assert_eq!(wire.outcome(with("reject-publish")).await, "queue.declare-ok");
    let answer = wire.outcome(with("drop-head")).await;
    let reference = "channel 406 PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'overflow' in \
        vhost 'VHOST': received 'drop-head' but current is 'reject-publish' (50, 10)";
    wire.place().answers("x-overflow of a second declaration", answer, reference);
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
async fn a_queue_that_is_neither_durable_nor_exclusive() {
    let mut wire = Wire::open(&Place::new().await).await;
    let transient = queue::Declare { durable: false, ..declare("q", []) };
    let answer = wire.outcome(transient).await;
    // RabbitMQ 4.3 refuses it.
    wire.place().answers("transient queue", answer, "queue.declare-ok");
}
