//! Access, the events that are sent, and the answers without a broker.

use std::{net::SocketAddr, sync::Mutex};

use axum::{
    body::Body,
    http::{HeaderName, Request},
};
use http_body_util::BodyExt as _;
use messaging::{BrokerStatus, LinkStatus, Message, MockMessagingClient, PublishError};
use prometheus_client::registry::Registry;
use service::http::{Health, Peer};

use super::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const PUSH: (&str, &str) = ("x-github-event", "push");
const COMMITS: &str = r#"{"commits": [{"modified": ["accountservice-test.yml"]}]}"#;

/// A server with a broker that takes everything, or none.
struct TestServer {
    router: service::http::Guarded,
    sent: Arc<Mutex<Vec<Message>>>,
}

fn server(has_broker: bool, secret: Option<&str>) -> TestServer {
    let sent = Arc::new(Mutex::new(vec![]));
    let mut client = MockMessagingClient::new();
    let taken = Arc::clone(&sent);
    client.expect_broadcast().returning(move |exchange, key, message| {
        assert_eq!((exchange, key), ("springCloudBus", "springCloudBus"));
        if has_broker {
            taken.lock().unwrap().push(message);
            return Ok(());
        }
        Err(PublishError::Unconfirmed("the connection is lost".into()))
    });
    client.expect_status().returning(|| {
        let publishing = LinkStatus::Connecting(Some("amqp://localhost:5672: refused".into()));
        BrokerStatus { publishing, consuming: LinkStatus::Up }
    });
    let id = BusId::given("config-server:native:8888:abc");
    let refresher = Refresher { client: Arc::new(client), id };
    let monitor = Monitor { refresher, access: Access::default(), secret: secret.map(Secret::new) };
    let health = Arc::new(Health::default());
    let router = service::http::router(
        super::router(monitor),
        &service::http::Settings::default().into(),
        &health,
        Registry::default(),
    );
    TestServer { router, sent }
}

impl TestServer {
    async fn post(&self, peer: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = Request::post(path).body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(Peer(SocketAddr::new(peer.parse().unwrap(), 1)));
        for (name, value) in [("host", "localhost:8888")].iter().chain(headers) {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let response = self.router.answer(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn monitor(&self, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        self.post("127.0.0.1", "/monitor", headers, body).await
    }

    /// The destinations of the events so far.
    fn told(&self) -> Vec<String> {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        let events = sent.iter().map(|message| Event::read(&message.body).unwrap());
        events
            .map(|event| {
                assert_eq!(event.origin, "config-server:native:8888:abc");
                assert_eq!(event.change, Change::Refresh);
                event.destination.unwrap()
            })
            .collect()
    }
}

#[tokio::test]
async fn a_push_tells_each_name_once() {
    let server = server(true, None);
    let (status, names) = server.monitor(&[JSON, PUSH], COMMITS).await;
    assert_eq!((status, names.as_str()), (200, r#"["accountservice-test","accountservice"]"#));
    assert_eq!(server.told(), ["accountservice-test:**", "accountservice:**"]);

    for (headers, body, names, told) in [
        (&[JSON, ("x-github-event", "ping")][..], COMMITS, "[]", &[][..]),
        (&[JSON], COMMITS, "[]", &[]),
        (&[JSON, ("x-gitea-event", "push")], COMMITS, r#"["*"]"#, &["*:**"]),
        (&[JSON], r#"{"path": "application.yml"}"#, r#"["*"]"#, &["*:**"]),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            "path=svc&path=*",
            r#"["svc","*"]"#,
            &["svc:**", "*:**"],
        ),
    ] {
        assert_eq!(server.monitor(headers, body).await, (200, names.into()), "{headers:?} {body}");
        assert_eq!(server.told(), told, "{headers:?} {body}");
    }
}

#[tokio::test]
async fn what_is_no_notification_is_refused_and_tells_nobody() {
    let server = server(true, None);
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (headers, body, expected) in [
        (&[JSON, PUSH][..], "{", 400),
        (&[JSON, PUSH], "", 400),
        (&[JSON, PUSH], "[]", 400),
        (&[form], "paths=svc", 400),
        (&[form, PUSH], "payload=%7B%7D", 400),
        (&[("content-type", "text/plain")], COMMITS, 415),
        (&[PUSH], COMMITS, 415),
    ] {
        assert_eq!(server.monitor(headers, body).await.0, expected, "{headers:?} {body}");
    }
    assert_eq!(server.told(), [""; 0]);
}

#[tokio::test]
async fn an_operator_tells_everybody_or_some() {
    let server = server(true, None);
    for (path, told) in [
        ("/actuator/busrefresh", "**"),
        ("/actuator/busrefresh/accountservice", "accountservice:**"),
        ("/actuator/busrefresh/accountservice:test", "accountservice:test:**"),
        ("/actuator/busrefresh/accountservice/test/8080", "accountservice:test:8080"),
        ("/actuator/busrefresh/accountservice:**", "accountservice:**"),
    ] {
        assert_eq!(server.post("127.0.0.1", path, &[], "").await, (204, String::new()), "{path}");
        assert_eq!(server.told(), [told], "{path}");
    }
}

#[tokio::test]
async fn who_is_elsewhere_needs_the_token_or_a_signature() {
    const SECRET: &str = "It's a Secret to Everybody";
    // GitHub's own example: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    const HELLO: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(b"Hello, World!");
    assert_eq!(hex::encode(mac.finalize().into_bytes()), HELLO);

    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(COMMITS.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    let (signed, wrong) = (format!("sha256={signature}"), format!("sha256={HELLO}"));
    let server = server(true, Some(SECRET));
    for (header, expected) in [
        (("x-hub-signature-256", signed.as_str()), 200),
        (("x-hub-signature", &signed), 200),
        (("x-gogs-signature", &signature), 200),
        (("x-gitlab-token", SECRET), 200),
        (("x-hub-signature-256", &wrong), 403),
        (("x-hub-signature-256", ""), 403),
        (("x-hub-signature-256", "sha256="), 403),
        (("x-hub-signature-256", "sha256=zz"), 403),
        (("x-gitlab-token", "It's a Secret"), 403),
        (("x-forwarded-for", "10.0.0.1"), 403),
    ] {
        let (status, body) = server.post("10.0.0.1", "/monitor", &[JSON, PUSH, header], COMMITS).await;
        assert_eq!(status, expected, "{header:?} {body}");
        assert_eq!(server.told().len(), if expected == 200 { 2 } else { 0 });
    }
    // A wrong signature is a mistake that is to be seen, from this machine too; without one the machine is enough.
    assert_eq!(server.monitor(&[JSON, PUSH, ("x-hub-signature-256", &wrong)], COMMITS).await.0, 403);
    assert_eq!(server.monitor(&[JSON, PUSH], COMMITS).await.0, 200);
    assert_eq!(server.told().len(), 2);
    // Signing is for notifications alone, and means nothing where there is no secret.
    let header = ("x-hub-signature-256", signed.as_str());
    assert_eq!(server.post("10.0.0.1", "/actuator/busrefresh", &[header], COMMITS).await.0, 403);
    let server = self::server(true, None);
    let (status, body) = server.post("10.0.0.1", "/monitor", &[JSON, PUSH, header], COMMITS).await;
    assert!(status == 403 && body.contains("management_token"), "{body}");
    assert_eq!(server.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_it_is_said_that_nobody_was_told() {
    let server = server(false, None);
    let (status, body) = server.monitor(&[JSON, PUSH], COMMITS).await;
    assert_eq!(status, 503);
    for part in [
        "2 of 2 refresh events not sent",
        "accountservice-test:**",
        "within 2s",
        "amqp://localhost:5672: refused",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(server.post("127.0.0.1", "/actuator/busrefresh", &[], "").await.0, 503);
    assert_eq!(server.monitor(&[JSON], "{}").await, (200, "[]".into()), "nobody is to be told");
}

#[tokio::test(start_paused = true)]
async fn a_start_is_told_to_everybody_once_the_broker_is_there() {
    let sent = Arc::new(Mutex::new(vec![]));
    let mut client = MockMessagingClient::new();
    let absent = || PublishError::Unconfirmed("the connection is lost".into());
    client.expect_broadcast().times(20).returning(move |_, _, _| Err(absent()));
    client.expect_broadcast().times(1).returning({
        let sent = Arc::clone(&sent);
        move |_, _, message| {
            sent.lock().unwrap().push(message);
            Ok(())
        }
    });
    announcer(client).announce(CancellationToken::new()).await;
    let event = Event::read(&sent.lock().unwrap()[0].body).unwrap();
    assert_eq!((event.destination.as_deref(), event.change), (Some("**"), Change::Refresh));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_to_tell_of_the_start() {
    let mut client = MockMessagingClient::new();
    client.expect_broadcast().returning(|_, _, _| Err(PublishError::Unconfirmed("nobody is there".into())));
    let stop = CancellationToken::new();
    let stopping = async {
        tokio::time::sleep(100 * CONFIRM_TIMEOUT).await;
        stop.cancel();
    };
    tokio::join!(announcer(client).announce(stop.clone()), stopping);
}

fn announcer(client: MockMessagingClient) -> Refresher {
    let id = BusId::given("config-server:native:8888:abc");
    Refresher { client: Arc::new(client), id }
}
