//! The services as an operator sees them: failed starts, exit codes, checks, problems, metrics, the outbox by hand.

use std::{net::TcpListener, time::Duration};

use e2e::{
    broker::{SharedBroker, free_port},
    fixture::TestSystem,
    http::Reply,
    log::Stream,
    process::{Launch, Service},
    proxy::Proxy,
    wait::{PATIENCE, until, until_true},
};
use lapin::types::FieldTable;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

/// A system whose broker nobody has started; the tests on it need no broker at all.
async fn without_broker() -> TestSystem {
    TestSystem::new().await.behind(free_port())
}

/// Starts what cannot start: its exit code and what it said on standard error.
async fn failed(launch: Launch) -> (Option<i32>, String) {
    let mut service = launch.spawn();
    let code = service.exit_code().await;
    (code, service.log().text(Stream::Err))
}

/// One line that begins with `error: ` and holds all of `words`.
#[track_caller]
fn assert_one_line(said: &str, words: &[&str]) {
    assert!(said.starts_with("error: "), "{said:?}");
    assert_eq!(said.lines().count(), 1, "{said:?}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said:?}");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let system = without_broker().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for service in ["accountservice", "vipservice"] {
        let (code, said) = failed(system.launch(service, 1).flag("server-port", &port)).await;
        assert_eq!(code, Some(1));
        assert_one_line(&said, &[&port, "--server-port"]);
    }
}

#[tokio::test]
async fn a_store_that_is_open_already_is_one_clear_line() {
    let system = without_broker().await;
    let _first = system.launch("accountservice", 1).start().await;
    let (code, said) = failed(system.launch("accountservice", 1)).await;
    assert_eq!(code, Some(1));
    assert_one_line(&said, &["accountservice.1", "INSTANCE_NAME"]);
}

#[tokio::test]
async fn a_bad_setting_is_named_with_its_value_and_its_source() {
    let system = without_broker().await;
    for (flag, value, words) in [
        ("amqp-server-url", "http://localhost:5672", ["http://", "amqp://"]),
        ("amqp-server-url", "amqp://localhost:5672/", ["amqp://localhost:5672 ", "vhost"]),
        ("amqp-server-url", "amqp://localhost:notaport", ["port", "1 to 65535"]),
        ("amqp-server-url", "amqp://[::1]:5672", ["[::1]", "host name"]),
        ("shutdown-grace", "soon", ["soon", "duration"]),
        ("consumer-prefetch", "0", ["0", "more than 0"]),
        ("consumer-prefetch", "many", ["many", "integer"]),
        ("log-level", "loud", ["loud", "debug"]),
        ("server-host", "nowhere", ["nowhere", "address"]),
    ] {
        let key = flag.replace('-', "_");
        let named = system.launch("vipservice", 1).flag(flag, value);
        let (code, said) = failed(named).await;
        assert_eq!(code, Some(1), "--{flag} {value}: {said}");
        assert_one_line(&said, &[&key, words[0], words[1], &format!("--{flag}")]);
    }
    let variable = system.launch("vipservice", 1).env("APP_CONSUMER_PREFETCH", "many");
    let (code, said) = failed(variable).await;
    assert_eq!(code, Some(1));
    assert_one_line(&said, &["consumer_prefetch", "many", "APP_CONSUMER_PREFETCH"]);
}

#[tokio::test]
async fn an_unknown_flag_is_answered_with_the_nearest_known_key() {
    let system = without_broker().await;
    let misspelled = system.launch("accountservice", 1).flag("broker-url", "amqp://localhost");
    let (code, said) = failed(misspelled).await;
    assert_eq!(code, Some(2));
    assert_one_line(&said, &["--broker-url", "did you mean `amqp_server_url`?"]);
}

#[tokio::test]
async fn both_signals_end_both_services_with_exit_code_0() {
    let system = TestSystem::new().await;
    for stop in [Service::sigterm, Service::sigint] {
        let (mut account, mut vip) = tokio::join!(system.accountservice(), system.vipservice(1));
        for service in [&mut account, &mut vip] {
            stop(service);
            assert_eq!(service.exit_code().await, Some(0));
            assert_eq!(service.log().text(Stream::Err), "");
        }
    }
}

#[tokio::test]
async fn while_it_lingers_a_service_is_not_ready_and_answers_and_a_second_signal_ends_it_at_once() {
    let system = TestSystem::new().await;
    for binary in ["accountservice", "vipservice"] {
        let launch = system.launch(binary, 1).flag("shutdown-linger", "50s").flag("shutdown-grace", "55s");
        let mut service = launch.start().await;
        service.until_ready().await;

        service.sigterm();
        let ready = until("/readyz says that it drains", PATIENCE, async || {
            Some(service.get("/readyz").await).filter(|reply| reply.status == 503)
        })
        .await;
        assert!(ready.text.contains("draining"), "{}", ready.text);
        let path = if binary == "accountservice" { "/accounts/10001" } else { "/offers" };
        let reply = service.get(path).await;
        assert_eq!((reply.status, reply.header("connection")), (200, "close"));
        assert_eq!(service.get("/livez").await.status, 200);

        let start = Instant::now();
        service.sigterm();
        assert_eq!(service.exit_code().await, Some(130));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_request_in_hand_is_finished_before_the_end() {
    let system = TestSystem::new().await;
    let mut account = system.accountservice().await;
    let port = account.address().port();
    let mut in_hand = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    in_hand.write_all(b"GET /accounts/10000 HTTP/1.1\r\nhost: localhost\r\n").await.expect("written");
    // The server has read the half request once it has answered a whole one that came later.
    for _ in 0..3 {
        assert_eq!(account.get("/livez").await.status, 200);
    }

    account.sigterm();
    until_true("new connections are refused", PATIENCE, async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_err()
    })
    .await;
    in_hand.write_all(b"\r\n").await.expect("written");

    let mut answer = String::new();
    let end = timeout(PATIENCE, in_hand.read_to_string(&mut answer)).await;
    end.expect("the connection ends").expect("the answer is whole");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close\r\n"), "{answer}");
    assert!(answer.ends_with('}'), "{answer}");
    assert_eq!(account.exit_code().await, Some(0));
    assert_eq!(system.vhost().ready("vip_queue").await, Some(1), "its notification was sent on the way out");
}

#[tokio::test]
async fn out_of_time_a_service_says_what_is_left_and_exits_with_code_1() {
    let system = without_broker().await;
    let mut account = system.launch("accountservice", 1).flag("shutdown-grace", "1s").start().await;
    // The relay would try for three seconds.
    system.read_vip(&account).await;

    account.sigterm();

    assert_eq!(account.exit_code().await, Some(1));
    let said = account.log().filter(|line| line.field("level") == "WARN");
    let left =
        said.iter().map(|line| line.field("message")).find(|message| message.contains("not done within 1s"));
    assert!(left.is_some_and(|left| left.contains("waiting in the outbox 1")), "{said:#?}");
}

#[tokio::test]
async fn the_outbox_can_be_listed_and_drained_by_hand() {
    let system = TestSystem::new().await;
    // Its broker is away, so the notifications are still there when the service has stopped.
    let away = system.vhost().amqp_url_at(free_port());
    let mut account = system.launch("accountservice", 1).flag("amqp-server-url", &away).start().await;
    let mut ids = vec![];
    for _ in 0..3 {
        ids.push(system.read_vip(&account).await);
    }
    account.sigterm();
    assert_eq!(account.exit_code().await, Some(0));
    let told = account.log().filter(|line| line.field("level") == "WARN");
    let told = told
        .iter()
        .map(|line| line.field("message"))
        .find(|message| message.contains("waiting in the outbox"));
    let told = told.expect("it says what it leaves behind");
    assert!(told.starts_with("3 ") && told.contains("/accountservice.1"), "its count and its folder: {told}");

    // A disk that is full does not keep anybody from it: no file may be larger than 4 KiB.
    let outbox = async |verb: &str| {
        let launch = system.launch("accountservice", 1).argument("outbox").argument(verb).ulimit("-f 8");
        let mut command = launch.spawn();
        let code = command.exit_code().await;
        let (out, err) = (command.log().text(Stream::Out), command.log().text(Stream::Err));
        assert_eq!(code, Some(0), "outbox {verb}: {out}{err}");
        out
    };
    let listed = outbox("list").await;
    assert!(ids.iter().all(|id| listed.contains(id)), "{listed}");
    outbox("drain").await;
    let queued = system.vhost().messages("vip_queue").await;
    assert_eq!(queued.iter().map(e2e::broker::StoredMessage::request_id).collect::<Vec<_>>(), ids);
    let listed = outbox("list").await;
    assert!(!ids.iter().any(|id| listed.contains(id)), "{listed}");
}

#[tokio::test]
async fn damage_to_the_outbox_costs_one_notification_and_everybody_is_told() {
    let system = TestSystem::new().await;
    let away = system.vhost().amqp_url_at(free_port());
    let launch = || system.launch("accountservice", 1);
    let mut account = launch().flag("amqp-server-url", &away).start().await;
    let mut ids = vec![];
    for _ in 0..3 {
        ids.push(system.read_vip(&account).await);
    }
    account.kill9().await;
    let folder = system.data().join("accountservice.1/outbox");
    let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "log")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let mut list = launch().argument("outbox").argument("list").spawn();
    assert_eq!(list.exit_code().await, Some(0));
    let listed = list.log().text(Stream::Out);
    assert!(listed.contains("2 waiting") && listed.contains("record 1 cannot be read"), "{listed}");
    assert!(!listed.contains(&ids[0]) && ids[1..].iter().all(|id| listed.contains(id)), "{listed}");

    let account = launch().start().await;
    let told = account.log().count(|line| {
        line.field("level") == "ERROR" && line.field("message").contains("record 1 cannot be read")
    });
    assert_eq!(told, 1);
    account.until_ready().await;
    let ready = account.get("/readyz?verbose").await.text;
    assert!(ready.contains("damaged, see the log: 1"), "{ready}");
    let queued = until("the others are sent", PATIENCE, async || {
        let queued = system.vhost().messages("vip_queue").await;
        (queued.len() == 2).then_some(queued)
    })
    .await;
    assert_eq!(queued.iter().map(e2e::broker::StoredMessage::request_id).collect::<Vec<_>>(), ids[1..]);
}

#[tokio::test]
async fn refused_credentials_are_shown_and_neither_retried_hotly_nor_printed() {
    const SECRET: &str = "swordfish-81";
    if !SharedBroker::from_environment().is_rabbitmq_for("it has one user") {
        return;
    }
    let vhost = SharedBroker::from_environment().vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let system = TestSystem::on(vhost).behind(proxy.port());
    let start = async |binary| {
        let launch = system.launch(binary, 1).env("APP_AMQP_USERNAME", &system.vhost().user());
        launch.env("APP_AMQP_PASSWORD", SECRET).start().await
    };
    let services = [start("accountservice").await, start("vipservice").await];
    for service in &services {
        until_true("/readyz says that the credentials are refused", PATIENCE, async || {
            let reply = service.get("/readyz").await;
            reply.status == 503 && reply.text.contains("refused") && reply.text.contains("APP_AMQP_PASSWORD")
        })
        .await;
        assert_eq!(service.get("/livez").await.status, 200);
    }

    // A rate can only be measured over time.
    let before = proxy.accepted();
    sleep_until(Instant::now() + Duration::from_secs(3)).await;
    let attempts = proxy.accepted() - before;
    assert!(attempts <= 8, "{attempts} attempts of four connections in 3 s");

    system.vhost().create_user(SECRET).await;
    for service in &services {
        service.until_ready().await;
        for text in [
            service.log().text(Stream::Out),
            service.log().text(Stream::Err),
            service.get("/readyz").await.text,
            service.get("/metrics").await.text,
        ] {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_named_until_somebody_deletes_it() {
    let system = TestSystem::new().await;
    system.vhost().declare("vip_queue", FieldTable::default()).await;
    let services =
        [system.launch("accountservice", 1).start().await, system.launch("vipservice", 1).start().await];
    for service in &services {
        until_true("/readyz names the queue, what is wanted and what is there", PATIENCE, async || {
            let reply = service.get("/readyz").await;
            let names = |word: &&str| reply.text.contains(*word);
            reply.status == 503 && ["'vip_queue'", "received", "current is none"].iter().all(names)
        })
        .await;
        assert_eq!(service.get("/livez").await.status, 200);
    }
    let id = system.read_vip(&services[0]).await;

    system.vhost().delete("vip_queue").await;

    let offers = system.until_offers(&services[1], 1).await;
    assert_eq!(offers[0].request_id, id);
}

#[tokio::test]
async fn problems_are_json_with_the_request_id() {
    let system = without_broker().await;
    let (account, vip) = (
        system.launch("accountservice", 1).flag("outbox-max", "1").start().await,
        system.launch("vipservice", 1).start().await,
    );
    system.read_vip(&account).await;

    for (service, method, path, status) in [
        (&account, "GET", "/accounts/abc", 400),
        (&account, "GET", "/accounts?limit=nothing", 400),
        (&account, "GET", "/accounts/10100", 404),
        (&account, "GET", "/nothing", 404),
        (&account, "PATCH", "/accounts/10000", 405),
        (&account, "DELETE", "/accounts/10000", 503),
        (&account, "POST", "/accounts", 415),
        (&account, "GET", "/accounts/10000", 503),
        (&vip, "GET", "/offers?limit=nothing", 400),
        (&vip, "GET", "/nothing", 404),
        (&vip, "POST", "/offers", 405),
        (&vip, "GET", "/offers", 503),
        (&vip, "GET", "/offers/by-replica", 503),
    ] {
        let request = service.request(method, path).header("x-request-id", "who-asks");
        let reply = Reply::of(request).await.expect("an answer");
        let what = format!("{method} {path}: {} {}", reply.status, reply.text);
        assert_eq!(reply.status, status, "{what}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{what}");
        assert_eq!(reply.header("x-request-id"), "who-asks", "{what}");
        let problem = reply.json();
        assert_eq!(problem["request_id"], "who-asks", "{what}");
        assert_eq!(problem["status"], status, "{what}");
        assert!(problem["title"].is_string(), "{what}");
        assert_eq!(reply.header("allow").contains("GET"), status == 405, "{what}");
        assert_eq!(reply.header("retry-after").is_empty(), status != 503, "{what}");
    }
    assert!(vip.get("/offers").await.text.contains("replaying"));

    // The outbox is full: plain reads go on, and /readyz says why VIP reads do not.
    assert_eq!(account.get("/accounts/10001").await.status, 200);
    let ready = account.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("outbox"), "{}", ready.text);
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_use() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);
    system.read_vip(&account).await;
    system.until_offers(&vip, 1).await;

    let values = async |service: &Service| {
        let reply = service.get("/metrics").await;
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").starts_with("application/openmetrics-text"), "{reply:?}");
        reply.text
    };
    let (of_account, of_vip) = (values(&account).await, values(&vip).await);
    for line in [
        // The first accounts, and a notification.
        "hops_messages_published_total 101",
        "hops_messages_confirmed_total 101",
        "hops_messages_returned_total 0",
        "hops_messages_nacked_total 0",
        "hops_messages_unknown_total 0",
        "hops_broker_connected 2",
        "hops_broker_blocked 0",
        "hops_outbox_depth 0",
        "hops_publish_to_confirm_seconds_count 101",
        "hops_account_changes_applied_total 100",
        "hops_account_changes_rejected_total 0",
        "hops_account_changes_skipped_total 0",
    ] {
        assert!(of_account.lines().any(|found| found == line), "{line} is missing in\n{of_account}");
    }
    for line in [
        "hops_messages_consumed_total 1",
        "hops_messages_acked_total 1",
        "hops_messages_ack_lost_total 0",
        "hops_messages_retried_total 0",
        "hops_messages_dead_lettered_total 0",
        "hops_offers_duplicates_total 0",
        "hops_broker_connected 2",
        "hops_handler_seconds_count 1",
        "hops_read_to_offer_seconds_count 1",
    ] {
        assert!(of_vip.lines().any(|found| found == line), "{line} is missing in\n{of_vip}");
    }
}

#[tokio::test]
async fn the_checks_of_a_healthy_service_all_pass() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);
    for service in [&account, &vip] {
        assert_eq!(service.get("/livez").await.status, 200);
        assert_eq!(service.get("/readyz").await.status, 200);
        let health = service.get("/health").await;
        assert_eq!((health.status, health.json()), (200, serde_json::json!({"status": "UP"})));
    }
}
