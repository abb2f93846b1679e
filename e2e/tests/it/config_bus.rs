//! The configserver and the bus: who is told what, when a file is saved, a repository is pushed to, or somebody asks.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use e2e::{
    binaries::binary,
    broker::Vhost,
    fixture::TestSystem,
    http::Reply,
    process::Service,
    proxy::Mode,
    wait::{PATIENCE, until},
};
use lapin::{
    Channel, Connection, ExchangeKind,
    message::Delivery,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A listener as Spring's services are: the exchange declared as they declare it, and a queue of its own.
struct Listener {
    _connection: Connection,
    channel: Channel,
}

impl Listener {
    async fn new(vhost: &Vhost) -> Self {
        let (connection, channel) = vhost.channel().await;
        let none = FieldTable::default;
        let exchange = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare("springCloudBus".into(), ExchangeKind::Topic, exchange, none())
            .await
            .unwrap();
        let queue = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        channel.queue_declare("heard".into(), queue, none()).await.unwrap();
        let bind = QueueBindOptions::default();
        channel.queue_bind("heard".into(), "springCloudBus".into(), "#".into(), bind, none()).await.unwrap();
        Self { _connection: connection, channel }
    }

    /// The next event that is no acknowledgment: the configserver follows its own settings, and says so like anyone.
    async fn next(&self) -> Delivery {
        until("an event", PATIENCE, async || {
            let message = self.channel.basic_get("heard".into(), BasicGetOptions { no_ack: true }).await;
            let delivery = message.unwrap()?.delivery;
            let event: Value = serde_json::from_slice(&delivery.data).unwrap();
            (event["type"] != "AckRemoteApplicationEvent").then_some(delivery)
        })
        .await
    }

    /// The destination of the next event, which is as Spring's services read it.
    async fn heard(&self) -> String {
        let delivery = self.next().await;
        assert_eq!(delivery.routing_key.as_str(), "springCloudBus");
        let properties = &delivery.properties;
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(properties.delivery_mode(), &Some(2));
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        assert_eq!(event["id"], properties.message_id().as_ref().unwrap().as_str());
        assert_eq!(event["type"], "RefreshRemoteApplicationEvent");
        assert!(event["timestamp"].is_i64(), "{event}");
        let origin = event["originService"].as_str().unwrap();
        assert!(origin.starts_with("config-server:dev:configserver.1:"), "{origin}");
        assert_eq!(event.as_object().unwrap().len(), 5, "{event}");
        event["destinationService"].as_str().unwrap().to_owned()
    }
}

fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("accountservice.yml"), "greeting: one\n").unwrap();
    folder
}

async fn configserver(system: &TestSystem, repository: &Path) -> Service {
    let launch = system.launch("configserver", 1).flag("config-repo", &repository.to_string_lossy());
    launch.start().await
}

async fn post(server: &Service, path: &str, body: &Value) -> Reply {
    let request = server.request("POST", path).header("content-type", "application/json");
    Reply::of(request.body(body.to_string())).await.unwrap()
}

#[tokio::test]
async fn a_saved_file_a_push_and_an_operator_are_heard_by_those_whom_they_concern() {
    let (system, repository) = (TestSystem::new().await, repository());
    let listener = Listener::new(system.vhost()).await;
    let mut server = configserver(&system, repository.path()).await;

    server.until_connected().await;
    assert_eq!(listener.heard().await, "**", "it has started, with whatever files");
    // Saved as editors do: written beside, and renamed.
    fs::write(repository.path().join("new"), "greeting: two\n").unwrap();
    fs::rename(repository.path().join("new"), repository.path().join("accountservice.yml")).unwrap();
    assert_eq!(listener.heard().await, "accountservice:**");
    assert!(server.get("/accountservice/dev").await.text.contains(r#""greeting":"two""#));

    let told = post(&server, "/monitor", &json!({"path": ["vipservice-test.yml", "application.yml"]})).await;
    assert_eq!((told.status, told.json()), (200, json!(["vipservice-test", "vipservice", "*"])));
    let mut heard = vec![listener.heard().await, listener.heard().await, listener.heard().await];
    heard.sort();
    assert_eq!(heard, ["*:**", "vipservice-test:**", "vipservice:**"]);

    assert_eq!(post(&server, "/actuator/busrefresh", &json!({})).await.status, 204);
    assert_eq!(listener.heard().await, "**");
    assert_eq!(post(&server, "/actuator/busrefresh/accountservice/test", &json!({})).await.status, 204);
    assert_eq!(listener.heard().await, "accountservice:test:**");

    let port = server.address().port().to_string();
    let typed = |words: &[&str]| {
        let output = Command::new(binary("configserver")).args(words).args(["--server-port", &port]).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    assert_eq!(typed(&["healthcheck"]).0, Some(0));
    assert_eq!(typed(&["refresh"]), (Some(0), "refresh event sent to all services\n".into()));
    assert_eq!(listener.heard().await, "**");
    assert_eq!(typed(&["refresh", "vipservice:test"]).0, Some(0));
    assert_eq!(listener.heard().await, "vipservice:test:**");
    assert!(typed(&["refresh", "a b"]).1.starts_with("error: `a b` is not a valid destination"));

    // Nobody listens any more: that is no error.
    drop(listener);
    assert_eq!(post(&server, "/actuator/busrefresh", &json!({})).await.status, 204);
    server.sigterm();
    assert_eq!(server.exit_code().await, Some(0));
    for verb in ["healthcheck", "refresh"] {
        let (code, said) = typed(&[verb]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("error: ") && said.contains("does not answer"), "{said}");
    }
}

#[tokio::test]
async fn without_its_broker_it_serves_says_that_nobody_was_told_and_goes_on_with_the_next() {
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let repository = repository();
    proxy.set(Mode::Refuse);
    proxy.cut();
    let server = configserver(&system, repository.path()).await;
    server.until_ready().await;
    assert_eq!(server.get("/accountservice/dev").await.status, 200);
    let refused = post(&server, "/actuator/busrefresh", &json!({})).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("refresh events not sent: **"), "{}", refused.text);

    let listener = Listener::new(system.vhost()).await;
    proxy.set(Mode::Forward);
    server.until_connected().await;
    assert_eq!(listener.heard().await, "**", "that it has started is told once there is a broker");
    assert_eq!(post(&server, "/monitor", &json!({"path": "svc.yml"})).await.status, 200);
    assert_eq!(listener.heard().await, "svc:**");
}

/// Runs a verb with this standard input in an empty folder; returns whether it succeeded, its output and its error output.
fn shell(verb: &str, key: Option<&str>, input: &str) -> (bool, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("configserver"));
    command.arg(verb).env_clear().envs(key.map(|key| ("APP_ENCRYPT_KEY", key))).current_dir(folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses to work reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_password_is_encrypted_in_a_shell_and_only_who_has_the_key_reads_it() {
    let (done, sealed, _) = shell("encrypt", Some("foo"), "the_password\n");
    assert!(done && !sealed.contains("the_password"), "{sealed}");
    let (done, opened, _) = shell("decrypt", Some("foo"), &format!("{{cipher}}{sealed}"));
    assert_eq!((done, opened.as_str()), (true, "the_password\n"));
    for (key, says) in [
        (Some("another"), "was not encrypted with this key"),
        (Some("-----BEGIN RSA PRIVATE KEY-----"), "RSA is not supported"),
        (None, "set encrypt_key_file"),
    ] {
        let (done, opened, said) = shell("decrypt", key, &sealed);
        assert_eq!((done, opened.as_str(), said.lines().count()), (false, "", 1), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
