//! Dead letters: their routing, and their failure history.

use lapin::{
    BasicProperties, ExchangeKind,
    options::{BasicNackOptions, BasicRejectOptions},
    types::AMQPValue,
};

use crate::death_stories::{deaths, line};
use crate::kit::{Client, in_time, number, table, text};

/// A queue of a type whose dead letters go to the queue `dead`.
pub(crate) async fn client_with_dead(queue_type: &str, arguments: &[(&str, AMQPValue)]) -> Client {
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

/// Takes a message out of a queue and rejects it for good.
pub(crate) async fn reject(client: &Client, queue: &str) {
    let delivery = client.until_get(queue).await;
    in_time(delivery.reject(BasicRejectOptions { requeue: false })).await.unwrap();
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
async fn what_a_full_queue_refuses_dies_where_that_is_said() {
    let arguments = [("x-max-length", number(1)), ("x-overflow", text("reject-publish-dlx"))];
    if !Client::new().await.makes("x-overflow=reject-publish-dlx", arguments.clone()).await {
        return;
    }
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
async fn dead_letters_of_a_deleted_queue_are_none() {
    let client = client_with_dead("classic", &[]).await;
    client.send("q", "body").await;
    in_time(client.channel.queue_delete("q".into(), Default::default())).await.unwrap();
    client.send("dead", "marker").await;
    assert_eq!(client.until_drained("dead", 1).await, ["marker"]);
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
