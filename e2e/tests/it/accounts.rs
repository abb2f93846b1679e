//! Accounts that change: no update is lost and all replicas come to the same accounts, whatever is killed, cut or lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use e2e::{
    broker::{PrivateBroker, Vhost},
    environment,
    fixture::TestSystem,
    http::{self, Reply},
    process::{Address, Service},
    proxy::Proxy,
    wait::{PATIENCE, PAUSE, until, until_true},
};
use lapin::{
    BasicProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

/// The list of all accounts, without who answered.
async fn accounts(service: &Service) -> BTreeMap<String, (String, bool)> {
    let list = service.get("/accounts?limit=1000").await.json();
    let accounts = list["accounts"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    accounts
        .map(|account| (text(&account["id"]), (text(&account["name"]), account["vip"].as_bool().unwrap())))
        .collect()
}

/// Waits until all replicas have the same accounts.
async fn until_equal(replicas: &[&Service]) -> BTreeMap<String, (String, bool)> {
    until("all replicas have the same accounts", PATIENCE, async || {
        let first = accounts(replicas[0]).await;
        for replica in &replicas[1..] {
            if accounts(replica).await != first {
                return None;
            }
        }
        Some(first)
    })
    .await
}

async fn version(service: &Service, id: &str) -> String {
    service.get(&format!("/accounts/{id}")).await.header("etag").to_owned()
}

async fn send(service: &Service, method: &str, path: &str, if_match: &str, body: &str) -> Reply {
    let mut request = service.request(method, path).header("content-type", "application/json");
    if !if_match.is_empty() {
        request = request.header("if-match", if_match);
    }
    Reply::of(request.body(body.to_owned())).await.expect("an answer")
}

/// Deletes the stream, as if the broker's data was lost.
async fn delete_stream(vhost: &Vhost) {
    let (_connection, channel) = vhost.channel().await;
    channel.queue_delete("account_changes".into(), QueueDeleteOptions::default()).await.unwrap();
}

async fn three(system: &TestSystem) -> [Service; 3] {
    let one = system.accountservice().await;
    let (two, three) =
        (system.launch("accountservice", 2).start().await, system.launch("accountservice", 3).start().await);
    two.until_ready().await;
    three.until_ready().await;
    [one, two, three]
}

/// A write that was answered 200.
#[derive(Debug)]
struct Written {
    account: String,
    version: u64,
    name: String,
}

/// What writers have done.
#[derive(Debug, Default)]
struct History {
    written: Vec<Written>,
    /// Writes that another one came before.
    lost_races: usize,
    /// Writes whose outcome was unknown at first.
    unknown: usize,
}

/// Changes an account until `stop`, each time at a random replica. Sends a request without a known outcome again, with its key, until
/// the outcome is known.
async fn write_until(
    stop: Arc<AtomicBool>,
    replicas: Vec<Address>,
    account: String,
    writer: usize,
    history: Arc<Mutex<History>>,
) {
    let client = http::client_without_keep_alive();
    let (mut number, mut position) = (0, String::new());
    let any = || &replicas[rand::random_range(0..replicas.len())];
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let path = format!("/accounts/{account}");
        let mut read = client.get(any().url(&path));
        if !position.is_empty() {
            read = read.header("hops-position", &position);
        }
        let read = Reply::of(read).await;
        let Ok(read) =
            read.as_ref().map_err(drop).and_then(|read| (read.status == 200).then_some(read).ok_or(()))
        else {
            // The position that was sent is not everywhere yet, or the replica is dead.
            sleep(PAUSE).await;
            continue;
        };
        let (tag, name) = (read.header("etag").to_owned(), format!("{writer} {number}"));
        let key = format!("{writer}-{number}");
        let mut is_first = true;
        let answer = loop {
            let request =
                client.put(any().url(&path)).header("if-match", &tag).header("idempotency-key", &key);
            let request = request.header("content-type", "application/json");
            match Reply::of(request.body(format!(r#"{{"name":"{name}"}}"#))).await {
                Ok(answer) if answer.status != 503 => break answer,
                _ if is_first => {
                    history.lock().unwrap().unknown += 1;
                    is_first = false;
                }
                _ => sleep(PAUSE).await,
            }
        };
        let mut history = history.lock().unwrap();
        match answer.status {
            200 => {
                position = answer.header("hops-position").to_owned();
                let version = answer.header("etag").trim_matches('"').parse().unwrap();
                history.written.push(Written { account: account.clone(), version, name });
            }
            412 => history.lost_races += 1,
            status => panic!("{status}: {}", answer.text),
        }
    }
}

#[tokio::test]
async fn many_writers_lose_no_update_while_replicas_broker_and_network_die() {
    let rounds = if environment::is_full() { 12 } else { 2 };
    let broker = PrivateBroker::start().await;
    let proxy = Proxy::start(broker.vhost().address()).await;
    let system = TestSystem::on(broker.vhost()).behind(proxy.port());
    let mut replicas = three(&system).await;
    let (stop, history) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(History::default())));
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        // Four of them want the same account.
        let account = if writer < 4 { "10001".to_owned() } else { format!("1000{writer}") };
        let addresses = replicas.iter().map(Service::address).collect();
        writers.spawn(write_until(Arc::clone(&stop), addresses, account, writer, Arc::clone(&history)));
    }
    let until_more = async |what: &str| {
        let before = history.lock().unwrap().written.len();
        until_true(what, PATIENCE, async || history.lock().unwrap().written.len() > before + 20).await;
    };
    for round in 0..rounds {
        until_more("writes before anything dies").await;
        let victim = round % replicas.len();
        replicas[victim].kill9().await;
        until_more("writes while a replica is dead").await;
        replicas[victim].restart().await;
        proxy.cut();
        until_more("writes after a cut").await;
        broker.kill9().await;
        sleep(Duration::from_millis(500)).await;
        broker.restart().await;
        until_more("writes after the broker was killed").await;
        // A rolling update: one replica after the other.
        for replica in &mut replicas {
            replica.sigterm();
            assert_eq!(replica.exit_code().await, Some(0), "{}", replica.name());
            replica.restart().await;
            replica.until_ready().await;
        }
        until_more("writes after a rolling update").await;
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }

    for replica in &replicas {
        replica.until_ready().await;
    }
    let last = until_equal(&[&replicas[0], &replicas[1], &replicas[2]]).await;
    let history = Arc::try_unwrap(history).unwrap().into_inner().unwrap();
    assert!(history.lost_races > 0, "four writers on one account never met");
    println!(
        "writes {} - lost races {} - outcomes that were unknown at first {}",
        history.written.len(),
        history.lost_races,
        history.unknown
    );
    let mut versions: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut newest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for written in &history.written {
        let is_new = versions.entry(&written.account).or_default().insert(written.version);
        assert!(is_new, "version {} of {} was given out twice", written.version, written.account);
        let newest = newest.entry(&written.account).or_default();
        *newest = (*newest).max((written.version, &written.name));
    }
    for (account, (version, name)) in newest {
        // Each version has an answer: the first one is that of the settings.
        assert_eq!(versions[account], (2..=version).collect(), "{account}");
        assert_eq!(last[account].0, name, "{account}");
        assert_eq!(self::version(&replicas[0], account).await, format!("\"{version}\""));
    }
}

#[tokio::test]
async fn a_replica_that_has_lost_its_store_fills_it_from_the_stream() {
    let system = TestSystem::new().await;
    let [mut one, two, _three] = three(&system).await;
    assert_eq!(send(&one, "PUT", "/accounts/10001", "\"1\"", r#"{"name":"Ada"}"#).await.status, 200);
    assert_eq!(send(&two, "DELETE", "/accounts/10002", "\"1\"", "").await.status, 204);
    assert_eq!(send(&two, "POST", "/accounts", "", r#"{"id":"7","name":"Bob"}"#).await.status, 201);
    let all = until_equal(&[&one, &two]).await;
    let store = system.data().join("accountservice.1");
    for damage in ["removed", "flipped bits"] {
        one.kill9().await;
        match damage {
            "removed" => std::fs::remove_dir_all(&store).unwrap(),
            _ => {
                let db = store.join("db");
                let mut bytes = std::fs::read(&db).unwrap();
                bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10);
                std::fs::write(&db, bytes).unwrap();
            }
        }
        one.restart().await;
        one.until_ready().await;
        assert_eq!(accounts(&one).await, all, "{damage}");
        assert_eq!(version(&one, "10001").await, "\"2\"", "{damage}");
        // Its version goes on.
        let created = send(&one, "POST", "/accounts", "", r#"{"id":"10002","name":"again"}"#).await;
        assert!(created.header("etag") > "\"2\"", "{damage}: {created:?}");
        let tag = created.header("etag").to_owned();
        assert_eq!(send(&one, "DELETE", "/accounts/10002", &tag, "").await.status, 204);
    }
    let aside = std::fs::read_dir(&store).unwrap().map(|file| file.unwrap().file_name());
    assert_eq!(aside.filter(|name| name.to_string_lossy().starts_with("damaged-")).count(), 1);
}

#[tokio::test]
async fn a_store_on_a_full_disk_is_read_and_its_service_ends_when_there_is_room() {
    let system = TestSystem::new().await;
    let one = system.accountservice().await;
    let mut two = system.launch("accountservice", 2).ulimit("-f unlimited").start().await;
    two.until_ready().await;

    // No file may grow, or be written, behind its first byte. sled writes in the background, so it may take several changes.
    two.limit_files(Some(1));
    assert_eq!(send(&one, "POST", "/accounts", "", r#"{"id":"7","name":"Ada"}"#).await.status, 201);
    let why = until("the store fails", PATIENCE, async || {
        assert_eq!(send(&one, "POST", "/accounts", "", r#"{"name":"Bob"}"#).await.status, 201);
        let ready = two.get("/readyz").await;
        (ready.status == 503).then(|| ready.json()["checks"]["accounts"]["detail"].to_string())
    });
    let why = why.await;
    assert!(
        why.contains("File too large") && why.contains("this service ends, to be started again"),
        "{why}"
    );
    assert_eq!(two.get("/accounts/10001").await.status, 200);

    two.limit_files(None);
    assert_eq!(two.exit_code().await, Some(1));
    two.restart().await;
    two.until_ready().await;
    assert_eq!(until_equal(&[&one, &two]).await["7"], ("Ada".into(), false));
}

#[tokio::test]
async fn accounts_outlive_the_stream() {
    let system = TestSystem::new().await;
    let [one, two, _three] = three(&system).await;
    assert_eq!(
        send(&one, "PUT", "/accounts/10001", "\"1\"", r#"{"name":"Ada","vip":true}"#).await.status,
        200
    );
    assert_eq!(send(&one, "DELETE", "/accounts/10002", "\"1\"", "").await.status, 204);
    let all = until_equal(&[&one, &two]).await;

    delete_stream(system.vhost()).await;
    // Reads go on meanwhile, and a write has an outcome again.
    assert_eq!(accounts(&one).await, all);
    until_true("a write has an outcome again", PATIENCE, async || {
        let tag = version(&one, "10003").await;
        send(&one, "PUT", "/accounts/10003", &tag, r#"{"name":"Bob"}"#).await.status == 200
    })
    .await;
    let all = until_equal(&[&one, &two]).await;
    assert_eq!((all["10001"].0.as_str(), all["10003"].0.as_str()), ("Ada", "Bob"));

    // Whoever comes now knows nothing but the new stream.
    let four = system.launch("accountservice", 4).start().await;
    four.until_ready().await;
    until_true("a new replica has all accounts", PATIENCE, async || accounts(&four).await == all).await;
    assert_eq!(version(&four, "10001").await, "\"2\"");
    assert_eq!(version(&four, "10003").await, version(&one, "10003").await);
}

#[tokio::test]
async fn an_account_stays_when_the_broker_drops_the_entry_that_made_it() {
    const LARGE: usize = 120 * 1024;
    let least = 4 * 1536 * 10_000_u64;
    let system = TestSystem::new().await;
    let launch = |number| {
        let launch = system.launch("accountservice", number).flag("accounts-max", "1000");
        launch.flag("account-changes-max-bytes", &least.to_string())
    };
    let one = launch(1).start().await;
    one.until_ready().await;
    assert_eq!(send(&one, "PUT", "/accounts/10001", "\"1\"", r#"{"name":"Ada"}"#).await.status, 200);
    assert_eq!(send(&one, "DELETE", "/accounts/10002", "\"1\"", "").await.status, 204);
    let all = accounts(&one).await;

    // A stranger's entries fill the stream more than once.
    let (_connection, channel) = system.vhost().channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let body = vec![b'x'; LARGE];
    let mut appended = 0;
    while appended < 2 * least {
        for _ in 0..50 {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let publish = BasicPublishOptions::default();
            channel
                .basic_publish("".into(), "account_changes".into(), publish, &body, properties)
                .await
                .unwrap();
            appended += LARGE as u64;
        }
        channel.wait_for_confirms().await.unwrap();
        // As it does with changes of accounts, whose writers wait for it.
        let skipped = appended / LARGE as u64;
        until_true("the replica has read them", PATIENCE, async || {
            one.metric("hops_account_changes_skipped_total").await >= skipped
        })
        .await;
    }
    let queues = system.vhost().queues().await;
    let two = launch(2).start().await;
    two.until_ready().await;
    assert_eq!(accounts(&two).await, all, "{queues:?}");
    for id in ["10001", "10099"] {
        assert_eq!(version(&two, id).await, version(&one, id).await, "{id}");
    }
    let read = two.log().filter(|line| line.field("message").starts_with("entry "));
    let first = read[0].fields["offset"].as_u64().unwrap();
    assert!(first > 102, "the broker has dropped the first entries: {first}");
    assert_eq!(
        send(&two, "POST", "/accounts", "", r#"{"id":"10002","name":"again"}"#).await.header("etag"),
        "\"3\""
    );
}

#[tokio::test]
async fn two_replicas_that_start_at_once_agree_on_the_first_accounts() {
    let system = TestSystem::new().await;
    let (one, two) =
        tokio::join!(system.launch("accountservice", 1).start(), system.launch("accountservice", 2).start());
    one.until_ready().await;
    two.until_ready().await;
    assert_eq!(until_equal(&[&one, &two]).await.len(), 100);
    assert_eq!(version(&one, "10000").await, "\"1\"");
}

#[tokio::test]
async fn killed_between_an_event_and_the_offset_the_event_comes_again_and_the_write_is_there() {
    let system = TestSystem::new().await;
    let mut one = system.launch("accountservice", 1).failpoint("event-in-outbox@1=kill").start().await;
    one.until_ready().await;
    let (_connection, channel) = system.vhost().channel().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("subscriber".into(), exclusive, FieldTable::default()).await.unwrap();
    let bind = QueueBindOptions::default();
    channel
        .queue_bind("subscriber".into(), "accounts".into(), "account.*".into(), bind, FieldTable::default())
        .await
        .unwrap();

    let create = |service: &Service| {
        let request = service.request("POST", "/accounts").header("content-type", "application/json");
        request.header("idempotency-key", "k-1").body(r#"{"id":"7","name":"Ada","vip":true}"#)
    };
    assert!(Reply::of(create(&one)).await.is_err(), "it died before it could answer");
    one.die_and_restart().await;
    one.until_ready().await;
    let again = Reply::of(create(&one)).await.unwrap();
    assert_eq!((again.status, again.header("etag")), (201, "\"1\""), "{}", again.text);
    assert_eq!(version(&one, "7").await, "\"1\"");

    let mut events = vec![];
    until_true("the event has come, and come again", PATIENCE, async || {
        let got = channel.basic_get("subscriber".into(), BasicGetOptions { no_ack: true }).await.unwrap();
        events.extend(got.map(|message| {
            let id = message.properties.message_id().clone().unwrap();
            (
                message.routing_key.to_string(),
                id.to_string(),
                String::from_utf8(message.data.clone()).unwrap(),
            )
        }));
        events.len() == 2
    })
    .await;
    let body = r#"{"accountId":"7","version":1,"name":"Ada","vip":true}"#;
    for event in events {
        assert_eq!(event, ("account.created".to_owned(), "k-1".to_owned(), body.to_owned()));
    }
}
