//! Settings that come from a folder or a config server, and change while services run.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{Router, http::StatusCode, response::IntoResponse as _, routing::get};
use e2e::{
    binaries::binary,
    broker::{Vhost, free_port},
    environment,
    fixture::TestSystem,
    http::Reply,
    load::Load,
    log::Stream,
    process::{Launch, Service},
    proxy::Mode,
    wait::{PATIENCE, until_true},
};
use lapin::{BasicProperties, options::BasicPublishOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Saves as editors do: the new file takes the old one's place at once.
fn save(folder: &TempDir, name: &str, text: &str) {
    let beside = folder.path().join("beside");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, folder.path().join(name)).unwrap();
}

fn launch(system: &TestSystem, binary: &'static str, number: usize, folder: &Path) -> Launch {
    system.launch(binary, number).flag("config-repo", &folder.to_string_lossy())
}

async fn started(launch: Launch) -> Service {
    let service = launch.start().await;
    service.until_ready().await;
    service
}

/// Tells the bus that the settings of some have changed, as a config server does.
async fn refresh(vhost: &Vhost, destination: &str) {
    let (_connection, channel) = vhost.channel().await;
    let event = json!({ "type": "RefreshRemoteApplicationEvent", "timestamp": 1_494_514_362_123_u64,
                        "originService": "config-server:docker:8888", "destinationService": destination,
                        "id": "53e61c71-cbae-4b6d-84bb-d0dcc0aeb4dc" });
    let properties = BasicProperties::default().with_content_type("application/json".into());
    let (exchange, body) = ("springCloudBus", event.to_string());
    let options = BasicPublishOptions::default();
    let published =
        channel.basic_publish(exchange.into(), exchange.into(), options, body.as_bytes(), properties);
    published.await.unwrap().await.unwrap();
}

async fn setting(service: &Service, key: &str) -> Value {
    service.get("/settings").await.json()[key].clone()
}

async fn until_set(service: &Service, key: &str, value: Value) {
    until_true(&format!("{key} is {value}"), PATIENCE, async || {
        setting(service, key).await["value"] == value
    })
    .await;
}

async fn note(service: &Service) -> String {
    let reply = service.get("/readyz?verbose").await;
    assert_eq!(
        reply.status, 200,
        "settings that are refused are no reason to send nobody here: {}",
        reply.text
    );
    reply.json()["notes"]["settings"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn three_vipservices_make_offers_with_a_new_text_without_a_restart() {
    let system = TestSystem::new().await;
    let repo = folder(&[("vipservice.yml", "offer_text: a weekend\nconsumer_prefetch: 1\n")]);
    let account = system.accountservice().await;
    let mut vips = vec![];
    for number in 1..=3 {
        vips.push(started(launch(&system, "vipservice", number, repo.path())).await);
    }
    for vip in &vips {
        vip.until_following().await;
    }
    let before = system.read_vip(&account).await;
    let offers = system.until_offers(&vips[0], 1).await;
    assert_eq!((offers[0].request_id.as_str(), offers[0].text.as_str()), (before.as_str(), "a weekend"));

    save(&repo, "vipservice.yml", "offer_text: a week\noffer_valid_for: 1day\nconsumer_prefetch: 1\n");
    refresh(system.vhost(), "vipservice:**").await;
    for vip in &vips {
        until_set(vip, "offer_text", json!("a week")).await;
    }
    until_true("each of the three has made an offer since", PATIENCE, async || {
        system.read_vip(&account).await;
        let offers = system.offers(&vips[0]).await;
        let new = offers.iter().filter(|offer| offer.text == "a week");
        new.map(|offer| offer.made_by.clone()).collect::<std::collections::BTreeSet<_>>().len() == 3
    })
    .await;
    let offers = system.offers(&vips[0]).await;
    assert!(offers.iter().filter(|offer| offer.text == "a weekend").count() == 1, "{offers:?}");
    let said =
        vips[0].log().filter(|line| line.field("message").ends_with("changed: offer_text, offer_valid_for"));
    assert_eq!(said.len(), 1, "names, and no values");
}

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_is_said_until_it_is_corrected() {
    let system = TestSystem::new().await;
    let repo = folder(&[("vipservice.yml", "offer_text: a weekend\n")]);
    let vip = started(launch(&system, "vipservice", 1, repo.path())).await;
    vip.until_following().await;
    assert!(note(&vip).await.starts_with("from "));

    for _ in 0..2 {
        save(&repo, "vipservice.yml", "offer_text: a week\noffer_hours: at night\n");
        refresh(system.vhost(), "**").await;
        until_true("it says what is wrong", PATIENCE, async || note(&vip).await.contains("at night")).await;
    }
    let said = note(&vip).await;
    assert!(said.contains("offer_hours") && said.contains("vipservice.yml"), "{said}");
    until_true("both were refused", PATIENCE, async || vip.metric("hops_settings_refusals_total").await == 2)
        .await;
    let lines = vip.log().count(|line| line.field("message").contains("could not be read again"));
    assert_eq!(lines, 1, "the same fault is logged once");
    assert_eq!(setting(&vip, "offer_text").await["value"], "a weekend");
    assert!(!vip.get("/readyz").await.text.contains("at night"), "only who asks for more is shown more");

    save(&repo, "vipservice.yml", "offer_text: a week\noffer_hours: 20-6\n");
    refresh(system.vhost(), "**").await;
    until_set(&vip, "offer_text", json!("a week")).await;
    assert!(note(&vip).await.starts_with("from "));
}

#[test]
fn who_changes_settings_can_ask_whether_a_service_would_start_with_them() {
    let repo = folder(&[("vipservice.yml", "offer_text: a weekend\n")]);
    let asked = || {
        let flags = ["--config-repo", &repo.path().to_string_lossy(), "healthcheck", "--settings"];
        let output = Command::new(binary("vipservice")).args(flags).env_clear().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(asked(), (Some(0), String::new()), "though none runs here");
    save(&repo, "vipservice.yml", "offer_textt: a week\n");
    let (code, said) = asked();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("unknown key `offer_textt`"), "{said}");
}

#[tokio::test]
async fn after_its_broker_was_away_a_service_reads_its_settings_again() {
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let repo = folder(&[("vipservice.yml", "offer_text: a weekend\n")]);
    let vip = started(launch(&system, "vipservice", 1, repo.path())).await;
    vip.until_following().await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    // Whoever says so now is not heard.
    save(&repo, "vipservice.yml", "offer_text: a week\n");
    proxy.set(Mode::Forward);
    until_set(&vip, "offer_text", json!("a week")).await;
    until_true("there is one queue for one listener", PATIENCE, async || {
        let queues = system.vhost().queues().await;
        queues.keys().filter(|name| name.starts_with("springCloudBus.")).count() == 1
    })
    .await;
}

#[tokio::test]
async fn the_log_becomes_more_talkative_without_a_restart() {
    let system = TestSystem::new().await;
    let repo = folder(&[("application.yml", "log_level: info\n")]);
    let account = started(launch(&system, "accountservice", 1, repo.path())).await;
    account.until_following().await;
    let quiet = system.read_vip(&account).await;
    save(&repo, "application.yml", "log_level: debug\n");
    refresh(system.vhost(), "accountservice:dev:**").await;
    until_set(&account, "log_level", json!("debug")).await;
    let loud = system.read_vip(&account).await;
    until_true("the first hop is logged", PATIENCE, async || {
        account.log().hops(&loud).iter().any(|line| line.hop() == Some(1))
    })
    .await;
    assert!(account.log().hops(&quiet).iter().all(|line| line.hop() > Some(3)));
}

#[tokio::test]
async fn what_is_not_live_is_said_once_and_shown_as_the_next_value() {
    let system = TestSystem::new().await;
    let repo = folder(&[("vipservice.yml", "consumer_prefetch: 50\n")]);
    let mut vip = started(launch(&system, "vipservice", 1, repo.path())).await;
    vip.until_following().await;
    save(&repo, "vipservice.yml", "consumer_prefetch: 7\noffer_text: a week\n");
    refresh(system.vhost(), "vipservice").await;
    until_set(&vip, "offer_text", json!("a week")).await;
    save(&repo, "vipservice.yml", "consumer_prefetch: 7\noffer_text: a month\n");
    refresh(system.vhost(), "vipservice").await;
    until_set(&vip, "offer_text", json!("a month")).await;
    let said =
        |line: &e2e::log::Line| line.field("message") == "consumer_prefetch: takes effect at next start";
    assert_eq!(vip.log().count(said), 1);
    let shown = setting(&vip, "consumer_prefetch").await;
    assert_eq!(
        (&shown["value"], &shown["atNextStart"], &shown["live"]),
        (&json!(50), &json!(7), &json!(false))
    );

    vip.sigterm();
    assert_eq!(vip.exit_code().await, Some(0));
    vip.restart().await;
    let shown = setting(&vip, "consumer_prefetch").await;
    assert_eq!((&shown["value"], shown.get("atNextStart")), (&json!(7), None));
}

#[tokio::test]
async fn settings_are_shown_with_their_layers_and_without_secrets_and_to_no_web_page() {
    let system = TestSystem::new().await.behind(free_port());
    let repo = folder(&[
        ("application.yml", "shutdown_grace: 7s\namqp_server_url: amqp://u:hunter2@127.0.0.1:1\n"),
        ("vipservice.yml", "offer_text: ${greeting.text:none}\n"),
    ]);
    let vip = launch(&system, "vipservice", 1, repo.path()).env("APP_AMQP_PASSWORD", "hunter2");
    let vip = vip.env("APP_AMQP_USERNAME", "u").env("APP_CLIENT_TIMEOUT", "9s").start().await;
    let shown = vip.get("/settings").await.json();
    for (key, value, origin) in [
        ("shutdown_grace", json!("7s"), "application.yml"),
        ("offer_text", json!("none"), "vipservice.yml"),
        ("client_timeout", json!("9s"), "APP_CLIENT_TIMEOUT"),
        ("server_port", json!(0), "--server-port"),
        ("amqp_password", json!("***"), "APP_AMQP_PASSWORD"),
        ("offers_max", json!(10_000), "default"),
    ] {
        assert_eq!(shown[key]["value"], value, "{key}");
        assert!(shown[key]["origin"].as_str().unwrap().ends_with(origin), "{key}: {}", shown[key]);
    }
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert!(vip.log().filter(|line| line.text.contains("hunter2")).is_empty());

    let page =
        Reply::of(vip.request("GET", "/settings").header("origin", "https://evil.example")).await.unwrap();
    assert_eq!((page.status, page.header("content-type")), (403, "application/problem+json"));
}

/// A config server that answers all with one document, which a test may change.
struct FakeServer {
    document: Arc<Mutex<Value>>,
    _serving: JoinSet<()>,
}

async fn serve(port: u16, application: &'static str, source: Value) -> FakeServer {
    let document = Arc::new(Mutex::new(source));
    let of_server = Arc::clone(&document);
    let answer = move |path: axum::extract::Path<String>| {
        let source = of_server.lock().unwrap().clone();
        let name = format!("file:/repo/{application}.yml");
        let answer = json!({ "name": application, "profiles": ["dev"], "label": null, "version": null,
            "propertySources": [{ "name": name, "source": source }, { "name": "file:/repo/application.yml",
            "source": { "shutdown_grace": "7s", "of_another": 1 } }] });
        async move {
            let is_asked_for = path.0 == format!("{application}/dev/a(_)b");
            if is_asked_for {
                axum::Json(answer).into_response()
            } else {
                StatusCode::NOT_FOUND.into_response()
            }
        }
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let router = Router::new().route("/{*path}", get(answer));
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    FakeServer { document, _serving: serving }
}

#[tokio::test]
async fn a_config_server_that_comes_up_later_is_waited_for_and_followed() {
    let (system, port) = (TestSystem::new().await, free_port());
    let vip = system
        .launch("vipservice", 1)
        .env("APP_CONFIG_SERVER", &format!("http://u:hunter2@127.0.0.1:{port}"));
    let mut vip = vip.env("APP_CONFIG_LABEL", "a/b").spawn();
    until_true("it says that it waits", PATIENCE, async || {
        vip.log()
            .text(Stream::Err)
            .contains(&format!("waiting for the config server at http://127.0.0.1:{port}"))
    })
    .await;
    let server = serve(port, "vipservice", json!({ "offer_text": "a weekend" })).await;
    vip.until_listening(0).await;
    vip.until_ready().await;
    vip.until_following().await;
    let shown = setting(&vip, "offer_text").await;
    assert_eq!(shown, json!({ "value": "a weekend", "origin": "file:/repo/vipservice.yml", "live": true }));
    assert_eq!(setting(&vip, "shutdown_grace").await["value"], "7s");

    *server.document.lock().unwrap() = json!({ "offer_text": "a week" });
    refresh(system.vhost(), "vipservice:**").await;
    until_set(&vip, "offer_text", json!("a week")).await;

    drop(server);
    refresh(system.vhost(), "vipservice:**").await;
    until_true("it says that the server is away", PATIENCE, async || note(&vip).await.contains("refused"))
        .await;
    assert_eq!(setting(&vip, "offer_text").await["value"], "a week");
    assert!(vip.log().filter(|line| line.text.contains("hunter2")).is_empty());
}

#[tokio::test]
async fn who_is_told_to_stop_while_its_config_server_is_waited_for_stops() {
    let system = TestSystem::new().await;
    for binary in ["accountservice", "vipservice"] {
        let launch =
            system.launch(binary, 1).flag("config-server", &format!("http://127.0.0.1:{}", free_port()));
        let mut service = launch.spawn();
        until_true("it says that it waits", PATIENCE, async || {
            service.log().text(Stream::Err).contains("waiting for the config server")
        })
        .await;
        service.sigterm();
        assert_eq!(service.exit_code().await, Some(0), "{binary}");
    }
}

#[tokio::test]
async fn without_its_config_server_a_service_and_its_verbs_end_with_what_to_do_or_go_on_where_that_was_asked_for()
 {
    let system = TestSystem::new().await;
    let url = format!("http://127.0.0.1:{}", free_port());
    let without = |launch: Launch| launch.flag("config-server", &url).flag("config-patience", "1ms");
    for launch in [
        system.launch("vipservice", 1),
        system.launch("accountservice", 1),
        system.launch("vipservice", 1).argument("dead-letters").argument("list"),
        system.launch("accountservice", 1).argument("outbox").argument("list"),
    ] {
        let mut service = without(launch).spawn();
        assert_eq!(service.exit_code().await, Some(1));
        let said = service.log().text(Stream::Err);
        assert_eq!(said.lines().count(), 1, "{said}");
        for part in ["error: the config server at ", &url, "--config-server URL", "--config-fail-fast false"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let vip = started(without(system.launch("vipservice", 1)).flag("config-fail-fast", "false")).await;
    let said = vip.log().count(|line| line.field("message").contains("going on with compiled defaults"));
    assert_eq!(said, 1);
}

#[tokio::test]
async fn a_file_saved_in_the_config_servers_folder_reaches_three_vipservices_by_itself() {
    let system = TestSystem::new().await;
    let repo = folder(&[
        ("application.yml", "shutdown_grace: 7s\n"),
        ("vipservice.yml", "offer_text: a weekend\nconsumer_prefetch: 50\n"),
        ("vipservice-dev.yml", "offer_text: ${where:the mountains}\nretry_delays: 1s\n"),
    ]);
    let server = started(launch(&system, "configserver", 1, repo.path())).await;
    let url = server.address().url("");
    let mut vips = vec![];
    for number in 1..=3 {
        vips.push(started(system.launch("vipservice", number).flag("config-server", &url)).await);
    }
    for vip in &vips {
        vip.until_following().await;
    }
    for vip in &vips {
        let shown = setting(vip, "offer_text").await;
        assert_eq!((&shown["value"], &shown["live"]), (&json!("the mountains"), &json!(true)));
        assert!(shown["origin"].as_str().unwrap().ends_with("/vipservice-dev.yml"), "{shown}");
        assert_eq!(setting(vip, "shutdown_grace").await["value"], "7s");
    }
    save(&repo, "vipservice-dev.yml", "offer_text: the sea\n");
    for vip in &vips {
        until_set(vip, "offer_text", json!("the sea")).await;
    }
    // A file that the server cannot read is an error of its own; whoever is ready stays so.
    save(&repo, "vipservice-dev.yml", "offer_text: [\n");
    for vip in &vips {
        until_true("it says that something is wrong", PATIENCE, async || note(vip).await.contains("500"))
            .await;
        assert_eq!(setting(vip, "offer_text").await["value"], "the sea");
    }
    save(&repo, "vipservice-dev.yml", "offer_text: the plains\n");
    for vip in &vips {
        until_set(vip, "offer_text", json!("the plains")).await;
        assert!(note(vip).await.starts_with("from the config server at "));
    }
}

#[tokio::test]
async fn under_load_settings_change_and_a_config_server_that_is_gone_is_missed_only_by_who_starts() {
    let system = TestSystem::new().await;
    let repo = folder(&[("vipservice.yml", "offer_text: a weekend\n")]);
    let port = free_port().to_string();
    let mut server =
        started(launch(&system, "configserver", 1, repo.path()).flag("server-port", &port)).await;
    let url = server.address().url("");
    let vip = |number| system.launch("vipservice", number).flag("config-server", &url);
    let (one, two, three) = (started(vip(1)).await, started(vip(2)).await, started(vip(3)).await);
    let all = [&one, &two, &three];
    for vip in all {
        vip.until_following().await;
    }
    let account = started(system.launch("accountservice", 1).flag("config-server", &url)).await;
    let load = Load::steady().start(&account.address());
    load.until_answered(20).await;

    save(&repo, "vipservice.yml", "offer_text: a week\n");
    for vip in all {
        until_set(vip, "offer_text", json!("a week")).await;
    }
    let since = system.read_vip(&account).await;
    save(&repo, "vipservice.yml", "offer_text: a year\noffer_valid_for: as long as you like\n");
    for vip in all {
        until_true("it names the bad value", PATIENCE, async || note(vip).await.contains("offer_valid_for"))
            .await;
        assert_eq!(setting(vip, "offer_text").await["value"], "a week");
    }

    server.kill9().await;
    let mut four = vip(4).spawn();
    let waits = || four.log().text(Stream::Err).contains("waiting for the config server");
    until_true("the fourth says that it waits", PATIENCE, async || waits()).await;
    // In full it is away for as long as an operator needs to notice.
    let away = load.answered() + if environment::is_full() { 1000 } else { 40 };
    load.until_answered(away).await;
    for vip in all {
        assert_eq!(vip.get("/readyz").await.status, 200);
    }
    save(&repo, "vipservice.yml", "offer_text: a year\n");
    server.restart().await;
    four.until_listening(0).await;
    four.until_ready().await;
    assert_eq!(setting(&four, "offer_text").await["value"], "a year");
    // It starts with other files than it ended with, and so it tells everybody.
    for vip in all {
        until_set(vip, "offer_text", json!("a year")).await;
    }

    let mut record = load.stop().await;
    record.sent.insert(since.clone());
    record.answered.insert(since.clone());
    system.assert_promise(&record, &account, &[&one, &two, &three, &four]).await;
    let offers = system.offers(&four).await;
    let text_of = |id: &str| offers.iter().find(|offer| offer.request_id == id).map(|offer| &offer.text);
    assert_eq!(text_of(&since).map(String::as_str), Some("a week"));
}
