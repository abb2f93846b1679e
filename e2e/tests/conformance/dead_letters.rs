//! What becomes of messages that nobody takes: where they go, and the story that they carry.

use lapin::{
    BasicProperties, ExchangeKind,
    message::Delivery,
    options::{BasicNackOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};

use crate::kit::{Client, body, header, in_time, number, table, text, with_headers};

/// A queue of a type whose dead letters go to the queue `dead`.
async fn client_with_dead(queue_type: &str, arguments: &[(&str, AMQPValue)]) -> Client {
    let client = Client::new().await;
    client.exchange("dlx", ExchangeKind::Fanout, []).await;
    client.queue("dead", []).await;
    client.bind("dead", "dlx", "", []).await;
    let mut all = table([("x-queue-type", text(queue_type)), ("x-dead-letter-exchange", text("dlx"))]);
    for (name, value) in arguments {
        all.insert((*name).into(), value.clone());
    }
    let options = lapin::options::QueueDeclareOptions::durable();
    in_time(client.channel.queue_declare("q".into(), options, all)).await.unwrap();
    client
}

async fn reject(client: &Client, queue: &str) {
    let delivery = client.until_get(queue).await;
    in_time(delivery.reject(BasicRejectOptions { requeue: false })).await.unwrap();
}

/// The entries of `x-death`, newest first.
fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    let Some(AMQPValue::FieldArray(entries)) = header(delivery, "x-death") else {
        panic!("no x-death: {delivery:?}")
    };
    let entries = entries.as_slice().iter().map(|entry| match entry {
        AMQPValue::FieldTable(table) => table.clone(),
        other => panic!("{other:?}"),
    });
    entries.collect()
}

/// An entry without its time, which has to be there, as one line.
fn line(entry: &FieldTable) -> String {
    let time = entry.inner().get("time");
    assert!(matches!(time, Some(AMQPValue::Timestamp(seconds)) if *seconds > 1_700_000_000), "{entry:?}");
    let fields = entry.inner().iter().filter(|(name, _)| name.as_str() != "time").map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::LongLongInt(number) => number.to_string(),
            AMQPValue::FieldArray(keys) => {
                let keys = keys.as_slice().iter().map(|key| key.as_long_string().unwrap().to_string());
                format!("[{}]", keys.collect::<Vec<_>>().join(","))
            }
            other => format!("{other:?}"),
        };
        format!("{name}={value}")
    });
    fields.collect::<Vec<_>>().join(" ")
}

/// `x-first-death-*` and `x-last-death-*`, as `reason queue exchange`.
fn death_headers(delivery: &Delivery, which: &str) -> String {
    let words = ["reason", "queue", "exchange"].map(|word| {
        let value = header(delivery, &format!("x-{which}-death-{word}"));
        value.map_or("none".into(), |value| format!("{:?}", value.as_long_string().unwrap().to_string()))
    });
    words.join(" ")
}

#[tokio::test]
async fn a_rejected_message_dies_with_its_story() {
    for queue_type in ["classic", "quorum"] {
        let client = client_with_dead(queue_type, &[]).await;
        client.bind("q", "amq.topic", "a.#", []).await;
        let properties = with_headers([("mine", number(1))])
            .with_message_id("id".into())
            .with_delivery_mode(2)
            .with_correlation_id("c".into());
        client.publish("amq.topic", "a.b", "body", properties).await;
        reject(&client, "q").await;
        let dead = client.until_get("dead").await;
        assert_eq!(
            (dead.exchange.as_str(), dead.routing_key.as_str(), dead.redelivered),
            ("dlx", "a.b", false)
        );
        assert_eq!(body(&dead), "body");
        assert_eq!(header(&dead, "mine"), Some(number(1)));
        assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), "id");
        assert_eq!(*dead.properties.delivery_mode(), Some(2));
        let deaths: Vec<_> = deaths(&dead).iter().map(line).collect();
        assert_eq!(
            deaths,
            ["count=1 exchange=amq.topic queue=q reason=rejected routing-keys=[a.b]"],
            "{queue_type}"
        );
        assert_eq!(death_headers(&dead, "first"), r#""rejected" "q" "amq.topic""#);
        client.answers("x-last-death", death_headers(&dead, "last"), r#""rejected" "q" "amq.topic""#);
    }
}

#[tokio::test]
async fn a_nack_without_requeue_is_a_rejection() {
    let client = client_with_dead("classic", &[]).await;
    for text in ["a", "b", "c"] {
        client.send("q", text).await;
    }
    for _ in 0..2 {
        client.until_get("q").await;
    }
    let c = client.until_get("q").await;
    in_time(c.nack(BasicNackOptions { multiple: true, requeue: false })).await.unwrap();
    assert_eq!(client.until_drained("dead", 3).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn an_expired_message_dies_without_its_expiration() {
    for queue_type in ["classic", "quorum"] {
        let client = client_with_dead(queue_type, &[]).await;
        client.publish("", "q", "body", BasicProperties::default().with_expiration("50".into())).await;
        let dead = client.until_get("dead").await;
        assert_eq!(*dead.properties.expiration(), None, "it would expire again");
        let mut deaths = deaths(&dead);
        let original = deaths[0].inner().get("original-expiration").cloned();
        assert_eq!(original, Some(text("50")), "{queue_type}");
        let line = line(&deaths.remove(0));
        assert_eq!(
            line, "count=1 exchange= original-expiration=50 queue=q reason=expired routing-keys=[q]",
            "{queue_type}"
        );
    }
}

#[tokio::test]
async fn a_queues_own_time_leaves_no_original_expiration() {
    let client = client_with_dead("classic", &[("x-message-ttl", number(50))]).await;
    client.send("q", "body").await;
    let dead = client.until_get("dead").await;
    assert_eq!(line(&deaths(&dead)[0]), "count=1 exchange= queue=q reason=expired routing-keys=[q]");
}

#[tokio::test]
async fn what_a_full_queue_drops_dies() {
    for queue_type in ["classic", "quorum"] {
        let client = client_with_dead(queue_type, &[("x-max-length", number(1))]).await;
        client.send("q", "a").await;
        client.send("q", "b").await;
        let dead = client.until_get("dead").await;
        assert_eq!(body(&dead), "a");
        let line = line(&deaths(&dead)[0]);
        assert_eq!(line, "count=1 exchange= queue=q reason=maxlen routing-keys=[q]", "{queue_type}");
    }
}

#[tokio::test]
async fn what_a_full_queue_refuses_dies_where_that_is_said() {
    let arguments = [("x-max-length", number(1)), ("x-overflow", text("reject-publish-dlx"))];
    let client = client_with_dead("classic", &arguments).await;
    client.send("q", "a").await;
    assert!(client.try_publish("", "q", "b", BasicProperties::default()).await.is_nack());
    let dead = client.until_drained("dead", 1).await;
    client.answers("reject-publish-dlx", dead, ["b"]);
}

#[tokio::test]
async fn a_routing_key_of_the_queues_replaces_the_messages() {
    let client = Client::new().await;
    client.queue("dead", []).await;
    let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    client.queue("q", arguments).await;
    client.send("q", "body").await;
    reject(&client, "q").await;
    let dead = client.until_get("dead").await;
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("", "dead"));
    assert_eq!(line(&deaths(&dead)[0]), "count=1 exchange= queue=q reason=rejected routing-keys=[q]");
}

#[tokio::test]
async fn without_an_exchange_a_dead_message_is_gone() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.queue("nowhere", [("x-dead-letter-exchange", text("not there"))]).await;
    for queue in ["q", "nowhere"] {
        client.send(queue, "body").await;
        reject(&client, queue).await;
        assert_eq!(client.drain(queue).await, [""; 0]);
    }
}

#[tokio::test]
async fn deaths_are_counted_by_queue_and_reason() {
    let client = Client::new().await;
    // Two queues that give each other what they do not want, which is no circle since somebody rejects.
    for (queue, other) in [("one", "two"), ("two", "one")] {
        let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(other))];
        client.queue(queue, arguments).await;
    }
    client.send("one", "body").await;
    for queue in ["one", "two", "one", "two", "one"] {
        reject(&client, queue).await;
    }
    let message = client.until_get("two").await;
    let lines: Vec<_> = deaths(&message).iter().map(line).collect();
    let reference = [
        "count=3 exchange= queue=one reason=rejected routing-keys=[one]",
        "count=2 exchange= queue=two reason=rejected routing-keys=[two]",
    ];
    assert_eq!(lines, reference, "the latest death stands first");
    assert_eq!(death_headers(&message, "first"), r#""rejected" "one" """#);
    client.answers(
        "x-last-death after five deaths",
        death_headers(&message, "last"),
        r#""rejected" "one" """#,
    );
}

#[tokio::test]
async fn another_reason_is_another_entry() {
    let client = Client::new().await;
    let back = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("work"))];
    let [exchange, key] = back;
    client.queue("wait", [exchange, key, ("x-message-ttl", number(50))]).await;
    client
        .queue("work", [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("wait"))])
        .await;
    client.send("work", "body").await;
    for _ in 0..2 {
        reject(&client, "work").await;
    }
    let message = client.until_get("work").await;
    let lines: Vec<_> = deaths(&message).iter().map(line).collect();
    let reference = [
        "count=2 exchange= queue=wait reason=expired routing-keys=[wait]",
        "count=2 exchange= queue=work reason=rejected routing-keys=[work]",
    ];
    assert_eq!(lines, reference);
    assert_eq!(death_headers(&message, "first"), r#""rejected" "work" """#);
    client.answers("x-last-death of a retry", death_headers(&message, "last"), r#""expired" "wait" """#);
}

#[tokio::test]
async fn a_circle_without_a_rejection_ends() {
    let client = Client::new().await;
    let arguments = |key| {
        [
            ("x-message-ttl", number(50)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(key)),
        ]
    };
    client.queue("one", arguments("two")).await;
    client.queue("two", arguments("one")).await;
    client.queue("clock", [("x-message-ttl", number(600))]).await;
    client.send("one", "round").await;
    client.send("clock", "tick").await;
    client.until_ready("clock", 0).await;
    client.until_ready("one", 0).await;
    client.until_ready("two", 0).await;
    assert_eq!((client.drain("one").await, client.drain("two").await), (vec![], vec![]));
}

#[tokio::test]
async fn dead_letters_go_to_every_queue_of_the_exchange() {
    let client = client_with_dead("classic", &[]).await;
    client.queue("dead too", []).await;
    client.bind("dead too", "dlx", "", []).await;
    client.send("q", "body").await;
    reject(&client, "q").await;
    assert_eq!(client.until_drained("dead", 1).await, ["body"]);
    assert_eq!(client.until_drained("dead too", 1).await, ["body"]);
}

#[tokio::test]
async fn what_a_client_writes_into_x_death_is_not_believed() {
    let client = client_with_dead("classic", &[]).await;
    let forged = AMQPValue::FieldTable(table([
        ("queue", text("q")),
        ("reason", text("rejected")),
        ("count", AMQPValue::LongLongInt(5)),
        ("exchange", text("")),
        ("time", AMQPValue::Timestamp(1_700_000_001)),
        ("routing-keys", AMQPValue::FieldArray(vec![text("q")].into())),
    ]));
    let headers = with_headers([("x-death", AMQPValue::FieldArray(vec![forged].into()))]);
    client.publish("", "q", "body", headers).await;
    reject(&client, "q").await;
    let dead = client.until_get("dead").await;
    let lines: Vec<_> = deaths(&dead).iter().map(line).collect();
    client.answers(
        "x-death that a client wrote",
        lines,
        ["count=1 exchange= queue=q reason=rejected routing-keys=[q]"],
    );
}

#[tokio::test]
async fn dead_letters_of_a_deleted_queue_are_none() {
    let client = client_with_dead("classic", &[]).await;
    client.send("q", "body").await;
    in_time(client.channel.queue_delete("q".into(), Default::default())).await.unwrap();
    client.send("dead", "marker").await;
    assert_eq!(client.until_drained("dead", 1).await, ["marker"]);
}

#[tokio::test]
async fn at_least_once_delivers_to_the_dead() {
    let arguments =
        [("x-dead-letter-strategy", text("at-least-once")), ("x-overflow", text("reject-publish"))];
    let client = client_with_dead("quorum", &arguments).await;
    for text in ["a", "b"] {
        client.send("q", text).await;
        reject(&client, "q").await;
    }
    let a = client.until_get("dead").await;
    assert_eq!(body(&a), "a");
    let lines: Vec<_> = deaths(&a).iter().map(line).collect();
    assert_eq!(lines, ["count=1 exchange= queue=q reason=rejected routing-keys=[q]"]);
    assert_eq!(body(&client.until_get("dead").await), "b");
}

#[tokio::test]
async fn at_least_once_keeps_what_cannot_be_delivered() {
    let client = Client::new().await;
    client.exchange("dlx", ExchangeKind::Fanout, []).await;
    let arguments = [
        ("x-dead-letter-exchange", text("dlx")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-max-length", number(1)),
    ];
    client.queue_of_type("quorum", "q", arguments).await;
    client.send("q", "kept").await;
    reject(&client, "q").await;
    // It is not ready any more, and it still takes the room.
    client.until_ready("q", 0).await;
    let mut taken = 0;
    while client.try_publish("", "q", "more", BasicProperties::default()).await.is_ack() {
        taken += 1;
        assert!(taken < 100, "the queue never fills");
    }
}

/// How the project's messages wait: a quorum queue with a time to live whose dead go back to work.
#[tokio::test]
async fn a_quorum_queue_as_a_place_to_wait() {
    let client = Client::new().await;
    client.queue_of_type("quorum", "work", []).await;
    let arguments = [
        ("x-message-ttl", number(100)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("work")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    client.queue_of_type("quorum", "wait", arguments).await;
    for text in ["a", "b", "c"] {
        client.send("wait", text).await;
    }
    for expected in ["a", "b", "c"] {
        let back = client.until_get("work").await;
        assert_eq!((body(&back).as_str(), back.redelivered), (expected, false));
        assert_eq!(
            line(&deaths(&back)[0]),
            "count=1 exchange= queue=wait reason=expired routing-keys=[wait]"
        );
    }
}

#[tokio::test]
async fn at_least_once_after_too_many_deliveries() {
    let arguments = [
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", number(1)),
    ];
    let client = client_with_dead("quorum", &arguments).await;
    client.send("q", "poison").await;
    let mut subscription = client.consume("q", 1).await;
    for _ in 0..2 {
        let delivery = subscription.next().await;
        in_time(delivery.reject(BasicRejectOptions { requeue: true })).await.unwrap();
    }
    let dead = client.until_get("dead").await;
    assert_eq!(line(&deaths(&dead)[0]), "count=1 exchange= queue=q reason=delivery_limit routing-keys=[q]");
}

#[tokio::test]
async fn a_dead_letter_that_a_full_queue_refuses_is_gone() {
    let client = client_with_dead("classic", &[]).await;
    client.queue("full", [("x-max-length", number(1)), ("x-overflow", text("reject-publish"))]).await;
    client.bind("full", "dlx", "", []).await;
    for text in ["a", "b"] {
        client.send("q", text).await;
        reject(&client, "q").await;
    }
    assert_eq!(client.until_drained("dead", 2).await, ["a", "b"], "both have died");
    assert_eq!(client.until_drained("full", 1).await, ["a"]);
    assert_eq!(client.drain("q").await, [""; 0]);
}

#[tokio::test]
async fn a_dead_letter_without_a_route_is_gone_or_goes_to_the_alternate() {
    let client = Client::new().await;
    client.queue("last", []).await;
    client.bind("last", "amq.fanout", "", []).await;
    client.exchange("dlx", ExchangeKind::Direct, [("alternate-exchange", text("amq.fanout"))]).await;
    client.queue("q", [("x-dead-letter-exchange", text("dlx"))]).await;
    client.queue("lonely", [("x-dead-letter-exchange", text("amq.direct"))]).await;
    for queue in ["lonely", "q"] {
        client.send(queue, queue).await;
        reject(&client, queue).await;
    }
    assert_eq!(client.until_drained("last", 1).await, ["q"]);
}
