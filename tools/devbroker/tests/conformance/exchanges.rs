//! Exchanges: declaring and deleting them, and what is refused. Where their messages go is in `routing`.

use amq_protocol::protocol::{AMQPClass, basic, exchange, queue};
use lapin::{BasicProperties, ExchangeKind, types::AMQPValue};

use crate::kit::{
    Call as _, Client, Place, Wire, bind, declare, declare_exchange, in_time, number, publish, text,
};

fn delete(exchange: &str, if_unused: bool) -> AMQPClass {
    exchange::Delete { exchange: exchange.into(), if_unused, nowait: false }.class()
}

#[tokio::test]
async fn the_brokers_own_exchanges_are_there() {
    let mut wire = Wire::open(&Place::new().await).await;
    for (name, kind) in [
        ("", "direct"),
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        let passive = exchange::Declare { passive: true, ..declare_exchange(name, kind, []) };
        let reference = match name {
            "" => "channel 403 ACCESS_REFUSED - operation not permitted on the default exchange (40, 10)",
            _ => "exchange.declare-ok",
        };
        assert_eq!(wire.outcome(passive).await, reference, "{name:?}");
        if !name.is_empty() {
            assert_eq!(
                wire.outcome(declare_exchange(name, kind, [])).await,
                "exchange.declare-ok",
                "{name:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_brokers_own_exchanges_cannot_be_changed() {
    let mut wire = Wire::open(&Place::new().await).await;
    let unbind = queue::Unbind { queue: "q".into(), routing_key: "q".into(), ..Default::default() };
    wire.outcomes([
        (
            "declare amq.mine as exchange",
            declare_exchange("amq.mine", "direct", []).class(),
            "channel 403 ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*' (40, 10)",
        ),
        (
            "declare the default exchange",
            declare_exchange("", "direct", []).class(),
            "channel 403 ACCESS_REFUSED - operation not permitted on the default exchange (40, 10)",
        ),
        (
            "delete amq.direct",
            delete("amq.direct", false),
            "channel 403 ACCESS_REFUSED - deletion of \
            system exchange 'amq.direct' in vhost 'VHOST' not allowed (40, 20)",
        ),
        (
            "delete the default exchange",
            delete("", false),
            "channel 403 ACCESS_REFUSED - operation not permitted on the default exchange (40, 20)",
        ),
        ("a queue to bind", declare("q", []).class(), "queue.declare-ok"),
        (
            "bind to the default exchange",
            bind("q", "", "key").class(),
            "channel 403 ACCESS_REFUSED - operation not permitted on the default exchange (50, 20)",
        ),
        (
            "unbind from the default exchange",
            unbind.class(),
            "channel 403 ACCESS_REFUSED - operation not permitted on the default exchange (50, 50)",
        ),
        (
            "delete amq.rabbitmq.trace",
            delete("amq.rabbitmq.trace", false),
            "channel 403 ACCESS_REFUSED - deletion of \
            system exchange 'amq.rabbitmq.trace' in vhost 'VHOST' not allowed (40, 20)",
        ),
        (
            "declare amq.direct as fanout",
            declare_exchange("amq.direct", "fanout", []).class(),
            "channel \
            406 PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost 'VHOST': \
            received 'fanout' but current is 'direct' (40, 10)",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_exchange_that_is_not_there_is_not_found() {
    let mut wire = Wire::open(&Place::new().await).await;
    assert_eq!(wire.outcome(declare("q", [])).await, "queue.declare-ok");
    let passive = exchange::Declare { passive: true, ..declare_exchange("e", "direct", []) };
    let unbind = queue::Unbind { queue: "q".into(), exchange: "e".into(), ..Default::default() };
    wire.outcomes([
        (
            "declare passive, unknown exchange",
            passive.class(),
            "channel 404 NOT_FOUND - no exchange 'e' in vhost 'VHOST' (40, 10)",
        ),
        (
            "bind, both unknown",
            bind("neither", "e", "").class(),
            "channel 404 NOT_FOUND - no exchange 'e' in vhost 'VHOST' (50, 20)",
        ),
        (
            "bind, unknown exchange",
            bind("q", "e", "").class(),
            "channel 404 NOT_FOUND - no exchange 'e' in vhost 'VHOST' (50, 20)",
        ),
        ("unbind, unknown exchange", unbind.class(), "queue.unbind-ok"),
        ("delete, unknown exchange", delete("e", false), "exchange.delete-ok"),
    ])
    .await;
    wire.publish(publish("e", "key"), BasicProperties::default(), b"").await;
    assert_eq!(wire.answer().await, "channel 404 NOT_FOUND - no exchange 'e' in vhost 'VHOST' (60, 40)");
}

#[tokio::test]
async fn an_exchange_declared_otherwise_is_refused() {
    let mut wire = Wire::open(&Place::new().await).await;
    let declared = declare_exchange("e", "topic", [("alternate-exchange", text("other"))]);
    assert_eq!(wire.outcome(declared.clone()).await, "exchange.declare-ok");
    let other = |change: fn(&mut exchange::Declare)| {
        let mut declare = declared.clone();
        change(&mut declare);
        declare.class()
    };
    wire.outcomes([
        ("the same exchange again", declared.clone().class(), "exchange.declare-ok"),
        (
            "exchange type",
            other(|e| e.kind = "fanout".into()),
            "channel 406 PRECONDITION_FAILED - \
            inequivalent arg 'type' for exchange 'e' in vhost 'VHOST': received 'fanout' but current is \
            'topic' (40, 10)",
        ),
        (
            "exchange durable",
            other(|e| e.durable = false),
            "channel 406 PRECONDITION_FAILED - \
            inequivalent arg 'durable' for exchange 'e' in vhost 'VHOST': received 'false' but current is \
            'true' (40, 10)",
        ),
        (
            "exchange auto_delete",
            other(|e| e.auto_delete = true),
            "channel 406 PRECONDITION_FAILED - \
            inequivalent arg 'auto_delete' for exchange 'e' in vhost 'VHOST': received 'true' but current \
            is 'false' (40, 10)",
        ),
        (
            "exchange internal",
            other(|e| e.internal = true),
            "channel 406 PRECONDITION_FAILED - \
            inequivalent arg 'internal' for exchange 'e' in vhost 'VHOST': received 'true' but current is \
            'false' (40, 10)",
        ),
        (
            "alternate-exchange other",
            declare_exchange("e", "topic", [("alternate-exchange", text("third"))]).class(),
            "channel 406 PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'e' \
                in vhost 'VHOST': received 'third' but current is 'other' (40, 10)",
        ),
        (
            "alternate-exchange none",
            declare_exchange("e", "topic", []).class(),
            "channel 406 \
            PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'e' in vhost \
            'VHOST': received none but current is the value 'other' of type 'longstr' (40, 10)",
        ),
        (
            "exchange passive of another type",
            other(|e| (e.passive, e.kind) = (true, "fanout".into())),
            "exchange.declare-ok",
        ),
        (
            "exchange with an unknown argument",
            declare_exchange("f", "topic", [("x-unknown", number(1))]).class(),
            "exchange.declare-ok",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_exchange_of_no_known_type_is_refused() {
    let mut wire = Wire::open(&Place::new().await).await;
    wire.outcomes([
        (
            "unknown exchange type",
            declare_exchange("e", "x-spiral", []).class(),
            "channel 406 PRECONDITION_FAILED - unknown exchange type 'x-spiral' (40, 10)",
        ),
        (
            "no exchange type",
            declare_exchange("e", "", []).class(),
            "channel 406 PRECONDITION_FAILED - invalid exchange type '' (40, 10)",
        ),
        (
            "alternate-exchange that is no text",
            declare_exchange("e", "fanout", [("alternate-exchange", number(1))]).class(),
            "channel 406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in \
                exchange 'e' in vhost 'VHOST' (40, 10)",
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_internal_exchange_cannot_be_published_to() {
    let client = Client::new().await;
    let internal = exchange::Declare { internal: true, ..declare_exchange("e", "fanout", []) };
    if !client.does("internal exchange", internal, "exchange.declare-ok").await {
        return;
    }
    let mut wire = client.wire().await;
    wire.publish(publish("e", ""), BasicProperties::default(), b"").await;
    assert_eq!(
        wire.answer().await,
        "channel 403 ACCESS_REFUSED - cannot publish to internal exchange 'e' in vhost 'VHOST' (60, 40)"
    );
}

#[tokio::test]
async fn an_exchange_can_be_deleted_only_if_unused() {
    let client = Client::new().await;
    client.exchange("e", ExchangeKind::Fanout, []).await;
    client.queue("q", []).await;
    client.bind("q", "e", "", []).await;
    let mut wire = client.wire().await;
    wire.outcomes([
        (
            "delete exchange if unused",
            delete("e", true),
            "channel 406 PRECONDITION_FAILED - exchange 'e' in vhost 'VHOST' in use (40, 20)",
        ),
        ("delete exchange", delete("e", false), "exchange.delete-ok"),
        ("declare it again", declare_exchange("e", "direct", []).class(), "exchange.declare-ok"),
        ("delete the new one if unused", delete("e", true), "exchange.delete-ok"),
    ])
    .await;
}

#[tokio::test]
async fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    let auto_delete = exchange::Declare { auto_delete: true, ..declare_exchange("e", "fanout", []) };
    assert_eq!(wire.outcome(auto_delete).await, "exchange.declare-ok");
    client.queue("one", []).await;
    client.queue("two", []).await;
    client.bind("one", "e", "", []).await;
    client.bind("two", "e", "", []).await;
    let unbind = queue::Unbind { queue: "one".into(), exchange: "e".into(), ..Default::default() };
    assert_eq!(wire.outcome(unbind).await, "queue.unbind-ok");
    let passive = exchange::Declare { passive: true, ..declare_exchange("e", "fanout", []) };
    assert_eq!(wire.outcome(passive.clone()).await, "exchange.declare-ok");
    in_time(client.channel.queue_delete("two".into(), Default::default())).await.unwrap();
    assert_eq!(
        wire.outcome(passive).await,
        "channel 404 NOT_FOUND - no exchange 'e' in vhost 'VHOST' (40, 10)"
    );
}

#[tokio::test]
async fn exchanges_can_be_bound_to_exchanges() {
    let client = Client::new().await;
    client.exchange("first", ExchangeKind::Direct, []).await;
    client.exchange("second", ExchangeKind::Fanout, []).await;
    client.queue("q", []).await;
    client.bind("q", "second", "", []).await;
    let mut wire = client.wire().await;
    let bind = exchange::Bind {
        destination: "second".into(),
        source: "first".into(),
        routing_key: "key".into(),
        ..Default::default()
    };
    let unbind = exchange::Unbind {
        destination: "second".into(),
        source: "first".into(),
        routing_key: "key".into(),
        ..Default::default()
    };
    if !client.does("exchange.bind", bind, "exchange.bind-ok").await {
        wire.outcomes([("exchange.unbind", unbind.class(), "exchange.unbind-ok")]).await;
        return;
    }
    let confirmation = client.try_publish("first", "key", "through both", BasicProperties::default()).await;
    let routed = confirmation.take_message().is_none();
    client.answers("through two exchanges", routed, true);
    wire.outcomes([("exchange.unbind", unbind.class(), "exchange.unbind-ok")]).await;
}

#[tokio::test]
async fn a_publish_without_mandatory_to_nowhere_is_forgotten() {
    let client = Client::new().await;
    let mut wire = client.wire().await;
    let publish = basic::Publish { mandatory: false, ..publish("amq.direct", "nobody") };
    wire.publish(publish, BasicProperties::default(), b"lost").await;
    assert_eq!(wire.barrier().await, "nothing");
}

#[tokio::test]
async fn immediate_is_not_implemented() {
    let mut wire = Wire::open(&Place::new().await).await;
    let publish = basic::Publish { immediate: true, ..publish("", "q") };
    wire.publish(publish, BasicProperties::default(), b"").await;
    assert_eq!(wire.answer().await, "connection 540 NOT_IMPLEMENTED - immediate=true (60, 40)");
}

#[tokio::test]
async fn bindings_are_made_once_however_often_they_are_asked_for() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.exchange("e", ExchangeKind::Topic, []).await;
    for _ in 0..3 {
        client.bind("q", "e", "a.*", []).await;
    }
    client.bind("q", "e", "a.#", []).await;
    client.bind("q", "e", "a.#", [("x", AMQPValue::Boolean(true))]).await;
    client.publish("e", "a.b", "once", BasicProperties::default()).await;
    assert_eq!(client.drain("q").await, ["once"], "a queue gets a message once, however many bindings match");
}
