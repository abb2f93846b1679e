//! Where a broker may answer otherwise than RabbitMQ 4.3, each with its reason: the whole list, for users of `devbroker` to read.
//!
//! A test names its difference by key, in [`Client::answers`](crate::kit::Client::answers) or its like. What stands here is
//! what is found there *instead*, so a difference that goes away, or becomes another one, fails its test.

use e2e::broker::Product;

/// The brokers that are held against the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    /// RabbitMQ 4.3, the reference: what the tests themselves say.
    RabbitMq43,
    /// RabbitMQ 4.0, which Debian 13 has.
    RabbitMq40,
    /// `tools/devbroker`.
    Dev,
}

impl Broker {
    pub(crate) fn of(product: &Product) -> Self {
        match product {
            Product::DevBroker => Self::Dev,
            Product::RabbitMq { version } if version.starts_with("4.3.") => Self::RabbitMq43,
            Product::RabbitMq { version } if version.starts_with("4.0.") => Self::RabbitMq40,
            Product::RabbitMq { version } => panic!("nobody has compared RabbitMQ {version} with 4.3"),
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
const EVERY_RETURN_FAILS: &str = "before 4.3 there is one counter, and each return counts, a nack too";
const DEAD_WITHOUT_FAILURES: &str = "before 4.3 a dead letter does not take its failures along; between quorum queues its first delivery shows a count";
const NO_CONSUMER_PRIORITIES: &str = "consumers take turns, all alike";
const ONLY_REJECT_PUBLISH: &str =
    "a full queue refuses with a nack and drops nothing, so that nothing confirmed is lost";
const NO_CHAINS: &str =
    "a message goes from one exchange to queues; only the alternate exchange leads to another";
const NO_RECOVER: &str = "nack gives back the same, and one by one";
const NO_TIMES: &str = "entries of a stream have an offset and no time";

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    on_40(
        "get from a single active quorum queue",
        r#""channel 405 RESOURCE_LOCKED - cannot obtain access to locked queue 'quorum' in vhost 'VHOST'. basic.get operations are not supported by quorum queues with single active consumer (60, 70)""#,
        "4.3 has a slip in the text",
    ),
    on_40("a rejected message is redelivered when dead", r#"false"#, DEAD_WITHOUT_FAILURES),
    on_40(
        "dead letters of a classic in a quorum queue",
        r#""/redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2, /redelivered failed=1/redelivered failed=2""#,
        DEAD_WITHOUT_FAILURES,
    ),
    on_40(
        "dead letters of a quorum in a quorum queue",
        r#""redelivered failed=1/redelivered failed=1/redelivered failed=2, redelivered failed=1/redelivered failed=1/redelivered failed=2, redelivered failed=1/redelivered failed=1/redelivered failed=2, redelivered failed=1/redelivered failed=1/redelivered failed=2, redelivered failed=1/redelivered failed=1/redelivered failed=2, redelivered failed=1/redelivered failed=1/redelivered failed=2, redelivered failed=2/redelivered failed=1/redelivered failed=2, redelivered failed=3/redelivered failed=1/redelivered failed=2""#,
        DEAD_WITHOUT_FAILURES,
    ),
    on_40(
        "dead letters of a quorum in a classic queue",
        r#""/redelivered/redelivered, /redelivered/redelivered, /redelivered/redelivered, /redelivered/redelivered, /redelivered/redelivered, /redelivered/redelivered, /redelivered/redelivered, /redelivered/redelivered""#,
        DEAD_WITHOUT_FAILURES,
    ),
    on_40(
        "priorities in a quorum queue",
        r#"["5", "9", "none", "31", "32", "0", "255", "3", "4"]"#,
        "two priorities before 4.3, two of the high one to one of the other",
    ),
    on_40(
        "counts of a quorum queue whose low one has expired",
        "Some((2, 0))",
        "before 4.3 only the next message of all priorities expires",
    ),
    on_40(
        "a body longer than announced",
        r#""connection 505 UNEXPECTED_FRAME - expected content body, got non content body frame instead (60, 40)""#,
        "other words for the same before 4.3",
    ),
    on_40(
        "counters after get and nack, twice",
        r#"["", "redelivered failed=1", "redelivered failed=2"]"#,
        EVERY_RETURN_FAILS,
    ),
    on_40("deliveries under a limit of two, each nacked", r#"3"#, EVERY_RETURN_FAILS),
    on_40("counters after two lost consumers", r#""redelivered failed=2""#, EVERY_RETURN_FAILS),
    on_40(
        "channel-wide prefetch on a quorum queue",
        r#""connection 540 NOT_IMPLEMENTED - queue 'q' in vhost 'VHOST' does not support global qos (60, 20)""#,
        "not on quorum queues before 4.3",
    ),
    on_40(
        "counters after nack, reject, nack",
        r#"["", "redelivered failed=1", "redelivered failed=2", "redelivered failed=3"]"#,
        EVERY_RETURN_FAILS,
    ),
    on_40(
        "a mandatory reply is returned",
        r#"true"#,
        "a reply is not routed before 4.3, and so returned, although it is delivered",
    ),
    on_40(
        "a reply to a client that has gone is confirmed, and returned",
        r#"(true, true)"#,
        "a reply is not routed before 4.3, and so returned",
    ),
    on_40(
        "limits that cannot be agreed on",
        r#"["end", "connection.open-ok", "end", "end", "end", "end"]"#,
        "a frame may have 4096 bytes before 4.1",
    ),
    on_40(
        "stream with x-max-age soon",
        r#""connection 541 INTERNAL_ERROR (0, 0)""#,
        "an argument that cannot be read ends the connection before 4.3",
    ),
    on_40(
        "stream offset LongString(LongString([109, 105, 100, 100, 108, 101]))",
        r#""connection 541 INTERNAL_ERROR (0, 0)""#,
        "an argument that cannot be read ends the connection before 4.3",
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

const fn on_40(key: &'static str, answer: &'static str, reason: &'static str) -> Difference {
    Difference { key, on: Broker::RabbitMq40, answer, reason }
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
        assert!(*on != Broker::RabbitMq43, "{key}: the reference differs from nobody");
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
