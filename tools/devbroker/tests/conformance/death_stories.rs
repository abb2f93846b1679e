//! The story that a dead letter carries: `x-death` and its relatives.

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use crate::{
    dead_letters::{client_with_dead, reject},
    kit::{Client, body, header, number, table, text, with_headers},
};

/// The entries of `x-death`, newest first.
pub(crate) fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
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
pub(crate) fn line(entry: &FieldTable) -> String {
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
        assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("dlx", "a.b"));
        client.answers("a rejected message is redelivered when dead", dead.redelivered, true);
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
        assert_eq!(death_headers(&dead, "last"), r#""rejected" "q" "amq.topic""#);
    }
}

#[tokio::test]
async fn an_expired_message_dies_without_its_expiration() {
    let expiring = |milliseconds: &str| BasicProperties::default().with_expiration(milliseconds.into());
    for queue_type in ["classic", "quorum"] {
        // The second dies by the queue's time, the third is rejected before its own.
        for (queue_time, expiration, reason) in
            [(60_000, "50", "expired"), (50, "60000", "expired"), (60_000, "60000", "rejected")]
        {
            let client = client_with_dead(queue_type, &[("x-message-ttl", number(queue_time))]).await;
            client.publish("", "q", "body", expiring(expiration).with_app_id("app".into())).await;
            if reason == "rejected" {
                reject(&client, "q").await;
            }
            let dead = client.until_get("dead").await;
            assert_eq!(*dead.properties.expiration(), None, "it would expire again");
            assert_eq!(dead.properties.app_id().as_ref().map(|app| app.as_str()), Some("app"));
            let reference = format!(
                "count=1 exchange= original-expiration={expiration} queue=q reason={reason} routing-keys=[q]"
            );
            assert_eq!(line(&deaths(&dead)[0]), reference, "{queue_type}");
        }
    }
}

#[tokio::test]
async fn a_second_death_has_no_expiration_and_the_first_keeps_its_own() {
    let client = Client::new().await;
    for (queue, other) in [("one", "two"), ("two", "one")] {
        let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(other))];
        client.queue(queue, arguments).await;
    }
    client.publish("", "one", "body", BasicProperties::default().with_expiration("60000".into())).await;
    for queue in ["one", "two", "one"] {
        reject(&client, queue).await;
    }
    let lines: Vec<_> = deaths(&client.until_get("two").await).iter().map(line).collect();
    let reference = [
        "count=2 exchange= original-expiration=60000 queue=one reason=rejected routing-keys=[one]",
        "count=1 exchange= queue=two reason=rejected routing-keys=[two]",
    ];
    assert_eq!(lines, reference);
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
    if !Client::new().await.makes("x-max-length with drop-head", [("x-max-length", number(1))]).await {
        return;
    }
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
