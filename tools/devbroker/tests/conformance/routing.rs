//! Where messages go: one table per type of exchange, and the alternate exchange.

use std::collections::BTreeSet;

use lapin::{
    BasicProperties, ExchangeKind,
    types::{AMQPValue, FieldTable},
};

use crate::kit::{Client, in_time, number, table, text, with_headers};

/// Publishes with each key and asserts which queues get it; a queue is named by its binding key.
async fn check_keys(kind: ExchangeKind, keys: &[&str], table: &[(&str, &[&str])]) {
    let client = Client::new().await;
    client.exchange("e", kind, []).await;
    for key in keys {
        client.queue(key, []).await;
        client.bind(key, "e", key, []).await;
    }
    for (key, expected) in table {
        let confirmation = client.try_publish("e", key, key, BasicProperties::default()).await;
        let mut got = BTreeSet::new();
        for queue in keys {
            let bodies = client.drain(queue).await;
            if !bodies.is_empty() {
                assert_eq!(bodies, [*key], "in {queue}");
                got.insert(*queue);
            }
        }
        assert_eq!(got, expected.iter().copied().collect(), "routing key {key:?}");
        assert_eq!(confirmation.take_message().is_some(), expected.is_empty(), "{key:?} is returned");
    }
}

#[tokio::test]
async fn a_direct_exchange_takes_the_key_as_it_is() {
    let table: &[(&str, &[&str])] =
        &[("info", &["info"]), ("Info", &[]), ("info.", &[]), ("*", &["*"]), ("#", &[]), ("", &[])];
    check_keys(ExchangeKind::Direct, &["info", "error", "*"], table).await;
}

#[tokio::test]
async fn a_fanout_exchange_takes_no_notice_of_the_key() {
    let table: &[(&str, &[&str])] = &[("a", &["a", "b"]), ("b", &["a", "b"]), ("", &["a", "b"])];
    check_keys(ExchangeKind::Fanout, &["a", "b"], table).await;
}

#[tokio::test]
async fn a_topic_exchange_matches_words() {
    let keys =
        ["#", "*", "*.*", "a", "a.*", "a.#", "#.c", "*.b.*", "a.*.#", "#.b.#", "a.#.#.c", "*.#", "a..c"];
    let table: &[(&str, &[&str])] = &[
        ("", &["#"]),
        ("a", &["#", "*", "a", "a.#", "*.#"]),
        ("b", &["#", "*", "#.b.#", "*.#"]),
        ("a.b", &["#", "*.*", "a.*", "a.#", "a.*.#", "#.b.#", "*.#"]),
        ("a.c", &["#", "*.*", "a.*", "a.#", "#.c", "a.*.#", "a.#.#.c", "*.#"]),
        ("a.b.c", &["#", "a.#", "#.c", "*.b.*", "a.*.#", "#.b.#", "a.#.#.c", "*.#"]),
        ("a.b.b.c", &["#", "a.#", "#.c", "a.*.#", "#.b.#", "a.#.#.c", "*.#"]),
        ("a..c", &["#", "a.#", "#.c", "a.*.#", "a.#.#.c", "*.#", "a..c"]),
        ("a.", &["#", "*.*", "a.*", "a.#", "a.*.#", "*.#"]),
        (".", &["#", "*.*", "*.#"]),
        ("a.*", &["#", "*.*", "a.*", "a.#", "a.*.#", "*.#"]),
        ("ab.c", &["#", "*.*", "#.c", "*.#"]),
    ];
    check_keys(ExchangeKind::Topic, &keys, table).await;
}

#[tokio::test]
async fn the_default_exchange_routes_by_the_queues_name() {
    let client = Client::new().await;
    client.queue("a", []).await;
    client.queue("a.*", []).await;
    client.send("a", "for a").await;
    client.send("a.*", "for a.*").await;
    assert_eq!(
        (client.drain("a").await, client.drain("a.*").await),
        (vec!["for a".into()], vec!["for a.*".into()])
    );
}

/// A binding's arguments, a message's headers, and whether they match.
#[tokio::test]
async fn a_headers_exchange_matches_headers() {
    let client = Client::new().await;
    client.exchange("e", ExchangeKind::Headers, []).await;
    let (a1, b2) = (("a", number(1)), ("b", text("2")));
    let all = ("x-match", text("all"));
    let any = ("x-match", text("any"));
    let with_x = |mode: &str| ("x-match", text(mode));
    let x1 = ("x-a", number(1));
    let rows: [(&str, FieldTable, FieldTable, bool); 18] = [
        ("all of two", table([all.clone(), a1.clone(), b2.clone()]), table([a1.clone(), b2.clone()]), true),
        (
            "all of two and more",
            table([all.clone(), a1.clone(), b2.clone()]),
            table([a1.clone(), b2.clone(), ("c", number(3))]),
            true,
        ),
        ("all, one missing", table([all.clone(), a1.clone(), b2.clone()]), table([a1.clone()]), false),
        ("all is the default", table([a1.clone(), b2.clone()]), table([a1.clone()]), false),
        ("all, another value", table([all.clone(), a1.clone()]), table([("a", number(2))]), false),
        (
            "all, another type of number",
            table([all.clone(), a1.clone()]),
            table([("a", AMQPValue::LongLongInt(1))]),
            true,
        ),
        ("all, a text and not a number", table([all.clone(), a1.clone()]), table([("a", text("1"))]), false),
        ("all of nothing", table([all.clone()]), table([]), true),
        ("all of nothing, some headers", table([all.clone()]), table([a1.clone()]), true),
        ("any of two", table([any.clone(), a1.clone(), b2.clone()]), table([b2.clone()]), true),
        ("any, none there", table([any.clone(), a1.clone(), b2.clone()]), table([("c", number(3))]), false),
        ("any of nothing", table([any.clone()]), table([a1.clone()]), false),
        (
            "a void asks for any value",
            table([all.clone(), ("a", AMQPValue::Void)]),
            table([a1.clone()]),
            true,
        ),
        (
            "a void asks for the header",
            table([all.clone(), ("a", AMQPValue::Void)]),
            table([b2.clone()]),
            false,
        ),
        ("all takes no notice of x-", table([all.clone(), x1.clone()]), table([]), true),
        ("all-with-x does", table([with_x("all-with-x"), x1.clone()]), table([]), false),
        ("any-with-x does", table([with_x("any-with-x"), x1.clone()]), table([x1.clone()]), true),
        ("any takes no notice of x-", table([any.clone(), x1.clone()]), table([x1.clone()]), false),
    ];
    for (n, (what, arguments, headers, expected)) in rows.into_iter().enumerate() {
        let queue = format!("q{n}");
        client.queue(&queue, []).await;
        let bound = client.channel.queue_bind(
            queue.as_str().into(),
            "e".into(),
            "".into(),
            Default::default(),
            arguments.clone(),
        );
        in_time(bound).await.unwrap();
        let properties = BasicProperties::default().with_headers(headers);
        client.try_publish("e", "", what, properties).await;
        let unbound = client.channel.queue_unbind(queue.as_str().into(), "e".into(), "".into(), arguments);
        let found = !client.drain(&queue).await.is_empty();
        client.answers(&format!("headers: {what}"), found, expected);
        in_time(unbound).await.unwrap();
    }
}

#[tokio::test]
async fn a_headers_binding_of_no_known_mode_is_refused() {
    let client = Client::new().await;
    client.queue("q", []).await;
    let mut wire = client.wire().await;
    let bind = |mode: AMQPValue| amq_protocol::protocol::queue::Bind {
        arguments: table([("x-match", mode)]),
        ..crate::kit::bind("q", "amq.headers", "")
    };
    let mut answers = vec![];
    for mode in [text("some"), number(1)] {
        answers.push(wire.outcome(bind(mode)).await);
    }
    let refusal = |text| format!("channel 406 PRECONDITION_FAILED - Invalid x-match field {text} (50, 20)");
    let unknown = refusal("value <<\"some\">>; expected all, any, all-with-x, or any-with-x");
    let number = refusal("type signedint (value 1); expected longstr");
    assert_eq!(answers, [unknown, number]);
}

#[tokio::test]
async fn a_message_without_headers_matches_a_binding_that_asks_for_none() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.bind("q", "amq.headers", "", []).await;
    client.publish("amq.headers", "", "none", BasicProperties::default()).await;
    client.publish("amq.headers", "", "some", with_headers([("a", number(1))])).await;
    assert_eq!(client.drain("q").await, ["none", "some"]);
}

#[tokio::test]
async fn an_unbound_queue_gets_nothing_more() {
    let client = Client::new().await;
    client.queue("q", []).await;
    for key in ["a", "b"] {
        client.bind("q", "amq.direct", key, []).await;
    }
    in_time(client.channel.queue_unbind("q".into(), "amq.direct".into(), "a".into(), FieldTable::default()))
        .await
        .unwrap();
    for key in ["a", "b"] {
        client.try_publish("amq.direct", key, key, BasicProperties::default()).await;
    }
    assert_eq!(client.drain("q").await, ["b"]);
}

#[tokio::test]
async fn an_unbind_takes_the_binding_that_it_names() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.bind("q", "amq.headers", "", [("a", number(1))]).await;
    client.bind("q", "amq.headers", "", [("b", number(1))]).await;
    for arguments in [table([("a", number(2))]), table([("a", number(1))])] {
        let unbound = client.channel.queue_unbind("q".into(), "amq.headers".into(), "".into(), arguments);
        in_time(unbound).await.unwrap();
    }
    for name in ["a", "b"] {
        client.try_publish("amq.headers", "", name, with_headers([(name, number(1))])).await;
    }
    assert_eq!(client.drain("q").await, ["b"]);
}

#[tokio::test]
async fn a_deleted_exchange_leaves_the_queues_and_what_is_in_them() {
    let client = Client::new().await;
    client.exchange("e", ExchangeKind::Fanout, []).await;
    client.queue("q", []).await;
    client.bind("q", "e", "", []).await;
    client.publish("e", "", "kept", BasicProperties::default()).await;
    in_time(client.channel.exchange_delete("e".into(), Default::default())).await.unwrap();
    client.exchange("e", ExchangeKind::Fanout, []).await;
    assert!(client.try_publish("e", "", "lost", BasicProperties::default()).await.take_message().is_some());
    assert_eq!(client.drain("q").await, ["kept"]);
}

#[tokio::test]
async fn a_deleted_queues_bindings_go_with_it() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.bind("q", "amq.fanout", "", []).await;
    in_time(client.channel.queue_delete("q".into(), Default::default())).await.unwrap();
    client.queue("q", []).await;
    let confirmation = client.try_publish("amq.fanout", "", "for nobody", BasicProperties::default()).await;
    assert!(confirmation.take_message().is_some());
}

#[tokio::test]
async fn what_an_exchange_cannot_route_goes_to_its_alternate() {
    let client = Client::new().await;
    client.exchange("last", ExchangeKind::Fanout, []).await;
    client.exchange("second", ExchangeKind::Direct, [("alternate-exchange", text("last"))]).await;
    client.exchange("first", ExchangeKind::Direct, [("alternate-exchange", text("second"))]).await;
    for (queue, exchange) in [("q1", "first"), ("q2", "second"), ("q3", "last")] {
        client.queue(queue, []).await;
        client.bind(queue, exchange, queue, []).await;
    }
    for key in ["q1", "q2", "q3", "elsewhere"] {
        client.publish("first", key, key, BasicProperties::default()).await;
    }
    assert_eq!(client.drain("q1").await, ["q1"]);
    assert_eq!(client.drain("q2").await, ["q2"]);
    assert_eq!(client.drain("q3").await, ["q3", "elsewhere"], "each is confirmed and none returned");
}

#[tokio::test]
async fn an_alternate_that_cannot_route_either_is_no_help() {
    let client = Client::new().await;
    client.exchange("second", ExchangeKind::Direct, []).await;
    client.exchange("first", ExchangeKind::Direct, [("alternate-exchange", text("second"))]).await;
    client.exchange("alone", ExchangeKind::Direct, [("alternate-exchange", text("not there"))]).await;
    for exchange in ["first", "alone"] {
        let returned =
            client.try_publish(exchange, "key", "lost", BasicProperties::default()).await.take_message();
        let returned = returned.expect("it is returned");
        // As it was published: the alternate is not named.
        assert_eq!(returned.delivery.exchange.as_str(), exchange);
    }
}

#[tokio::test]
async fn alternates_may_form_a_circle() {
    let client = Client::new().await;
    client.exchange("a", ExchangeKind::Direct, [("alternate-exchange", text("b"))]).await;
    client.exchange("b", ExchangeKind::Direct, [("alternate-exchange", text("a"))]).await;
    let confirmation = client.try_publish("a", "key", "round", BasicProperties::default()).await;
    assert!(confirmation.take_message().is_some());
}

#[tokio::test]
async fn cc_and_bcc_are_further_routing_keys() {
    let client = Client::new().await;
    for queue in ["q", "cc", "bcc"] {
        client.queue(queue, []).await;
    }
    let list = |key: &str| AMQPValue::FieldArray(vec![text(key)].into());
    let copied = client.takes("header CC", with_headers([("CC", list("nobody"))])).await;
    let blindly = client.takes("header BCC", with_headers([("BCC", list("nobody"))])).await;
    if !copied || !blindly {
        return;
    }
    let properties = with_headers([("CC", list("cc")), ("BCC", list("bcc"))]);
    client.publish("", "q", "to all", properties).await;
    let mut got = vec![];
    for queue in ["q", "cc", "bcc"] {
        got.push(!client.drain(queue).await.is_empty());
    }
    assert_eq!(got, [true, true, true]);
}
