//! The HTTP interface and the verbs for operators.

use std::{io::Write as _, net::TcpStream, process::Stdio, time::Duration};

use crate::kit::*;
use devbroker::Options;
use tokio::time::timeout;

#[tokio::test]
async fn queues_connections_and_messages_can_be_looked_at_and_stay() {
    let broker = broker(Options::default()).await;
    let admin = broker.admin_address().unwrap();
    let (_connection, channel) = channel(&broker.url()).await;
    declare(&channel, "q", "quorum").await;
    publish(&channel, "q", b"look").await.unwrap();
    for _ in 0..2 {
        let (_, queues) = ask(admin, "GET", "/queues").await;
        assert_eq!((&queues[0]["name"], &queues[0]["type"]), (&"q".into(), &"quorum".into()));
        assert_eq!(queues[0]["messages_ready"], 1);
        assert_eq!(queues[0]["arguments"]["x-queue-type"], "quorum");
        assert_eq!(ask(admin, "GET", "/queues/%2F").await.1, queues);
        assert_eq!(ask(admin, "GET", "/queues/other").await.1, serde_json::json!([]));
        let (_, messages) = ask(admin, "GET", "/queues/%2F/q/messages?count=5").await;
        assert_eq!((&messages[0]["body"], &messages[0]["redelivered"]), (&"look".into(), &false.into()));
        assert_eq!(messages[0]["properties"]["delivery_mode"], 2);
    }
    let (_, connections) = ask(admin, "GET", "/connections").await;
    assert_eq!(connections[0]["user"], "guest");
    assert_eq!(ask(admin, "GET", "/queues/%2F/nothing/messages").await.0, 404);
}

#[tokio::test]
async fn a_closed_connection_hears_of_the_operator() {
    let broker = broker(Options::default()).await;
    let admin = broker.admin_address().unwrap();
    let (connection, channel) = channel(&broker.url()).await;
    let id = ask(admin, "GET", "/connections").await.1[0]["id"].as_u64().unwrap();
    assert_eq!(ask(admin, "POST", &format!("/connections/{id}/close")).await.0, 200);
    until("the close", async || (!connection.status().connected()).then_some(())).await;
    let error = publish(&channel, "q", b"").await.unwrap_err();
    assert!(!error.to_string().is_empty());
    assert_eq!(ask(admin, "POST", "/connections/4711/close").await.0, 404);
}

#[tokio::test]
async fn an_alarm_stops_publishers_and_not_consumers() {
    let broker = broker(Options::default()).await;
    let admin = broker.admin_address().unwrap();
    let (publishing, publisher) = channel(&broker.url()).await;
    let (_consuming, consumer) = channel(&broker.url()).await;
    declare(&publisher, "q", "quorum").await;
    publish(&publisher, "q", b"before").await.unwrap();
    let mut events = publishing.events_listener();
    ask(admin, "POST", "/alarm/on").await;
    let mut deliveries = consume(&consumer, "q", 1).await;
    let sent = publish(&publisher, "q", b"during");
    tokio::pin!(sent);
    assert!(timeout(Duration::from_millis(200), &mut sent).await.is_err(), "no confirm");
    let blocked = in_time(futures_util::StreamExt::next(&mut events)).await;
    assert!(format!("{blocked:?}").contains("low on memory"), "{blocked:?}");
    next(&mut deliveries).await.acker.ack(BasicAckOptions::default()).await.unwrap();
    ask(admin, "POST", "/alarm/off").await;
    assert_eq!(sent.await.unwrap(), Confirmation::Ack(None));
    assert_eq!(next(&mut deliveries).await.data, b"during");
}

#[tokio::test]
async fn a_paused_broker_is_silent_and_goes_on_where_it_was() {
    let broker = broker(Options::default()).await;
    let admin = broker.admin_address().unwrap();
    let (_connection, channel) = channel(&broker.url()).await;
    declare(&channel, "q", "quorum").await;
    ask(admin, "POST", "/pause/on").await;
    let sent = publish(&channel, "q", b"patient");
    tokio::pin!(sent);
    let url = broker.url();
    let new = connect(&url);
    tokio::pin!(new);
    assert!(timeout(Duration::from_millis(200), &mut new).await.is_err(), "it is accepted and not greeted");
    assert!(timeout(Duration::from_millis(10), &mut sent).await.is_err());
    ask(admin, "POST", "/pause/off").await;
    new.await.unwrap();
    assert_eq!(sent.await.unwrap(), Confirmation::Ack(None));
    assert_eq!(ask(admin, "POST", "/pause/maybe").await.0, 404);
}

#[tokio::test]
async fn dropped_confirms_never_come_and_the_messages_are_there() {
    let broker = broker(Options::default()).await;
    let admin = broker.admin_address().unwrap();
    let (_connection, channel) = channel(&broker.url()).await;
    declare(&channel, "q", "quorum").await;
    ask(admin, "POST", "/drop-confirms/1").await;
    let lost = publish(&channel, "q", b"unconfirmed");
    tokio::pin!(lost);
    assert!(timeout(Duration::from_millis(200), &mut lost).await.is_err());
    assert_eq!(publish(&channel, "q", b"confirmed").await.unwrap(), Confirmation::Ack(None));
    assert!(timeout(Duration::from_millis(50), &mut lost).await.is_err(), "no later confirm covers it");
    assert_eq!(ready(&channel, "q").await, 2);
}

#[tokio::test]
async fn a_web_page_neither_reads_nor_changes_anything() {
    let broker = broker(Options::default()).await;
    let admin = broker.admin_address().unwrap();
    let page = ["host: localhost", "origin: https://evil.example", "sec-fetch-site: cross-site"];
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/queues"),
        ("GET", "/queues/%2F/q/messages"),
        ("GET", "/connections"),
        ("POST", "/connections/1/close"),
        ("PUT", "/api/vhosts/%2F"),
        ("POST", "/alarm/on"),
        ("POST", "/pause/on"),
        ("POST", "/drop-confirms/1"),
        ("GET", "/nothing"),
    ] {
        for (head, expected) in [
            (&page[..], 403),
            (&["host: localhost", "sec-fetch-site: same-site"], 403),
            (&["host: evil.example"], 403),
            (&[], 400),
            (&["host: localhost", "host: localhost"], 400),
        ] {
            assert_eq!(ask_with(admin, method, path, head).await.0, expected, "{method} {path} {head:?}");
        }
    }
    assert_eq!(ask(admin, "POST", "/pause/off").await, (200, serde_json::json!({"paused": false})));
}

#[tokio::test]
async fn idle_connections_beyond_the_open_files_keep_neither_operators_nor_clients_out() {
    const FILES: u16 = 300;
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::limited(&format!("ulimit -n {FILES}"), folder.path(), Stdio::inherit());
    let client = broker.url.strip_prefix("amqp://").unwrap().parse().unwrap();
    let idle = |count: u16, address, sent: &'static [u8]| async move {
        let idle = tokio::task::spawn_blocking(move || {
            let connections = (0..count).map(|_| {
                let mut connection = TcpStream::connect(address).unwrap();
                // One that had to go for another is closed.
                let _ = connection.write_all(sent);
                connection
            });
            connections.collect::<Vec<_>>()
        });
        idle.await.unwrap()
    };
    for sent in [&b""[..], b"GET /status HTTP/1.1\r\nho"] {
        let idle = idle(FILES + 30, broker.admin, sent).await;
        assert_eq!(ask(broker.admin, "GET", "/status").await.0, 200, "{sent:?}");
        connect(&broker.url).await.unwrap();
        drop(idle);
    }
    // Those for which there is no place yet wait in the system's queue, which has 128 places.
    let _idle = idle(FILES, client, b"AMQP").await;
    assert_eq!(ask(broker.admin, "GET", "/status").await.0, 200, "while clients are idle");
}
