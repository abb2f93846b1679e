//! Clients over sockets.

use crate::kit::*;
use devbroker::Options;

#[tokio::test]
async fn a_wrong_password_and_a_missing_vhost_name_are_refused_with_a_reason() {
    let broker = broker(Options::default()).await;
    let address = broker.address();
    for (url, code) in [(format!("amqp://guest:wrong@{address}"), 403), (format!("amqp://{address}/"), 530)] {
        let error = connect(&url).await.unwrap_err();
        assert!(
            format!("{error:?}").contains(if code == 403 { "ACCESS_REFUSED" } else { "vhost" }),
            "{error:?}"
        );
    }
    connect(&format!("amqp://{address}/made-on-first-use")).await.unwrap();
}

#[tokio::test]
async fn nobody_listens_to_the_network_by_accident() {
    let listen = ([0, 0, 0, 0], 0).into();
    let error = devbroker::DevBroker::start(Options { listen, ..Options::default() }).await.unwrap_err();
    assert!(error.to_string().contains("--allow-remote"), "{error}");
}

#[tokio::test]
async fn a_large_message_comes_back_as_it_went() {
    let broker = broker(Options::default()).await;
    let (_connection, channel) = channel(&broker.url()).await;
    declare(&channel, "q", "quorum").await;
    for size in [0, 1, 131_063, 131_064, 131_065, 16 * 1024 * 1024] {
        let body: Vec<u8> = (0..size).map(|n: usize| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
        assert_eq!(publish(&channel, "q", &body).await.unwrap(), Confirmation::Ack(None), "{size}");
        let options = BasicGetOptions { no_ack: true };
        let got = in_time(channel.basic_get("q".into(), options)).await.unwrap().unwrap();
        assert!(got.delivery.data[..] == body[..], "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_sleeps_costs_little_and_loses_nothing() {
    let broker = broker(Options::default()).await;
    let url = broker.url();
    let (_publishing, publisher) = channel(&url).await;
    declare(&publisher, "q", "classic").await;
    // A client that reads nothing but what the handshake needs.
    let sleeper = crate::garbage::Raw::open(&url);
    sleeper.consume_without_acks("q");
    let admin = broker.admin_address().unwrap();
    until("the consumer", async || (ask(admin, "GET", "/status").await.1["consumers"] == 1).then_some(()))
        .await;
    let body = vec![7; 100_000];
    for _ in 0..400 {
        publish(&publisher, "q", &body).await.unwrap();
    }
    // The socket's buffers take some of the 40 MB, the broker a little more, and the queue keeps the rest.
    let waiting = ready(&publisher, "q").await;
    assert!(waiting > 250, "{waiting}");
    drop(sleeper);
    until("the sleeper's end", async || {
        (ask(admin, "GET", "/status").await.1["consumers"] == 0).then_some(())
    })
    .await;
    let mut consumer = consume(&publisher, "q", 10).await;
    for _ in 0..waiting {
        next(&mut consumer).await.acker.ack(BasicAckOptions::default()).await.unwrap();
    }
    until("an empty queue", async || (ready(&publisher, "q").await == 0).then_some(())).await;
}

#[tokio::test]
async fn heartbeats_keep_a_quiet_connection() {
    let broker = broker(Options { heartbeat: 1, ..Options::default() }).await;
    let (connection, channel) = channel(&broker.url()).await;
    let admin = broker.admin_address().unwrap();
    until("three seconds of quiet", async || {
        (ask(admin, "GET", "/status").await.1["uptime_ms"].as_u64()? > 3_500).then_some(())
    })
    .await;
    assert!(connection.status().connected());
    declare(&channel, "q", "classic").await;
}
