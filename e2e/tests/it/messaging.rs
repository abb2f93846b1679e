//! The messaging client against a real broker: what its interface promises, and what becomes of it when the broker
//! is in trouble. These tests know AMQP and the client, and no service.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use config_bus::SPRING_CLOUD_BUS;
use contracts::RequestContext;
use contracts::topology::{OFFERS, VIP_DEAD, VIP_QUEUE, offers, vip_queue};
use e2e::{
    broker::{PrivateBroker, SharedBroker, Shortage, Vhost},
    environment::full_only,
    proxy::{Mode, Proxy},
    wait::{PATIENCE, until, until_true},
};
use hops_config::secret::Secret;
use messaging::{
    ConsumeOptions, Delivery, Handler, LinkStatus, Message, MessagingClient as _, Outcome, PublishError,
    Subscription,
    amqp::{AmqpClient, AmqpOptions, Settings},
    broker::BrokerUrls,
    handler,
    metrics::Metrics,
    retry::{FailureHistory, RetryPolicy},
    topology::{EVERYTHING, Topology},
};
use streams::{Replay, ReplayOptions};

/// A client of this test's vhost, with the topology of the services.
struct Client {
    client: AmqpClient,
    seen: Arc<Mutex<Vec<Message>>>,
}

impl std::ops::Deref for Client {
    type Target = AmqpClient;

    fn deref(&self) -> &AmqpClient {
        &self.client
    }
}

fn settings(url: &str) -> Settings {
    Settings {
        amqp_server_url: BrokerUrls::parse(url).unwrap(),
        amqp_operation_timeout: Duration::from_secs(5),
        amqp_connect_timeout: Duration::from_secs(3),
        amqp_heartbeat: Duration::from_secs(2),
        amqp_backoff_max: Duration::from_secs(1),
        ..Settings::default()
    }
}

fn topology() -> Topology {
    vip_queue(1000).with_retry_queues(&policy()).with_queue(offers(100_000_000))
}

fn policy() -> RetryPolicy {
    RetryPolicy::new(VIP_QUEUE, &[Duration::from_millis(100), Duration::from_millis(300)])
}

impl Client {
    fn new(settings: &Settings, topology: Topology) -> Self {
        let options = AmqpOptions::new(settings, "test.1", topology).unwrap();
        let metrics = Metrics::registered(&mut prometheus_client::registry::Registry::default());
        let client = AmqpClient::new(options, metrics);
        client.connect();
        Self { client, seen: Arc::default() }
    }

    async fn up(url: &str) -> Self {
        let client = Self::new(&settings(url), topology());
        client.until(&LinkStatus::Up).await;
        client
    }

    async fn until(&self, wanted: &LinkStatus) {
        until_true(&format!("the client is {wanted}"), PATIENCE, async || {
            let status = self.status();
            status.publishing == *wanted && status.consuming == *wanted
        })
        .await;
    }

    /// A handler that remembers what it got, and answers with `outcome`.
    fn handler(&self, outcome: impl Fn(&Delivery) -> Outcome + Send + Sync + 'static) -> Handler {
        let (seen, outcome) = (Arc::clone(&self.seen), Arc::new(outcome));
        handler(move |delivery| {
            let (seen, outcome) = (Arc::clone(&seen), Arc::clone(&outcome));
            async move {
                let outcome = outcome(&delivery);
                seen.lock().unwrap().push(delivery.message);
                outcome
            }
        })
    }

    /// The ids of what the handler got.
    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|message| message.id.clone().unwrap_or_default()).collect()
    }

    async fn until_seen(&self, ids: &BTreeSet<String>) {
        until_true("every message was seen", PATIENCE, async || {
            let seen: BTreeSet<_> = self.seen().into_iter().collect();
            seen.is_superset(ids)
        })
        .await;
    }

    /// Publishes, again and again until it is confirmed, as the relay and the handlers do.
    async fn publish_surely(&self, queue: &str, message: &Message) {
        let delivery = Delivery::new(message.clone(), false);
        let publish = || self.client.publish_on_queue(queue, message.clone());
        tokio::time::timeout(PATIENCE, delivery.until_confirmed(publish)).await.expect("in time").unwrap();
    }
}

/// A client alone, with nothing of its own declared: what another team's service would be.
pub(crate) async fn client_of(url: &str) -> AmqpClient {
    let client = Client::new(&settings(url), Topology::default());
    client.until(&LinkStatus::Up).await;
    client.client
}

fn options() -> ConsumeOptions {
    ConsumeOptions {
        prefetch: 10,
        handler_timeout: Duration::from_secs(5).into(),
        retry_policy: Some(policy()),
    }
}

fn message(n: usize) -> Message {
    let context = RequestContext::from_parts_or_new(Some(&format!("request-{n}")), None, None);
    contracts::event("test.v1", "e2e", "subject", &context, &n).unwrap()
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(|message| message.id.clone().unwrap()).collect()
}

async fn vhost() -> Vhost {
    SharedBroker::from_environment().vhost().await
}

#[tokio::test]
async fn every_queue_is_declared_with_its_arguments_as_the_broker_reports_them() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let queues = until("the broker lists the queues", PATIENCE, async || {
        let queues = vhost.queues().await;
        (queues.len() == 5).then_some(queues)
    })
    .await;
    let reported = |name: &str| {
        let queue = &queues[name];
        assert_eq!((&queue["durable"], &queue["auto_delete"]), (&true.into(), &false.into()), "{name}");
        queue["arguments"].clone()
    };
    let work = |next: &str| {
        serde_json::json!({
            "x-queue-type": "quorum", "x-delivery-limit": 100, "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": next,
            "x-dead-letter-strategy": "at-least-once",
        })
    };
    let mut queue = work(VIP_DEAD);
    queue["x-max-length"] = 1000.into();
    assert_eq!(reported(VIP_QUEUE), queue);
    for delay in [100, 300] {
        let mut rung = work(VIP_QUEUE);
        rung["x-message-ttl"] = delay.into();
        assert_eq!(reported(&format!("vip_queue.retry.{delay}")), rung);
    }
    assert_eq!(
        reported(VIP_DEAD),
        serde_json::json!({"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})
    );
    assert_eq!(
        reported(OFFERS),
        serde_json::json!({"x-queue-type": "stream", "x-max-length-bytes": 100_000_000})
    );
    client.close().await;
}

#[tokio::test]
async fn a_message_arrives_persistent_and_with_all_its_properties() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let sent = message(1);
    client.publish_on_queue(VIP_QUEUE, sent.clone()).await.unwrap();
    let [stored] = &vhost.messages(VIP_QUEUE).await[..] else { panic!("one message") };
    assert_eq!(stored.properties.delivery_mode(), &Some(2));
    assert_eq!(stored.properties.message_id().as_ref().map(ToString::to_string), sent.id);
    assert_eq!(stored.request_id(), "request-1");
    assert_eq!(stored.header("traceparent"), sent.headers.get("traceparent").cloned());

    client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(|_| Outcome::Ack));
    client.until_seen(&ids(std::slice::from_ref(&sent))).await;
    let mut seen = client.seen.lock().unwrap().remove(0);
    // Put there by the look above.
    seen.headers.retain(|name, _| !name.starts_with("x-"));
    assert_eq!(seen, sent);
    client.close().await;
}

#[tokio::test]
async fn of_many_messages_in_flight_exactly_the_unroutable_ones_are_named() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let publish = async |n: usize| {
        let queue = if n.is_multiple_of(7) { "nowhere" } else { VIP_QUEUE };
        (n, client.publish_on_queue(queue, message(n)).await)
    };
    let mut confirmed = 0;
    for (n, result) in futures_util::future::join_all((0..900).map(publish)).await {
        match result {
            Ok(()) => confirmed += 1,
            Err(PublishError::Unroutable(why)) => {
                assert!(n.is_multiple_of(7) && why.contains("nowhere"), "{n}: {why}")
            }
            Err(other) => panic!("{n}: {other}"),
        }
    }
    assert_eq!(confirmed, 900 - 129);
    assert_eq!(vhost.ready(VIP_QUEUE).await, Some(confirmed));
    client.close().await;
}

#[tokio::test]
async fn what_can_never_be_published_says_so_at_once() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let large = Message { body: vec![b'x'; 2_000_000].into(), ..message(1) };
    for (queue, message) in [(VIP_QUEUE, large), (&*"q".repeat(256), message(2))] {
        let result = client.publish_on_queue(queue, message).await;
        assert!(matches!(result, Err(PublishError::Invalid(_))), "{result:?}");
    }
    let lost = client.publish("no such exchange", "key", message(3)).await;
    assert!(matches!(lost, Err(PublishError::Unconfirmed(_))), "{lost:?}");
    client.publish_on_queue(VIP_QUEUE, message(4)).await.expect("the client goes on");
    client.close().await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_messages_again_when_there_is_room() {
    let vhost = vhost().await;
    let client = Client::new(&settings(&vhost.amqp_url()), vip_queue(5));
    // A quorum queue goes over its limit by what is under way: so one after the other.
    let mut results = vec![];
    while results.len() < 100 && !results.contains(&Err(PublishError::Nacked)) {
        results.push(client.publish_on_queue(VIP_QUEUE, message(results.len())).await);
    }
    assert_eq!(results.pop(), Some(Err(PublishError::Nacked)));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(|_| Outcome::Ack));
    client.publish_surely(VIP_QUEUE, &message(100)).await;
    client.close().await;
}

#[tokio::test]
async fn a_failed_message_waits_on_each_rung_and_ends_with_the_dead_and_its_story() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let (bad, good) = (message(1), message(2));
    let id = bad.id.clone();
    let fails = move |delivery: &Delivery| match delivery.message.id == id {
        true => {
            Outcome::Retry(format!("not today, after {}", FailureHistory::of(&delivery.message).attempts))
        }
        false => Outcome::Ack,
    };
    client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(fails));
    client.publish_on_queue(VIP_QUEUE, bad.clone()).await.unwrap();
    client.publish_on_queue(VIP_QUEUE, good.clone()).await.unwrap();
    until_true("it is with the dead", PATIENCE, async || vhost.ready(VIP_DEAD).await == Some(1)).await;

    let tries = client.seen.lock().unwrap().clone();
    let tries: Vec<_> = tries.iter().filter(|message| message.id == bad.id).collect();
    assert_eq!(tries.iter().map(|m| FailureHistory::of(m).attempts).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(tries.iter().all(|message| message.body == bad.body));
    assert!(client.seen().contains(&good.id.unwrap()));
    let [dead] = &vhost.messages(VIP_DEAD).await[..] else { panic!("one message") };
    assert_eq!(dead.header("x-hops-reason").as_deref(), Some("not today, after 2"));
    assert_eq!(dead.header("x-hops-attempt").as_deref(), Some("3"));
    let history: serde_json::Value = serde_json::from_str(&dead.header("x-hops-history").unwrap()).unwrap();
    let failures = history.as_array().unwrap();
    assert_eq!(failures.len(), 3);
    for (n, failure) in failures.iter().enumerate() {
        let expected = (format!("not today, after {n}"), "test.1");
        assert_eq!(
            (failure["why"].as_str().unwrap(), failure["by"].as_str().unwrap()),
            (&*expected.0, expected.1)
        );
    }
    let at = |n: usize| failures[n]["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at(1).duration_since(at(0)).as_millis() >= 100, "the first rung was left early: {history}");
    assert!(at(2).duration_since(at(1)).as_millis() >= 300, "the second rung was left early: {history}");
    client.close().await;
}

#[tokio::test]
async fn a_message_that_a_hundred_consumers_gave_back_unsettled_waits_with_the_dead() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    client.publish_on_queue(VIP_QUEUE, message(1)).await.unwrap();
    let (_connection, channel) = vhost.channel().await;
    let mut deliveries = 0;
    until_true("it is with the dead", PATIENCE, async || {
        while let Some(message) = channel.basic_get(VIP_QUEUE.into(), Default::default()).await.unwrap() {
            deliveries += 1;
            message.acker.reject(lapin::options::BasicRejectOptions { requeue: true }).await.unwrap();
        }
        vhost.ready(VIP_DEAD).await == Some(1)
    })
    .await;
    assert_eq!(deliveries, 101, "the first delivery and a hundred more");
    client.close().await;
}

#[tokio::test]
async fn a_dead_letter_waits_with_its_reason() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(|_| Outcome::DeadLetter("poison".into())));
    client.publish_on_queue(VIP_QUEUE, message(1)).await.unwrap();
    until_true("it is with the dead", PATIENCE, async || vhost.ready(VIP_DEAD).await == Some(1)).await;
    let [dead] = &vhost.messages(VIP_DEAD).await[..] else { panic!("one message") };
    assert_eq!(
        (dead.header("x-hops-reason").as_deref(), dead.request_id().as_str()),
        (Some("poison"), "request-1")
    );
    until_true("the original is acked", PATIENCE, async || vhost.ready(VIP_QUEUE).await == Some(0)).await;
    client.close().await;
}

#[tokio::test]
async fn a_handler_that_panics_or_hangs_fails_its_message_and_no_other() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let counter = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&counter);
    let seen = Arc::clone(&client.seen);
    let handler = handler(move |delivery| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        assert!(call != 0, "a bug, on purpose");
        let seen = Arc::clone(&seen);
        async move {
            if call == 1 {
                std::future::pending::<()>().await;
            }
            seen.lock().unwrap().push(delivery.message);
            Outcome::Ack
        }
    });
    let impatient = ConsumeOptions { handler_timeout: Duration::from_millis(200).into(), ..options() };
    client.subscribe_to_queue(VIP_QUEUE, impatient, handler);
    let messages: Vec<_> = (0..10).map(message).collect();
    for message in &messages {
        client.publish_on_queue(VIP_QUEUE, message.clone()).await.unwrap();
    }
    client.until_seen(&ids(&messages)).await;
    assert_eq!(counter.load(Ordering::SeqCst), 12);
    assert_eq!(vhost.ready(VIP_DEAD).await, Some(0));
    client.close().await;
}

#[tokio::test]
async fn no_more_is_handled_at_a_time_than_was_asked_for_and_a_stop_finishes_what_is_in_hand() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    for n in 0..20 {
        client.publish_on_queue(VIP_QUEUE, message(n)).await.unwrap();
    }
    let (in_hand, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (working, open) = (Arc::clone(&in_hand), Arc::clone(&gate));
    let handler = handler(move |_| {
        let (working, open) = (Arc::clone(&working), Arc::clone(&open));
        async move {
            working.fetch_add(1, Ordering::SeqCst);
            open.acquire().await.unwrap().forget();
            Outcome::Ack
        }
    });
    let subscription =
        client.subscribe_to_queue(VIP_QUEUE, ConsumeOptions { prefetch: 4, ..options() }, handler);
    until_true("four are in hand", PATIENCE, async || in_hand.load(Ordering::SeqCst) == 4).await;
    until_true("sixteen wait at the broker", PATIENCE, async || vhost.ready(VIP_QUEUE).await == Some(16))
        .await;
    assert_eq!(in_hand.load(Ordering::SeqCst), 4);

    subscription.cancel();
    gate.add_permits(4);
    tokio::time::timeout(PATIENCE, subscription.finished()).await.expect("it finishes");
    assert_eq!(in_hand.load(Ordering::SeqCst), 4, "none was begun after the stop");
    assert_eq!(vhost.ready(VIP_QUEUE).await, Some(16), "four were acked, and sixteen were left alone");
    let left = vhost.messages(VIP_QUEUE).await;
    assert!(left.iter().all(|message| message.header("x-delivery-count").is_none()));
    client.close().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_under_its_consumer_is_made_again_and_consumed() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let consuming = client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(|_| Outcome::Ack));
    until_true("it is subscribed", PATIENCE, async || consuming.is_active()).await;
    let (_connection, channel) = vhost.channel().await;
    channel.queue_delete(VIP_QUEUE.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    // A message that is published while the queue dies may be confirmed and die with it.
    let mut n = 0;
    until_true("a message is seen", PATIENCE, async || {
        n += 1;
        client.publish_surely(VIP_QUEUE, &message(n)).await;
        !client.seen().is_empty()
    })
    .await;
    client.close().await;
}

#[tokio::test]
async fn after_a_cut_of_all_connections_publishing_and_consuming_go_on() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let client = Client::up(&vhost.amqp_url_at(proxy.port())).await;
    client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(|_| Outcome::Ack));
    let messages: Vec<_> = (0..100).map(message).collect();
    for (n, message) in messages.iter().enumerate() {
        if n % 20 == 10 {
            proxy.cut();
        }
        client.publish_surely(VIP_QUEUE, message).await;
    }
    client.until_seen(&ids(&messages)).await;
    client.close().await;
}

#[tokio::test]
async fn a_link_that_goes_silent_is_found_dead_and_replaced() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let client = Client::up(&vhost.amqp_url_at(proxy.port())).await;
    proxy.set(Mode::Freeze);
    let sent = message(1);
    let publish = client.publish_surely(VIP_QUEUE, &sent);
    let thaw = async {
        until_true("the loss is noticed", PATIENCE, async || {
            matches!(client.status().publishing, LinkStatus::Connecting(Some(_)))
        })
        .await;
        proxy.set(Mode::Forward);
    };
    tokio::join!(publish, thaw);
    assert!(vhost.ready(VIP_QUEUE).await >= Some(1));
    client.close().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_leaves_no_thread_behind() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    proxy.set(Mode::Freeze);
    let impatient = Settings {
        amqp_connect_timeout: Duration::from_millis(200),
        amqp_backoff_max: Duration::from_millis(100),
        ..settings(&vhost.amqp_url_at(proxy.port()))
    };
    let client = Client::new(&impatient, topology());
    until_true("many attempts were made", PATIENCE, async || proxy.accepted() >= 10).await;
    let why = client.status().check().unwrap_err();
    assert!(why.contains("no answer to connecting within 200ms"), "{why}");
    client.close().await;
    until_true("the sockets are closed", PATIENCE, async || sockets_to(proxy.port()) == 0).await;
}

/// Established connections of this process to a local port: a thread of lapin's lives as long as its socket.
fn sockets_to(port: u16) -> usize {
    let wanted = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .filter(|line| line.split_whitespace().nth(2) == Some(&wanted) && line.contains(" 01 "))
        .count()
}

#[tokio::test]
async fn refused_credentials_are_a_state_that_is_shown_and_no_hot_loop() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let wrong = Settings {
        amqp_username: Some("guest".into()),
        amqp_password: Some(Secret::new("hunter2")),
        amqp_backoff_max: Duration::from_secs(5),
        ..settings(&vhost.amqp_url_at(proxy.port()))
    };
    let client = Client::new(&wrong, topology());
    let why = until("it is refused", PATIENCE, async || match client.status().publishing {
        LinkStatus::Refused(why) => Some(why),
        _ => None,
    })
    .await;
    assert!(why.contains("ACCESS_REFUSED") && why.contains("APP_AMQP_PASSWORD"), "{why}");
    assert!(!why.contains("hunter2"));
    // The thing under test is that little happens in this time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(proxy.accepted() <= 4, "{} connections in two seconds", proxy.accepted());
    client.close().await;
}

#[tokio::test]
async fn a_vhost_that_is_not_there_is_named() {
    if !SharedBroker::from_environment().is_rabbitmq_for("it makes a virtual host on first use") {
        return;
    }
    let url = vhost().await.amqp_url();
    let missing = format!("{url}.missing");
    let client = Client::new(&settings(&missing), topology());
    let why = until("it is refused", PATIENCE, async || match client.status().publishing {
        LinkStatus::Refused(why) => Some(why),
        _ => None,
    })
    .await;
    assert!(why.contains(".missing") && why.contains("create the vhost"), "{why}");
    client.close().await;
}

#[tokio::test]
async fn a_queue_that_differs_from_what_is_declared_is_named_with_both_values() {
    let vhost = vhost().await;
    let older = Client::new(&settings(&vhost.amqp_url()), vip_queue(5));
    older.until(&LinkStatus::Up).await;
    older.close().await;
    let client = Client::new(&settings(&vhost.amqp_url()), topology());
    let why = until("it is refused", PATIENCE, async || match client.status().consuming {
        LinkStatus::Refused(why) => Some(why),
        _ => None,
    })
    .await;
    for part in ["vip_queue", "x-max-length", "'1000'", "'5'", "other arguments"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let (_connection, channel) = vhost.channel().await;
    channel.queue_delete(VIP_QUEUE.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    client.until(&LinkStatus::Up).await;
    client.close().await;
}

#[tokio::test]
async fn what_is_published_to_an_exchange_reaches_every_subscriber_and_leaves_no_queue() {
    let vhost = vhost().await;
    let topology = || Topology::default().with_exchange("news");
    let new = || Client::new(&settings(&vhost.amqp_url()), topology());
    let (first, second) = (new(), new());
    for client in [&first, &second] {
        let active = client.subscribe("news", "weather.#", options(), client.handler(|_| Outcome::Ack));
        until_true("it is subscribed", PATIENCE, async || active.is_active()).await;
    }
    let (sun, goal) = (message(1), message(2));
    first.publish("news", "weather.sun", sun.clone()).await.unwrap();
    let other = first.publish("news", "sports.goal", goal).await;
    assert!(matches!(other, Err(PublishError::Unroutable(_))), "{other:?}");
    for client in [&first, &second] {
        client.until_seen(&ids(std::slice::from_ref(&sun))).await;
        assert_eq!(client.seen().len(), 1);
    }
    let queues = until("the broker lists both queues", PATIENCE, async || {
        let queues = vhost.queues().await;
        (queues.len() == 2).then_some(queues)
    })
    .await;
    assert!(queues.values().all(|queue| queue["exclusive"] == true && queue["auto_delete"] == true));
    first.close().await;
    second.close().await;
    until_true("the queues are gone", PATIENCE, async || vhost.queues().await.is_empty()).await;
}

#[tokio::test]
async fn an_event_of_the_bus_is_confirmed_whether_or_not_anybody_listens() {
    let vhost = vhost().await;
    let client =
        Client::new(&settings(&vhost.amqp_url()), Topology::default().with_exchange(SPRING_CLOUD_BUS));
    let (nobody, heard) = (message(1), message(2));
    assert_eq!(client.broadcast(SPRING_CLOUD_BUS, SPRING_CLOUD_BUS, nobody).await, Ok(()));
    assert!(vhost.queues().await.is_empty(), "to publish leaves no queue behind that fills up");

    let handler = client.handler(|_| Outcome::Ack);
    let active = client.subscribe(SPRING_CLOUD_BUS, EVERYTHING, options(), handler);
    until_true("it is subscribed", PATIENCE, async || active.is_active()).await;
    // As a Spring service does: a declaration with other properties would be refused.
    let (_connection, channel) = vhost.channel().await;
    let kind = lapin::ExchangeKind::Topic;
    let durable = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare("springCloudBus".into(), kind, durable, Default::default()).await.unwrap();
    client.broadcast(SPRING_CLOUD_BUS, "any key", heard.clone()).await.unwrap();
    client.until_seen(&ids(&[heard])).await;
    // Whoever cannot listen yet tries again: it is no error that is passed over.
    let late = client.subscribe("made later", EVERYTHING, options(), client.handler(|_| Outcome::Ack));
    let nowhere = client.broadcast("made later", "key", message(3)).await;
    assert!(matches!(nowhere, Err(PublishError::Unconfirmed(_))), "{nowhere:?}");
    let kind = lapin::ExchangeKind::Topic;
    channel.exchange_declare("made later".into(), kind, durable, Default::default()).await.unwrap();
    until_true("it is subscribed, too", PATIENCE, async || late.is_active()).await;
    late.cancel();
    late.finished().await;
    // A queue per connection that goes with it: none is left to collect every later event.
    let queues = until("the broker lists it", PATIENCE, async || {
        let queues = vhost.queues().await;
        (queues.len() == 1).then_some(queues)
    })
    .await;
    let (name, queue) = queues.iter().next().unwrap();
    assert!(name.starts_with("springCloudBus.anonymous."), "{name}");
    assert!(queue["exclusive"] == true && queue["auto_delete"] == true && queue["durable"] == false);
    client.close().await;
    until_true("it is gone", PATIENCE, async || vhost.queues().await.is_empty()).await;
}

#[tokio::test]
async fn a_connection_whose_channels_are_used_up_by_refusals_is_replaced() {
    if !full_only("messaging::a_connection_whose_channels_are_used_up_by_refusals_is_replaced") {
        return;
    }
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let client = Client::new(&settings(&vhost.amqp_url_at(proxy.port())), Topology::default());
    // Each attempt costs one of 2,047 channels, so these are not alone for the sake of time.
    let subscribe =
        |_| client.subscribe("made later", EVERYTHING, options(), client.handler(|_| Outcome::Ack));
    let late: Vec<_> = (0..300).map(subscribe).collect();
    until_true("there was another connection", 3 * PATIENCE, async || proxy.accepted() > 2).await;

    let (_connection, channel) = vhost.channel().await;
    let durable = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    let kind = lapin::ExchangeKind::Topic;
    channel.exchange_declare("made later".into(), kind, durable, Default::default()).await.unwrap();
    until_true("all listen", PATIENCE, async || late.iter().all(Subscription::is_active)).await;
    client.close().await;
}

/// Events of a replay in their order.
fn replayed(client: &Client) -> Arc<Mutex<Vec<Replay>>> {
    let steps = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&steps);
    let reader = Box::new(move |step| seen.lock().unwrap().push(step));
    streams::replay(client, OFFERS, ReplayOptions::whole(), reader);
    steps
}

/// Each step as a word: the offset of an entry, or what else happened.
fn words(steps: &Mutex<Vec<Replay>>) -> Vec<String> {
    let steps = steps.lock().unwrap();
    let word = |step: &Replay| match step {
        Replay::Restarted { .. } => "restarted".into(),
        Replay::Entry(offset, _) => offset.to_string(),
        Replay::TooLarge(offset, size) => format!("{offset}: {size} bytes"),
        Replay::CaughtUp => "caught up".into(),
    };
    steps.iter().map(word).collect()
}

#[tokio::test]
async fn a_stream_is_read_from_its_first_entry_and_then_followed() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    for n in 0..1200 {
        client.append(OFFERS, message(n)).await.unwrap();
    }
    let steps = replayed(&client);
    until_true("it has caught up", PATIENCE, async || words(&steps).contains(&"caught up".into())).await;
    let expected = |upto: u64| (0..upto).map(|offset| offset.to_string());
    let start = ["restarted".to_owned()].into_iter();
    assert_eq!(words(&steps), start.chain(expected(1200)).chain(["caught up".into()]).collect::<Vec<_>>());
    client.append(OFFERS, message(1200)).await.unwrap();
    until_true("it follows", PATIENCE, async || words(&steps).last() == Some(&"1200".into())).await;
    client.close().await;
}

#[tokio::test]
async fn a_stream_that_never_pauses_is_caught_up_with_all_the_same() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let append = async {
        for n in 0.. {
            client.publish_surely(OFFERS, &message(n)).await;
            // The pace is what is tested: never a pause as long as the reader's patience.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let replay = async {
        let steps = replayed(&client);
        until_true("it has caught up", PATIENCE, async || words(&steps).contains(&"caught up".into())).await;
    };
    tokio::select! {
        () = append => unreachable!("it goes on for ever"),
        () = replay => {}
    }
    client.close().await;
}

#[tokio::test]
async fn a_dead_letter_too_large_to_copy_is_moved_without_its_story_and_harms_no_other() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let dead = |delivery: &Delivery| match delivery.message.id {
        None => Outcome::DeadLetter("poison".into()),
        Some(_) => Outcome::Ack,
    };
    client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(dead));
    let (_connection, channel) = vhost.channel().await;
    let mut headers = lapin::types::FieldTable::default();
    headers.insert("large".into(), lapin::types::AMQPValue::LongString("x".repeat(130_000).into()));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    let publish = lapin::options::BasicPublishOptions::default();
    channel.basic_publish("".into(), VIP_QUEUE.into(), publish, b"poison", properties).await.unwrap();
    let good: Vec<_> = (0..5).map(message).collect();
    for message in &good {
        client.publish_surely(VIP_QUEUE, message).await;
    }
    client.until_seen(&ids(&good)).await;
    until_true("it is with the dead", PATIENCE, async || vhost.ready(VIP_DEAD).await == Some(1)).await;
    assert_eq!(client.status().publishing, LinkStatus::Up);
    client.close().await;
}

#[tokio::test]
async fn an_empty_stream_is_replayed_at_once_and_after_a_cut_again() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let client = Client::up(&vhost.amqp_url_at(proxy.port())).await;
    let steps = replayed(&client);
    until_true("it has caught up", PATIENCE, async || words(&steps) == ["restarted", "caught up"]).await;
    proxy.cut();
    let twice = ["restarted", "caught up", "restarted", "caught up"];
    until_true("it has caught up again", PATIENCE, async || words(&steps) == twice).await;
    client.close().await;
}

#[tokio::test]
async fn after_a_cut_a_stream_is_read_on_and_no_entry_comes_twice() {
    let vhost = vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let client = Client::up(&vhost.amqp_url_at(proxy.port())).await;
    let steps = replayed(&client);
    let mut appended = 0;
    for round in 0..3 {
        for n in 0..50 {
            client.publish_surely(OFFERS, &message(round * 50 + n)).await;
        }
        appended += 50;
        until_true("the entries are read", PATIENCE, async || {
            words(&steps).iter().filter(|word| word.parse::<u64>().is_ok()).count() >= appended
        })
        .await;
        proxy.cut();
    }
    client.publish_surely(OFFERS, &message(999)).await;
    let last = message(1000);
    client.publish_surely(OFFERS, &last).await;
    until_true("the last entry is read", PATIENCE, async || {
        let steps = steps.lock().unwrap();
        steps.iter().any(|step| matches!(step, Replay::Entry(_, message) if message.id == last.id))
    })
    .await;
    let words = words(&steps);
    let offsets: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
    assert_eq!(words.iter().filter(|word| *word == "restarted").count(), 1);
    client.close().await;
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_read_from_its_first_entry() {
    let vhost = vhost().await;
    let client = Client::up(&vhost.amqp_url()).await;
    let steps = replayed(&client);
    for n in 0..20 {
        client.append(OFFERS, message(n)).await.unwrap();
    }
    until_true("twenty are read", PATIENCE, async || words(&steps).contains(&"19".into())).await;
    let (_connection, channel) = vhost.channel().await;
    channel.queue_delete(OFFERS.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    let first = message(100);
    client.publish_surely(OFFERS, &first).await;
    until_true("the new stream is read", PATIENCE, async || {
        let steps = steps.lock().unwrap();
        let restarts = steps.iter().filter(|step| matches!(step, Replay::Restarted { .. })).count();
        let read =
            steps.iter().any(|step| matches!(step, Replay::Entry(_, message) if message.id == first.id));
        restarts >= 2 && read
    })
    .await;
    client.close().await;
}

#[tokio::test]
async fn a_broker_short_of_memory_slows_publishers_only() {
    let broker = PrivateBroker::start().await;
    let vhost = broker.vhost();
    let client = Client::up(&vhost.amqp_url()).await;
    let waiting: Vec<_> = (0..20).map(message).collect();
    for message in &waiting {
        client.publish_on_queue(VIP_QUEUE, message.clone()).await.unwrap();
    }
    broker.starve(Shortage::Memory).await;
    let late = message(100);
    let publish = client.publish_surely(VIP_QUEUE, &late);
    let meanwhile = async {
        until_true("the alarm is shown", PATIENCE, async || {
            matches!(client.status().publishing, LinkStatus::Blocked(_))
        })
        .await;
        client.subscribe_to_queue(VIP_QUEUE, options(), client.handler(|_| Outcome::Ack));
        client.until_seen(&ids(&waiting)).await;
        until_true("they are acked", PATIENCE, async || vhost.ready(VIP_QUEUE).await == Some(0)).await;
        broker.feed(Shortage::Memory).await;
    };
    tokio::join!(publish, meanwhile);
    client.until_seen(&ids(&[late])).await;
    assert_eq!(vhost.ready(VIP_DEAD).await, Some(0));

    broker.starve(Shortage::Memory).await;
    let stuck = async { client.publish_on_queue(VIP_QUEUE, message(101)).await };
    let close = async {
        until_true("the alarm is shown again", PATIENCE, async || {
            matches!(client.status().publishing, LinkStatus::Blocked(_))
        })
        .await;
        client.close().await;
    };
    let both = async { tokio::join!(stuck, close) };
    let (result, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("closing is bounded");
    assert!(result.is_err(), "{result:?}");
}

mod browse;
