//! Where a broker may answer otherwise than RabbitMQ 4.0, each with its reason: the whole list, for users of `devbroker` to read.
//!
//! A test names its difference by key, in [`Client::answers`](crate::kit::Client::answers) or its like. What stands here is
//! what is found there *instead*, so a difference that goes away, or becomes another one, fails its test.

use e2e::broker::Product;

/// The brokers that are held against the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    /// RabbitMQ 4.0, the reference: what the tests themselves say. A later 4 is held against the same answers.
    RabbitMq40,
    /// RabbitMQ 3.10, which Debian 12 has.
    RabbitMq310,
    /// `tools/devbroker`.
    Dev,
}

impl Broker {
    pub(crate) fn of(product: &Product) -> Self {
        match product {
            Product::DevBroker => Self::Dev,
            Product::RabbitMq { version } if version.starts_with("4.") => Self::RabbitMq40,
            Product::RabbitMq { version } if version.starts_with("3.10.") => Self::RabbitMq310,
            Product::RabbitMq { version } => panic!("nobody has compared RabbitMQ {version} with 4.0"),
        }
    }
}

/// One answer of one broker that is not the reference's.
pub(crate) struct Difference {
    /// Key under which a test asks for it.
    pub(crate) key: &'static str,
    /// Whose answer it is.
    pub(crate) on: Broker,
    /// The answer, as `{:?}` prints it.
    pub(crate) answer: &'static str,
    /// Why it is allowed.
    pub(crate) reason: &'static str,
}

// Reasons that stand more than once.
const NO_CONSUMER_PRIORITIES: &str = "consumers take turns, all alike";
const NO_EXCLUSIVE_CONSUMERS: &str = "x-single-active-consumer does this with a successor";
const ONLY_REJECT_PUBLISH: &str =
    "a full queue refuses with a nack and drops nothing, so that nothing confirmed is lost";
const NO_CHAINS: &str =
    "a message goes from one exchange to queues; only the alternate exchange leads to another";
const NO_RECOVER: &str = "nack gives back the same, and one by one";
const NO_TIMES: &str = "entries of a stream have an offset and no time";

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    on_310("mechanisms", r#"["AMQPLAIN", "PLAIN"]"#, "4.0 added ANONYMOUS for AMQP 1.0"),
    on_310(
        "another protocol's greeting",
        "[65, 77, 81, 80, 0, 0, 9, 1]",
        "AMQP 1.0 is a core protocol of the broker since 4.0 only",
    ),
    on_310("x-last-death", r#""none none none""#, "RabbitMQ has the x-last-death headers since 3.13"),
    on_310(
        "x-last-death of a retry",
        r#""none none none""#,
        "RabbitMQ has the x-last-death headers since 3.13",
    ),
    on_310(
        "x-last-death after five deaths",
        r#""none none none""#,
        "RabbitMQ has the x-last-death headers since 3.13",
    ),
    on_310(
        "x-death that a client wrote",
        r#"["count=6 exchange= queue=q reason=rejected routing-keys=[q]"]"#,
        "RabbitMQ believes a client's x-death before 4.0, which is why every copy is published without it",
    ),
    on_310(
        "unknown exchange type",
        r#""connection 503 COMMAND_INVALID - unknown exchange type 'x-spiral' (40, 10)""#,
        "closes the channel only since 4.0",
    ),
    on_310(
        "no exchange type",
        r#""connection 503 COMMAND_INVALID - invalid exchange type '' (40, 10)""#,
        "closes the channel only since 4.0",
    ),
    on_310(
        "requeue in a quorum queue",
        r#"["1", "2", "3", "0"]"#,
        "a quorum queue puts what comes back behind what waits before 4.0",
    ),
    on_310(
        "order of returns to a quorum queue",
        r#"["d", "c", "a", "b"]"#,
        "a quorum queue puts what comes back behind what waits before 4.0",
    ),
    on_310(
        "priorities in a quorum queue",
        r#"["0", "1", "2", "3", "4", "5"]"#,
        "quorum queues have the two priorities since 4.0",
    ),
    on_310(
        "bodies of 16 MiB and one byte more",
        r#"["nothing", "nothing"]"#,
        "the limit is 128 MiB before 4.0",
    ),
    on_310(
        "headers of a first get from a quorum queue",
        r#"Some(FieldTable({ShortString("x-delivery-count"): LongLongInt(0)}))"#,
        "a count of nothing is a header there",
    ),
    on_310("delivery count of a first get", "Some(LongLongInt(0))", "a count of nothing is a header there"),
    on_310(
        "quorum, again as classic",
        "\"channel 406 PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost \
            'VHOST': received none but current is the value 'quorum' of type 'longstr' (50, 10)\"",
        "does not say that no type means classic",
    ),
    on_310("a 22nd delivery", "true", "quorum queues have a limit that nobody asked for since 4.0"),
    on_310(
        "delivery mode out of a stream",
        "None",
        "a stream's entries are AMQP 1.0 messages, which say this always, since 3.13",
    ),
    on_310(
        "stream: consume without prefetch",
        "\"channel 406 PRECONDITION_FAILED - consumer prefetch count is not set for 'queue 's' in vhost \
            'VHOST'' (60, 20)\"",
        "other words for the same",
    ),
    on_310(
        "stream: consume without acks",
        "\"connection 540 NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queues \
            queue 's' in vhost 'VHOST' (60, 20)\"",
        "other words for the same",
    ),
    on_310(
        "stream: nack",
        "\"connection 540 NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues \
            queue 's' in vhost 'VHOST' (60, 120)\"",
        "3.10 closes the connection, 4.0 takes it for an ack: only ever ack",
    ),
    on_310(
        "stream: requeue",
        "\"connection 540 NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues \
            queue 's' in vhost 'VHOST' (60, 120)\"",
        "3.10 closes the connection, 4.0 takes it for an ack: only ever ack",
    ),
    on_310(
        "stream: reject",
        "\"connection 540 NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues \
            queue 's' in vhost 'VHOST' (60, 90)\"",
        "3.10 closes the connection, 4.0 takes it for an ack: only ever ack",
    ),
    on_dev("mechanisms", r#"["PLAIN"]"#, "its only user is guest, so one way to log in is enough"),
    on_dev(
        "another protocol's greeting",
        "[65, 77, 81, 80, 0, 0, 9, 1]",
        "it speaks AMQP 0-9-1 alone and names that",
    ),
    on_dev(
        "a method that does not exist",
        r#""connection 502 SYNTAX_ERROR - a frame cannot be read (0, 0)""#,
        "RabbitMQ hangs up without a word; it says why",
    ),
    on_dev(
        "unknown virtual host",
        r#""connection.open-ok""#,
        "virtual hosts are made on first use, since nothing else makes them",
    ),
    on_dev(
        "tx.select in confirm mode",
        r#""connection 540 NOT_IMPLEMENTED - tx.select (90, 10)""#,
        "has no transactions, which confirms have replaced",
    ),
    on_dev(
        "tx.commit before tx.select",
        r#""connection 540 NOT_IMPLEMENTED - tx.commit (90, 20)""#,
        "has no transactions, which confirms have replaced",
    ),
    on_dev(
        "tx.select",
        r#""connection 540 NOT_IMPLEMENTED - tx.select (90, 10)""#,
        "has no transactions, which confirms have replaced",
    ),
    on_dev(
        "tx.rollback",
        r#""connection 540 NOT_IMPLEMENTED - tx.rollback (90, 30)""#,
        "has no transactions, which confirms have replaced",
    ),
    on_dev(
        "tx.commit",
        r#""connection 540 NOT_IMPLEMENTED - tx.commit (90, 20)""#,
        "has no transactions, which confirms have replaced",
    ),
    on_dev(
        "access.request",
        r#""connection 540 NOT_IMPLEMENTED - access.request (30, 10)""#,
        "RabbitMQ takes it for clients of AMQP 0-8; no client of today says it",
    ),
    on_dev(
        "x-priority that is no number",
        r#""connection 540 NOT_IMPLEMENTED - x-priority (60, 20)""#,
        NO_CONSUMER_PRIORITIES,
    ),
    on_dev(
        "x-priority of a consumer",
        r#""connection 540 NOT_IMPLEMENTED - x-priority (60, 20)""#,
        NO_CONSUMER_PRIORITIES,
    ),
    on_dev(
        "exclusive consumer",
        r#""connection 540 NOT_IMPLEMENTED - exclusive consumers (60, 20)""#,
        NO_EXCLUSIVE_CONSUMERS,
    ),
    on_dev(
        "exclusive consumer of a single active queue",
        r#""connection 540 NOT_IMPLEMENTED - exclusive consumers (60, 20)""#,
        NO_EXCLUSIVE_CONSUMERS,
    ),
    on_dev(
        "stream: consume as the only one",
        r#""connection 540 NOT_IMPLEMENTED - exclusive consumers (60, 20)""#,
        NO_EXCLUSIVE_CONSUMERS,
    ),
    on_dev(
        "x-max-length with drop-head",
        r#""connection 540 NOT_IMPLEMENTED - x-max-length without x-overflow=reject-publish (50, 10)""#,
        ONLY_REJECT_PUBLISH,
    ),
    on_dev(
        "x-overflow=reject-publish-dlx",
        r#""connection 540 NOT_IMPLEMENTED - x-overflow other than reject-publish (50, 10)""#,
        ONLY_REJECT_PUBLISH,
    ),
    on_dev(
        "x-overflow of a second declaration",
        r#""connection 540 NOT_IMPLEMENTED - x-overflow other than reject-publish (50, 10)""#,
        ONLY_REJECT_PUBLISH,
    ),
    on_dev(
        "overflow of a classic queue: reject-publish-dlx",
        r#""connection 540 NOT_IMPLEMENTED - x-overflow other than reject-publish (50, 10)""#,
        ONLY_REJECT_PUBLISH,
    ),
    on_dev(
        "overflow of a quorum queue: reject-publish-dlx",
        r#""connection 540 NOT_IMPLEMENTED - x-overflow other than reject-publish (50, 10)""#,
        ONLY_REJECT_PUBLISH,
    ),
    on_dev(
        "quorum with at-least-once with drop-head",
        r#""connection 540 NOT_IMPLEMENTED - x-overflow other than reject-publish (50, 10)""#,
        ONLY_REJECT_PUBLISH,
    ),
    on_dev(
        "x-max-length-bytes of a queue",
        r#""connection 540 NOT_IMPLEMENTED - x-max-length-bytes (50, 10)""#,
        "queues are bounded by their number of messages; bytes bound streams",
    ),
    on_dev(
        "a message's expiration",
        r#""connection 540 NOT_IMPLEMENTED - a message's expiration (60, 40)""#,
        "messages expire by their queue's time, so that the first to expire is the first in the queue",
    ),
    on_dev("exchange internal", r#""connection 540 NOT_IMPLEMENTED - internal=true (40, 10)""#, NO_CHAINS),
    on_dev("internal exchange", r#""connection 540 NOT_IMPLEMENTED - internal=true (40, 10)""#, NO_CHAINS),
    on_dev("exchange.bind", r#""connection 540 NOT_IMPLEMENTED - exchange.bind (40, 30)""#, NO_CHAINS),
    on_dev("exchange.unbind", r#""connection 540 NOT_IMPLEMENTED - exchange.unbind (40, 40)""#, NO_CHAINS),
    on_dev("capability consumer_priorities", r#"false"#, NO_CONSUMER_PRIORITIES),
    on_dev("capability exchange_exchange_bindings", r#"false"#, NO_CHAINS),
    on_dev(
        "global qos",
        r#""connection 540 NOT_IMPLEMENTED - basic.qos with global=true (60, 10)""#,
        "prefetch is each consumer's own; RabbitMQ means to drop the other one",
    ),
    on_dev(
        "header CC",
        r#""connection 540 NOT_IMPLEMENTED - the header CC (60, 40)""#,
        "a message has one routing key: bindings say who gets copies",
    ),
    on_dev(
        "header BCC",
        r#""connection 540 NOT_IMPLEMENTED - the header BCC (60, 40)""#,
        "a message has one routing key: bindings say who gets copies",
    ),
    on_dev("recover", r#""connection 540 NOT_IMPLEMENTED - basic.recover (60, 110)""#, NO_RECOVER),
    on_dev(
        "recover without requeue",
        r#""connection 540 NOT_IMPLEMENTED - basic.recover (60, 110)""#,
        NO_RECOVER,
    ),
    on_dev(
        "recover-async",
        r#""connection 540 NOT_IMPLEMENTED - basic.recover-async (60, 100)""#,
        NO_RECOVER,
    ),
    on_dev("stream with x-max-age 1D", r#""connection 540 NOT_IMPLEMENTED - x-max-age (50, 10)""#, NO_TIMES),
    on_dev(
        "stream with x-max-age soon",
        r#""connection 540 NOT_IMPLEMENTED - x-max-age (50, 10)""#,
        NO_TIMES,
    ),
    on_dev(
        "stream offsets that are times",
        r#"["connection 540 NOT_IMPLEMENTED - x-stream-offset of a time (60, 20)", "connection 540 NOT_IMPLEMENTED - x-stream-offset of a time (60, 20)"]"#,
        NO_TIMES,
    ),
    on_dev(
        "stream header decimal",
        r#""the same""#,
        "RabbitMQ's conversion to AMQP 1.0 breaks on a decimal and ends the connection; it converts nothing",
    ),
];

const fn on_310(key: &'static str, answer: &'static str, reason: &'static str) -> Difference {
    Difference { key, on: Broker::RabbitMq310, answer, reason }
}

const fn on_dev(key: &'static str, answer: &'static str, reason: &'static str) -> Difference {
    Difference { key, on: Broker::Dev, answer, reason }
}

/// Returns the difference that a broker may have; `None` if it has to answer like the reference.
pub(crate) fn allowed(broker: Broker, key: &str) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|difference| difference.on == broker && difference.key == key)
}

#[test]
fn every_difference_is_listed_once_and_looked_for_by_a_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let sources: String = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("differences.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for Difference { key, on, reason, .. } in DIFFERENCES {
        assert!(*on != Broker::RabbitMq40, "{key}: the reference differs from nobody");
        assert!(seen.insert((*key, format!("{on:?}"))), "{key} stands twice");
        assert!(!reason.is_empty(), "{key} has no reason");
        let is_looked_for = sources.split('"').any(|literal| matches(literal, key));
        assert!(is_looked_for, "no test has the key {key:?}");
    }
}

/// Returns whether a format string can produce a text.
fn matches(format: &str, text: &str) -> bool {
    let Some((start, rest)) = format.split_once('{') else { return format == text };
    let end = rest.rsplit_once('}').map_or("", |(_, end)| end);
    start.len() + end.len() >= 4 && text.starts_with(start) && text.ends_with(end)
}
