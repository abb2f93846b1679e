//! Dead letters as a person meets them: listed, shown, redriven and discarded from a shell, listed over HTTP, and in
//! bad times nothing lost.

use std::collections::BTreeSet;

use e2e::{
    broker::{Vhost, free_port},
    fixture::TestSystem,
    http::Reply,
    log::Stream,
    process::{Launch, Service},
    proxy::{Direction, Proxy},
    wait::{PATIENCE, until, until_true},
};
use lapin::{
    BasicProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};
use serde_json::{Value, json};

const DEAD: &str = "vip_queue.dead";
const BODY: &str = r#"{"accountId":"10000","readAt":"2026-11-20T06:27:33.757Z"}"#;

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
    /// Log lines, which are on standard error, too.
    log: Vec<Value>,
}

impl Ran {
    /// Returns its standard output; panics if it failed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// The one line on standard error, since it failed.
    #[track_caller]
    fn failed(&self) -> &str {
        assert_eq!((self.code, self.err.lines().count()), (Some(1), 1), "{self:?}");
        &self.err
    }
}

async fn run(launch: Launch, words: &[&str]) -> Ran {
    let launch = launch.argument("dead-letters");
    let mut command = words.iter().fold(launch, |launch, word| launch.argument(word)).spawn();
    let code = command.exit_code().await;
    let err = command.log().text(Stream::Err);
    let (log, errors): (Vec<_>, Vec<_>) = err.lines().partition(|line| line.starts_with('{'));
    Ran {
        code,
        out: command.log().text(Stream::Out),
        err: errors.join("\n"),
        log: log.into_iter().map(|line| serde_json::from_str(line).unwrap()).collect(),
    }
}

pub(crate) async fn letters(system: &TestSystem, words: &[&str]) -> Ran {
    run(system.launch("vipservice", 9), words).await
}

/// The letters as `list --json` has them.
async fn listed(system: &TestSystem) -> Vec<Value> {
    let out = letters(system, &["list", "--json"]).await.done();
    let page: Value = serde_json::from_str(&out).unwrap();
    page["deadLetters"].as_array().unwrap().clone()
}

fn ids(letters: &[Value]) -> BTreeSet<String> {
    letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

/// A vipservice that reads no real notification, since they are longer.
async fn vipservice_with_a_cause(system: &TestSystem) -> Service {
    let service = system.launch("vipservice", 1).flag("notification-limit", "50").start().await;
    service.until_ready().await;
    service
}

async fn until_dead(system: &TestSystem, count: u32) {
    until_true("so many are dead", PATIENCE, async || system.vhost().ready(DEAD).await == Some(count)).await;
}

/// Publishes to a queue as anybody could.
async fn publish(vhost: &Vhost, queue: &str, id: Option<&str>, body: &[u8]) {
    publish_with(vhost, queue, id, body, &[]).await;
}

async fn publish_with(vhost: &Vhost, queue: &str, id: Option<&str>, body: &[u8], headers: &[(&str, &str)]) {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), AMQPValue::LongString(LongString::from(*value)));
    }
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_headers(table);
    let properties = id.iter().fold(properties, |properties, id| properties.with_message_id((*id).into()));
    vhost.publish(queue, properties, body).await;
}

/// A system with its queues and nobody who consumes them, and letters with these ids, which are good notifications.
async fn with_letters(system: &TestSystem, count: usize) -> BTreeSet<String> {
    let (_connection, channel) = system.vhost().channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let ids: BTreeSet<_> = (0..count).map(|n| format!("letter-{n:04}")).collect();
    for id in &ids {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(id.as_str().into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let body = BODY.as_bytes();
        channel
            .basic_publish("".into(), DEAD.into(), options, body, properties)
            .await
            .unwrap()
            .await
            .unwrap();
    }
    until_dead(system, u32::try_from(count).unwrap()).await;
    ids
}

async fn ids_in(vhost: &Vhost, queue: &str) -> Vec<String> {
    let messages = vhost.messages(queue).await;
    messages.iter().map(|message| message.properties.message_id().as_ref().unwrap().to_string()).collect()
}

/// Returns the ids that a redrive has reported.
fn redriven(out: &str) -> BTreeSet<String> {
    out.lines().filter_map(|line| Some(line.split_once(": redriven to vip_queue")?.0.to_owned())).collect()
}

#[tokio::test]
async fn when_the_cause_is_gone_what_it_has_killed_is_redriven_and_becomes_offers() {
    let system = TestSystem::new().await;
    let (account, mut vip) = (system.accountservice().await, vipservice_with_a_cause(&system).await);
    let mut requests = BTreeSet::new();
    for _ in 0..3 {
        requests.insert(system.read_vip(&account).await);
    }
    until_dead(&system, 3).await;

    let dead = listed(&system).await;
    let of_dead: BTreeSet<_> =
        dead.iter().map(|letter| letter["requestId"].as_str().unwrap().into()).collect();
    assert_eq!(of_dead, requests);
    let table = letters(&system, &["list"]).await.done();
    for letter in &dead {
        assert_eq!(
            (&letter["attempts"], &letter["by"], &letter["offer"], &letter["type"]),
            (&1.into(), &"vipservice.1".into(), &false.into(), &"vip.notification.v1".into())
        );
        assert_eq!(letter["firstFailed"], letter["lastFailed"]);
        let id = letter["id"].as_str().unwrap();
        let row = table.lines().find(|line| line.starts_with(id)).unwrap();
        let at = letter["lastFailed"].as_str().unwrap();
        assert!(row.contains(at) && row.contains("vipservice.1  no     its body has"), "{row}");
    }
    assert!(table.starts_with("ID ") && table.ends_with("\ndead letters: 3\n"), "{table}");

    let id = dead[0]["id"].as_str().unwrap();
    let shown = letters(&system, &["show", id]).await.done();
    for part in [
        r#"{"accountId":"10000""#,
        "50 are allowed",
        "traceparent: 00-",
        "app_id: accountservice",
        "history:",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let shown: Value = serde_json::from_str(&letters(&system, &["show", id, "--json"]).await.done()).unwrap();
    assert_eq!(shown["deadLetters"][0]["history"][0]["by"], "vipservice.1");

    vip.sigterm();
    assert_eq!(vip.exit_code().await, Some(0));
    let vip = system.vipservice(1).await;
    let tried = letters(&system, &["redrive", "--all", "--dry-run"]).await.done();
    assert!(
        tried.contains("would be redriven to vip_queue") && tried.ends_with("3 would be redriven\n"),
        "{tried}"
    );
    assert_eq!(ids(&listed(&system).await), ids(&dead), "a dry run changes nothing");
    assert_eq!(system.offers(&vip).await, []);

    let ran = letters(&system, &["redrive", "--all"]).await;
    let logged = |letter: &Value| {
        let line = ran.log.iter().find(|line| line["message.id"] == letter["id"]).unwrap();
        assert_eq!(
            (&line["delivery.outcome"], &line["delivery.queue"]),
            (&"redriven".into(), &"vip_queue".into())
        );
        assert_eq!((&line["request"], &line["level"]), (&letter["requestId"], &"INFO".into()));
    };
    dead.iter().for_each(logged);
    let done = ran.done();
    assert_eq!(redriven(&done), ids(&dead));
    assert!(done.ends_with("\n3 redriven\n"), "{done}");
    let offers = system.until_offers(&vip, 3).await;
    assert_eq!(offers.iter().map(|offer| offer.request_id.clone()).collect::<BTreeSet<_>>(), requests);
    assert_eq!(offers.iter().map(|offer| offer.id.clone()).collect::<BTreeSet<_>>(), ids(&dead));
    assert_eq!(letters(&system, &["redrive", "--all"]).await.done(), "0 redriven\n");
}

#[tokio::test]
async fn while_the_cause_is_there_a_redrive_of_all_ends_and_the_letters_begin_anew() {
    let system = TestSystem::new().await;
    let (account, _vip) = (system.accountservice().await, vipservice_with_a_cause(&system).await);
    for _ in 0..5 {
        system.read_vip(&account).await;
    }
    until_dead(&system, 5).await;
    let before = listed(&system).await;
    let done = letters(&system, &["redrive", "--reason", "50 are allowed"]).await.done();
    assert!(done.ends_with("\n5 redriven\n"), "{done}");
    until_dead(&system, 5).await;
    let after = listed(&system).await;
    assert_eq!(ids(&after), ids(&before));
    assert!(after.iter().all(|letter| letter["attempts"] == 1), "{after:?}");
    let done = letters(&system, &["redrive", "--reason", "another reason"]).await.done();
    assert_eq!(done, "0 redriven\n");
}

#[tokio::test]
async fn a_letter_whose_offer_exists_is_redriven_with_a_word_and_without_a_second_offer() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);
    system.read_vip(&account).await;
    let offers = system.until_offers(&vip, 1).await;
    publish(system.vhost(), DEAD, Some(&offers[0].id), BODY.as_bytes()).await;
    until_dead(&system, 1).await;
    assert_eq!(listed(&system).await[0]["offer"], true);
    assert_eq!(vip.get("/dead-letters").await.json()["deadLetters"][0]["offer"], true);

    let done = letters(&system, &["redrive", &offers[0].id]).await.done();
    assert!(done.contains("its offer exists already, and this makes no second one"), "{done}");
    until_true("the repetition is handled", PATIENCE, async || {
        vip.get("/metrics").await.text.contains("hops_offers_duplicates_total 1\n")
    })
    .await;
    assert_eq!(system.offers(&vip).await, offers);
}

#[tokio::test]
async fn a_discard_is_asked_for_twice_and_ids_are_found_by_their_beginnings() {
    let system = TestSystem::new().await;
    let _account = system.accountservice().await;
    for (id, body) in
        [(Some("abc1"), "{"), (Some("abc2"), "{"), (Some("abc2"), "{"), (Some("x"), "{"), (None, "poison")]
    {
        publish(system.vhost(), DEAD, id, body.as_bytes()).await;
    }
    until_dead(&system, 5).await;

    for (words, says) in [
        (&["discard", "x"][..], "add --yes"),
        (&["discard", "y", "--yes"], "no dead letter's id begins with `y`: `vipservice dead-letters list`"),
        (&["show", "abc"], "`abc` matches 2 dead letters, type more of the id: abc1, abc2"),
        (&["redrive"], "an ID, or --reason TEXT, or --all"),
    ] {
        let ran = letters(&system, words).await;
        assert!(ran.failed().contains(says), "{ran:?}");
    }
    let tried = letters(&system, &["discard", "x", "--dry-run"]).await.done();
    assert_eq!(tried, "x: would be discarded\n1 would be discarded\n");
    assert_eq!(listed(&system).await.len(), 5, "nothing has happened so far");

    assert_eq!(letters(&system, &["discard", "x", "--yes"]).await.done(), "x: discarded\n1 discarded\n");
    let twins = letters(&system, &["discard", "abc2", "--yes", "--json"]).await.done();
    let twins: Value = serde_json::from_str(&twins).unwrap();
    let done: Vec<_> =
        twins["deadLetters"].as_array().unwrap().iter().map(|l| (&l["id"], &l["done"])).collect();
    assert_eq!(done, [(&json!("abc2"), &json!("discarded")), (&json!("abc2"), &json!("discarded"))]);

    let nameless = ids(&listed(&system).await).into_iter().find(|id| id.starts_with("no-id-")).unwrap();
    let shown = letters(&system, &["show", &nameless[..10]]).await.done();
    assert!(shown.contains("\npoison\n"), "{shown}");
    letters(&system, &["discard", &nameless, "--yes"]).await.done();
    assert_eq!(ids(&listed(&system).await), BTreeSet::from(["abc1".to_owned()]));
}

#[tokio::test]
async fn thirty_lists_in_a_shell_and_thirty_over_http_lose_nothing() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, vipservice_with_a_cause(&system).await);
    for _ in 0..5 {
        system.read_vip(&account).await;
    }
    until_dead(&system, 5).await;
    let before = listed(&system).await;
    assert_eq!(before.len(), 5);
    for _ in 0..30 {
        assert_eq!(listed(&system).await, before);
        let reply = vip.get("/dead-letters?limit=1000").await;
        assert_eq!((reply.status, reply.json()), (200, json!({"deadLetters": before, "more": 0})));
    }
    let page = vip.get("/dead-letters?limit=2").await.json();
    assert_eq!((page["deadLetters"].as_array().map(Vec::len), &page["more"]), (Some(2), &3.into()));
    let page = letters(&system, &["list", "--limit", "2"]).await.done();
    assert!(page.ends_with("\ndead letters: 2; 3 more not read: raise --limit\n"), "{page}");
    until_true("the gauge has them", PATIENCE, async || {
        vip.get("/metrics")
            .await
            .text
            .lines()
            .any(|line| line == r#"hops_queue_messages{queue="vip_queue.dead"} 5"#)
    })
    .await;
    assert_eq!(vip.get("/readyz").await.status, 200, "a dead letter is no reason to send requests elsewhere");
    assert_eq!(system.vhost().ready(DEAD).await, Some(5));
}

#[tokio::test]
async fn who_looks_while_others_do_sees_all_or_is_told_to_wait() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    let all = with_letters(&system, 300).await;
    let asked = async || {
        let reply = vip.get("/dead-letters?limit=1000").await;
        match reply.status {
            200 => assert_eq!(ids(reply.json()["deadLetters"].as_array().unwrap()), all),
            status => assert_eq!((status, reply.header("retry-after")), (503, "1"), "{}", reply.text),
        }
    };
    let shell = async || {
        // Each waits for its turn, on a slow machine too.
        let launch = system.launch("vipservice", 9).flag("amqp-operation-timeout", "50s");
        let page: Value = serde_json::from_str(&run(launch, &["list", "--json"]).await.done()).unwrap();
        assert_eq!(ids(page["deadLetters"].as_array().unwrap()), all);
    };
    tokio::join!(shell(), shell(), shell(), asked(), asked(), asked(), asked());

    // Somebody who does not come to an end.
    let (connection, channel) = system.vhost().channel().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let look = format!("{DEAD}.look");
    channel.queue_declare(look.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    let launch = system.launch("vipservice", 9).flag("amqp-operation-timeout", "1s");
    let ran = run(launch, &["redrive", "--all"]).await;
    assert!(ran.failed().contains("somebody else is browsing vip_queue.dead"), "{ran:?}");
    assert_eq!(vip.get("/dead-letters").await.status, 503);
    connection.close(200, "done".into()).await.unwrap();
    shell().await;
}

#[tokio::test]
async fn what_the_broker_has_moved_itself_is_listed_with_its_reason_in_words() {
    let system = TestSystem::new().await;
    let _account = system.accountservice().await;
    publish(system.vhost(), "vip_queue", Some("7"), b"{").await;
    let (_connection, channel) = system.vhost().channel().await;
    let got = channel.basic_get("vip_queue".into(), BasicGetOptions::default()).await.unwrap().unwrap();
    got.delivery.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    until_dead(&system, 1).await;
    let [letter] = &listed(&system).await[..] else { panic!("one letter") };
    assert_eq!(
        (&letter["id"], &letter["reason"]),
        (&json!("7"), &json!("the broker moved it here: rejected"))
    );

    // The copy has no header of the broker's, so that it can die a second time.
    letters(&system, &["redrive", "7"]).await.done();
    let messages = system.vhost().messages("vip_queue").await;
    let headers = messages[0].properties.headers().as_ref().unwrap().inner();
    assert!(!headers.keys().any(|name| name.as_str().contains("death")), "{headers:?}");
}

#[tokio::test]
async fn a_redrive_into_a_full_queue_stops_with_a_sentence_and_loses_nothing() {
    let system = TestSystem::new().await;
    let account = system.launch("accountservice", 1).flag("vip-queue-max-length", "3").start().await;
    account.until_ready().await;
    let all = with_letters(&system, 20).await;
    let ran = letters(&system, &["redrive", "--all"]).await;
    let (moved, why) = (redriven(&ran.out), ran.failed());
    assert!(
        why.contains("its queue may be full") && why.contains(&format!("{} redriven", moved.len())),
        "{why}"
    );
    let (queued, dead) = (ids_in(system.vhost(), "vip_queue").await, ids_in(system.vhost(), DEAD).await);
    assert_eq!(queued.iter().cloned().collect::<BTreeSet<_>>(), moved);
    assert_eq!(queued.len() + dead.len(), 20, "none twice, none lost");
    assert_eq!(queued.into_iter().chain(dead).collect::<BTreeSet<_>>(), all);
}

#[tokio::test]
async fn killed_between_the_copys_confirm_and_the_removal_a_redrive_leaves_the_letter_in_both_queues() {
    let system = TestSystem::new().await;
    let service = vipservice_with_a_cause(&system).await;
    publish(system.vhost(), "vip_queue", Some("a-letter"), BODY.as_bytes()).await;
    until_dead(&system, 1).await;
    drop(service);

    let redrive = system.launch("vipservice", 9).failpoint("redriven@1=kill").argument("dead-letters");
    let status = redrive.argument("redrive").argument("--all").spawn().exit(PATIENCE).await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    for queue in ["vip_queue", DEAD] {
        until_true("it is in both", PATIENCE, async || system.vhost().ready(queue).await == Some(1)).await;
    }

    let vip = system.vipservice(1).await;
    system.until_offers(&vip, 1).await;
    letters(&system, &["redrive", "--all"]).await.done();
    until_dead(&system, 0).await;
    until_true("the repetition is handled", PATIENCE, async || {
        vip.metric("hops_offers_duplicates_total").await == 1
    })
    .await;
    assert_eq!(system.offers(&vip).await.len(), 1);
}

#[tokio::test]
async fn a_cut_in_the_middle_of_a_redrive_loses_nothing() {
    let vhost = e2e::broker::SharedBroker::from_environment().vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let system = TestSystem::on(vhost);
    let _account = system.accountservice().await;
    let all = with_letters(&system, 200).await;
    for (round, bytes) in [6_000, 9_001, 12_345].into_iter().enumerate() {
        let waiting = system.vhost().ready(DEAD).await;
        proxy.cut_after(Direction::ToBroker, bytes);
        let launch = system.launch("vipservice", 9);
        let launch = launch.flag("amqp-server-url", &system.vhost().amqp_url_at(proxy.port()));
        let ran = run(launch.flag("amqp-operation-timeout", "5s"), &["redrive", "--all"]).await;
        assert!(ran.failed().contains("redriven before that"), "{ran:?}");
        proxy.until_cuts(round + 1).await;
        let moved = redriven(&ran.out);
        // What was in the hands of the lost connection comes back when the broker has noticed.
        until("nothing is lost", PATIENCE, async || {
            let queued: BTreeSet<_> = ids_in(system.vhost(), "vip_queue").await.into_iter().collect();
            let dead = ids_in(system.vhost(), DEAD).await;
            assert!(moved.is_subset(&queued), "{moved:?} {queued:?}");
            (queued.into_iter().chain(dead).collect::<BTreeSet<_>>() == all).then_some(())
        })
        .await;
        assert!(
            !moved.is_empty() && system.vhost().ready(DEAD).await < waiting,
            "it was in the middle: {ran:?}"
        );
    }
    letters(&system, &["redrive", "--all"]).await.done();
    until_dead(&system, 0).await;
    let vip = system.vipservice(1).await;
    let offers = system.until_offers(&vip, 200).await;
    let offered: Vec<_> = offers.into_iter().map(|offer| offer.id).collect();
    assert_eq!((offered.len(), offered.into_iter().collect::<BTreeSet<_>>()), (200, all));
}

#[tokio::test]
async fn what_is_in_the_way_is_a_sentence_and_never_a_hang() {
    let system = TestSystem::new().await;
    let ran = letters(&system, &["list"]).await;
    assert!(ran.failed().contains("there is no queue vip_queue.dead"), "{ran:?}");

    let port = free_port();
    let away = system.launch("vipservice", 9).flag("amqp-server-url", &system.vhost().amqp_url_at(port));
    let ran = run(away.flag("amqp-operation-timeout", "1s"), &["redrive", "--all"]).await;
    let why = ran.failed();
    for part in [&format!("127.0.0.1:{port}"), "within 1s", "start the broker", "--amqp-server-url"] {
        assert!(why.contains(part), "{part} is missing in {why}");
    }
    let wrong = system.launch("vipservice", 9).env("APP_AMQP_USERNAME", "guest");
    let ran = run(wrong.env("APP_AMQP_PASSWORD", "swordfish-82"), &["list", "--json"]).await;
    assert!(ran.failed().contains("ACCESS_REFUSED") && ran.err.contains("APP_AMQP_PASSWORD"), "{ran:?}");
    assert!(!ran.err.contains("swordfish-82") && ran.out.is_empty(), "{ran:?}");

    let vip =
        system.launch("vipservice", 1).flag("amqp-server-url", &system.vhost().amqp_url_at(port)).start();
    let reply = vip.await.get("/dead-letters").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"), "{}", reply.text);
}

#[tokio::test]
async fn the_command_needs_no_folder_no_number_and_no_quiet() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    let all = with_letters(&system, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let launch = system.launch("vipservice", 1).flag("data-dir", &data.to_string_lossy());
    let table = run(launch.flag("log-level", "trace"), &["list"]).await.done();
    assert!(all.iter().all(|id| table.contains(id)) && table.lines().count() == 5, "{table}");
    assert!(!data.exists());
    let post = Reply::of(vip.request("DELETE", "/dead-letters")).await.unwrap();
    assert_eq!(post.status, 405, "it is read only");
}
