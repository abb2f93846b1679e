//! `amqps://`: the messaging client.

use std::{path::PathBuf, time::Duration};

use contracts::topology::{VIP_QUEUE, vip_queue};
use e2e::{
    broker::{PrivateBroker, SharedBroker, Vhost},
    wait::{PATIENCE, until, until_true},
};
use messaging::{
    LinkStatus, Message, MessagingClient as _,
    amqp::{AmqpClient, AmqpOptions, Settings},
    broker::BrokerUrls,
    metrics::Metrics,
};
use rcgen::date_time_ymd;

use crate::certificates::{Authority, Terminator};

/// A vhost of the run's broker. The kit asks RabbitMQ over HTTP, with a client that needs to know who does its cryptography.
async fn vhost() -> Vhost {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    SharedBroker::from_environment().vhost().await
}

/// The vhost's address with another scheme, host and port.
fn url(vhost: &Vhost, scheme: &str, port: u16) -> String {
    vhost.amqp_url_at(port).replace("amqp://127.0.0.1", &format!("{scheme}://localhost"))
}

fn client(url: &str, ca: Option<PathBuf>) -> Result<AmqpClient, String> {
    let settings = Settings {
        amqp_server_url: BrokerUrls::parse(url).unwrap(),
        amqp_ca_file: ca,
        amqp_connect_timeout: Duration::from_secs(20),
        amqp_backoff_max: Duration::from_secs(1),
        ..Settings::default()
    };
    let options = AmqpOptions::new(&settings, "test.1", vip_queue(1000))?;
    let metrics = Metrics::registered(&mut prometheus_client::registry::Registry::default());
    let client = AmqpClient::new(options, metrics);
    client.connect();
    Ok(client)
}

/// The reason why a client does not connect, as its status has it.
async fn refusal(client: &AmqpClient) -> String {
    until("the client says why", PATIENCE, async || match client.status().publishing {
        LinkStatus::Up => panic!("it connects"),
        LinkStatus::Connecting(None) => None,
        status => Some(status.to_string()),
    })
    .await
}

async fn publishes(client: &AmqpClient) {
    until_true("the client is connected", PATIENCE, async || client.status().publishing == LinkStatus::Up)
        .await;
    let message = Message { body: b"{}".to_vec().into(), ..Message::default() };
    client.publish_on_queue(VIP_QUEUE, message).await.unwrap();
}

#[tokio::test]
async fn a_client_publishes_to_a_broker_whose_authority_it_trusts() {
    let vhost = vhost().await;
    let authority = Authority::new();
    let server = Terminator::start(&authority.issue("localhost"), vhost.address()).await;
    let client = client(&url(&vhost, "amqps", server.port), Some(authority.file())).unwrap();
    publishes(&client).await;
    client.close().await;
}

#[tokio::test]
async fn rabbitmq_with_a_tls_listener_is_published_to() {
    let shared = SharedBroker::from_environment();
    if !shared.is_rabbitmq_for("tls::rabbitmq_with_a_tls_listener_is_published_to") {
        return;
    }
    let authority = Authority::new();
    let identity = authority.issue("localhost");
    // Its usual port is the one that the container publishes.
    let configuration = "listeners.tcp = none\nlisteners.ssl.default = 5672\n\
        ssl_options.cacertfile = /etc/rabbitmq/conf.d/ca.pem\n\
        ssl_options.certfile = /etc/rabbitmq/conf.d/server.pem\n\
        ssl_options.keyfile = /etc/rabbitmq/conf.d/key.pem\nssl_options.verify = verify_none\n";
    let files = [
        ("90-test.conf", configuration.to_owned()),
        ("ca.pem", authority.pem()),
        ("server.pem", identity.certificate),
        ("key.pem", identity.key),
    ];
    let broker = PrivateBroker::rabbitmq_with_files(&files).await;
    let vhost = broker.vhost();
    let client = client(&url(&vhost, "amqps", vhost.address().port()), Some(authority.file())).unwrap();
    publishes(&client).await;
    client.close().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused_with_what_to_do() {
    let vhost = vhost().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let usual = authority.issue("localhost");
    let elsewhere = authority.issue("rabbitmq.example");
    let old = authority.issue_with("localhost", |it| it.not_after = date_time_ymd(2020, 1, 1));
    let early = authority.issue_with("localhost", |it| it.not_before = date_time_ymd(2100, 1, 1));
    for (identity, ca, says) in [
        (&usual, Some(other.file()), "set amqp_ca_file to the PEM file of that authority"),
        (&usual, None, "set amqp_ca_file to the PEM file of that authority"),
        (&elsewhere, Some(authority.file()), "write a name that the certificate has in amqp_server_url"),
        (&old, Some(authority.file()), "has expired"),
        (&early, Some(authority.file()), "check the clocks"),
    ] {
        let server = Terminator::start(identity, vhost.address()).await;
        let client = client(&url(&vhost, "amqps", server.port), ca).unwrap();
        let why = refusal(&client).await;
        assert!(why.contains(says), "{says:?} expected: {why}");
        client.close().await;
    }
}

#[tokio::test]
async fn the_wrong_port_is_named() {
    let vhost = vhost().await;
    let authority = Authority::new();
    let with_tls = client(&url(&vhost, "amqps", vhost.address().port()), Some(authority.file())).unwrap();
    let why = refusal(&with_tls).await;
    assert!(why.contains("does not speak TLS on this port: write amqp:// in amqp_server_url"), "{why}");

    let server = Terminator::start(&authority.issue("localhost"), vhost.address()).await;
    let without = client(&url(&vhost, "amqp", server.port), None).unwrap();
    let why = refusal(&without).await;
    assert!(why.contains("amqps://"), "{why}");
    for client in [with_tls, without] {
        client.close().await;
    }
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_refused_at_once() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    for (text, says) in [(Some("no certificate"), "has no certificate in PEM format"), (None, "cannot read")]
    {
        let _ = std::fs::remove_file(&file);
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let why = client("amqps://localhost", Some(file.clone())).err().unwrap();
        assert!(why.starts_with("amqp_ca_file: ") && why.contains(says), "{why}");
    }
}
