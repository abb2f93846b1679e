//! Messages that fail: they wait in retry queues, are dead-lettered with their failure history, and block no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use contracts::VIP_NOTIFICATION;
use e2e::{
    broker::{PrivateBroker, Shortage, StoredMessage},
    environment,
    fixture::TestSystem,
    load::{Load, Record, request_id},
    log::Line,
    process::Launch,
    wait::{PATIENCE, until_true},
};
use lapin::BasicProperties;
use messaging::{ConsumeOptions, MessagingClient as _, Outcome, amqp::AmqpClient, handler};
use tokio::time::Instant;

use crate::dead_letters::letters;

/// Short waits, so that a message is through with them in a second.
const DELAYS: &str = "100ms, 200ms, 300ms";
/// A notification as the accountservice writes it.
const BODY: &str = r#"{"accountId":"10000","readAt":"2026-11-20T06:27:33.757Z"}"#;

fn vipservice(system: &TestSystem) -> Launch {
    system.launch("vipservice", 1).flag("retry-delays", DELAYS)
}

/// The properties of a notification, of a request with that id.
fn properties(request: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(format!("message-of-{request}").into())
        .with_correlation_id(request.into())
        .with_content_type("application/json".into())
        .with_type(VIP_NOTIFICATION.into())
}

/// A way to be unreadable: what is wrong, and the reason that the dead letter gives for it.
type Poison = (fn(BasicProperties) -> (BasicProperties, String), &'static str);

const TOO_LARGE: &str = "65536 are allowed";

const POISONS: [Poison; 10] = [
    (|good| (good, "hello".into()), "its body is not a notification: expected value"),
    (|good| (good, String::new()), "its body is not a notification: EOF while parsing"),
    (|good| (good, r#"{"accountId":"10000"}"#.into()), "missing field `readAt`"),
    (
        |good| (good, BODY.replace("2026-11-20", "yesterday")),
        "its body is not a notification: failed to parse",
    ),
    (|good| (good, BODY.replace("10000", "")), "its accountId is empty"),
    (|good| (good, BODY.replace("\"10000\"", "10000")), "invalid type: integer"),
    (|_| (BasicProperties::default().with_correlation_id("".into()), BODY.into()), "it has no message_id"),
    (|good| (good.with_content_type("text/plain".into()), BODY.into()), "its content type is text/plain"),
    (|good| (good.with_type("order.placed.v1".into()), BODY.into()), "its type is order.placed.v1"),
    (|good| (good, BODY.replace('{', &format!(r#"{{"more":"{}","#, "x".repeat(70_000)))), TOO_LARGE),
];

/// Fifty unreadable messages, five of each kind: the reason that is to be found, by request id.
async fn publish_poison(system: &TestSystem) -> BTreeMap<String, &'static str> {
    let mut reasons = BTreeMap::new();
    for (make, reason) in POISONS.iter().cycle().take(50) {
        let id = request_id();
        let (made, body) = make(properties(&id));
        system
            .vhost()
            .publish("vip_queue", made.with_correlation_id(id.as_str().into()), body.as_bytes())
            .await;
        reasons.insert(id, *reason);
    }
    reasons
}

/// Waits until exactly these requests have a dead letter, each with its own reason.
async fn until_dead(system: &TestSystem, reasons: &BTreeMap<String, &'static str>) -> Vec<StoredMessage> {
    let count = u32::try_from(reasons.len()).unwrap();
    // A message that comes back from a retry queue and finds the work queue full, RabbitMQ sends again after three minutes, or as
    // long as e2e/rabbitmq/advanced.config says; and then it may be full again, of those that were sent again with it.
    until_true("the poison is with the dead", 15 * PATIENCE, async || {
        system.vhost().ready("vip_queue.dead").await >= Some(count)
    })
    .await;
    let dead = system.vhost().messages("vip_queue.dead").await;
    let found: BTreeMap<_, _> =
        dead.iter().map(|letter| (letter.request_id(), letter.header("x-hops-reason").unwrap())).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), reasons.keys().collect::<Vec<_>>());
    for (id, reason) in reasons {
        assert!(found[id].contains(reason), "{reason} expected, found {}", found[id]);
    }
    dead
}

#[tokio::test]
async fn fifty_poison_messages_among_five_hundred_good_ones_are_told_apart() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    let mut vip = vipservice(&system).start().await;
    let load = Load::answered(500).at_a_time(16).start(&account.address());
    let reasons = publish_poison(&system).await;
    let record = load.finish().await;

    let dead = until_dead(&system, &reasons).await;
    assert_eq!(dead.len(), 50);
    assert!(dead.iter().all(|letter| letter.header("x-hops-attempt").as_deref() == Some("1")));
    system.assert_sets(&record, &account, &[&vip]).await;

    // A newer release reads the large ones, too: those become offers, and the others are dead again.
    vip.sigterm();
    assert_eq!(vip.exit_code().await, Some(0));
    let vip = vipservice(&system).flag("notification-limit", "100000").start().await;
    letters(&system, &["redrive", "--all"]).await.done();
    let (large, others): (BTreeMap<_, _>, _) =
        reasons.into_iter().partition(|(_, reason)| *reason == TOO_LARGE);
    assert_eq!(large.len(), 5);
    until_dead(&system, &others).await;
    let ids: BTreeSet<_> = large.into_keys().collect();
    let redriven = Record { sent: ids.clone(), answered: ids, ..Record::default() };
    system.assert_sets(&record.and(redriven), &account, &[&vip]).await;
}

#[tokio::test]
async fn more_failing_messages_than_the_work_queue_holds_get_through_the_ladder_and_good_ones_past_them() {
    let system = TestSystem::new().await;
    let small = |name| system.launch(name, 1).flag("vip-queue-max-length", "5");
    let account = small("accountservice").start().await;
    let vip = small("vipservice").flag("retry-delays", "1s, 2s").flag("consumer-prefetch", "2").start().await;
    let load = Load::steady().start(&account.address());
    let newer = VIP_NOTIFICATION.replace(".v1", ".v2");
    let mut reasons = BTreeMap::new();
    for _ in 0..30 {
        let id = request_id();
        let properties = properties(&id).with_type(newer.as_str().into());
        until_true("the queue has room", PATIENCE, async || {
            system.vhost().try_publish("vip_queue", properties.clone(), b"<newer/>").await
        })
        .await;
        reasons.insert(id, "its type is vip.notification.v2");
    }
    let record = load.stop().await;
    until_dead(&system, &reasons).await;
    system.assert_sets(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn each_end_of_a_delivery_is_logged_with_its_attempt_and_the_queue_that_has_the_message() {
    let system = TestSystem::new().await;
    // The rule makes no offer for a read at 06:27.
    let vip = system.launch("vipservice", 1).flag("retry-delays", "100ms").flag("offer-hours", "9-17");
    let vip = vip.start().await;
    vip.until_ready().await;
    let newer = VIP_NOTIFICATION.replace(".v1", ".v2");
    let messages = [
        (properties("declined"), BODY),
        (properties("poison"), "hello"),
        (properties("newer").with_type(newer.into()), BODY),
    ];
    for (properties, body) in messages {
        system.vhost().publish("vip_queue", properties, body.as_bytes()).await;
    }
    let ends = |request: &str| {
        let of_request = |line: &Line| line.field("request") == request;
        let lines = vip.log().filter(|line| of_request(line) && !line.field("delivery.outcome").is_empty());
        let end = |line: &Line| {
            assert_eq!(line.field("message.id"), format!("message-of-{request}"));
            let attempt = line.fields["message.attempt"].as_u64().unwrap();
            (line.field("delivery.outcome").to_owned(), attempt, line.field("delivery.queue").to_owned())
        };
        lines.iter().map(end).collect::<Vec<_>>()
    };
    until_true("all have ended", PATIENCE, async || {
        ends("declined").len() + ends("poison").len() + ends("newer").len() == 4
    })
    .await;
    let end = |outcome: &str, attempt, queue: &str| (outcome.to_owned(), attempt, queue.to_owned());
    assert_eq!(ends("declined"), [end("declined", 1, "")]);
    assert_eq!(ends("poison"), [end("dead-lettered", 1, "vip_queue.dead")]);
    assert_eq!(
        ends("newer"),
        [end("retried", 1, "vip_queue.retry.100"), end("dead-lettered", 2, "vip_queue.dead")]
    );
    let attempts = vip.log().hops("newer");
    let attempts: Vec<_> = attempts.iter().map(|line| line.fields["message.attempt"].as_u64()).collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
}

#[tokio::test]
async fn the_same_message_published_twice_is_one_offer() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);
    let mut record = Record::default();
    for _ in 0..10 {
        let id = request_id();
        for _ in 0..2 {
            system.vhost().publish("vip_queue", properties(&id), BODY.as_bytes()).await;
        }
        record.sent.insert(id.clone());
        record.answered.insert(id);
    }
    system.assert_promise(&record, &account, &[&vip]).await;
    assert_eq!(vip.metric("hops_offers_duplicates_total").await, 10);
}

#[tokio::test]
async fn a_newer_producers_message_waits_for_a_newer_replica_and_a_minor_addition_passes() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    let mut old = system.launch("vipservice", 1).flag("retry-delays", "1s, 1s, 1s, 1s, 1s").start().await;

    // What an old replica can read of a newer minor version it does read.
    let minor = request_id();
    let newer = BODY.replace('{', r#"{"reason":"birthday","#);
    let kind = format!("{VIP_NOTIFICATION}.7");
    system.vhost().publish("vip_queue", properties(&minor).with_type(kind.into()), newer.as_bytes()).await;
    let record = Record { sent: [minor.clone()].into(), answered: [minor].into(), ..Record::default() };
    system.assert_promise(&record, &account, &[&old]).await;

    let major = request_id();
    let kind = VIP_NOTIFICATION.replace(".v1", ".v2");
    system.vhost().publish("vip_queue", properties(&major).with_type(kind.into()), b"<newer/>").await;
    let waits = async || old.log().count(|line| line.text.contains("vip_queue.retry.1000")) >= 1;
    until_true("it waits on the ladder", PATIENCE, waits).await;

    // The rolling upgrade: a newer replica comes, the old one goes.
    let (client, handled) = newer_replica(&system).await;
    old.sigterm();
    assert_eq!(old.exit_code().await, Some(0));
    until_true("the newer replica has it", PATIENCE, async || handled.lock().unwrap().contains(&major)).await;
    client.close().await;
    assert_eq!(system.vhost().ready("vip_queue.dead").await, Some(0));
    assert_eq!(system.vhost().ready("vip_queue").await, Some(0));
}

/// A consumer that reads what no replica of today does; the requests that it has handled.
async fn newer_replica(system: &TestSystem) -> (AmqpClient, Arc<std::sync::Mutex<Vec<String>>>) {
    let client = crate::messaging::client_of(&system.vhost().amqp_url()).await;
    let handled = Arc::new(std::sync::Mutex::new(vec![]));
    let requests = Arc::clone(&handled);
    let handler = handler(move |delivery| {
        requests.lock().unwrap().extend(delivery.message.correlation_id);
        std::future::ready(Outcome::Ack)
    });
    let options =
        ConsumeOptions { prefetch: 1, handler_timeout: Duration::from_secs(5).into(), retry_policy: None };
    client.subscribe_to_queue("vip_queue", options, handler);
    (client, handled)
}

#[tokio::test]
async fn during_a_memory_alarm_no_message_is_blamed_for_what_the_broker_does_not_take() {
    // Many times what a handler may take.
    let alarm = Duration::from_secs(if environment::is_full() { 30 } else { 5 });
    let broker = PrivateBroker::start().await;
    let system = TestSystem::on(broker.vhost());
    let account = system.accountservice().await;
    let record = Load::answered(50).run(&account.address()).await;
    until_true("they wait for a consumer", PATIENCE, async || {
        system.vhost().ready("vip_queue").await == Some(50)
    })
    .await;
    // One that has to go to the dead, and cannot yet.
    system.vhost().publish("vip_queue", properties("poison"), b"hello").await;

    broker.starve(Shortage::Memory).await;
    let vip = vipservice(&system).flag("handler-timeout", "500ms").start().await;
    let got = async || vip.log().count(|line| line.hop() == Some(7)) >= 50;
    until_true("all are in hand", PATIENCE, got).await;
    let since = Instant::now();
    until_true("the alarm has lasted", PATIENCE, async || {
        assert_eq!(system.vhost().ready("vip_queue.dead").await, Some(0));
        since.elapsed() > alarm
    })
    .await;
    broker.feed(Shortage::Memory).await;

    system.assert_sets(&record, &account, &[&vip]).await;
    until_dead(&system, &[("poison".to_owned(), "its body is not a notification")].into()).await;
    let blamed = vip.log().count(|line| line.field("delivery.outcome") == "retried");
    assert_eq!(blamed, 0, "a message is blamed");
}
