//! Everything is bounded: what is full says so, loses nothing that was promised, and goes on by itself.

use std::{net::TcpListener, time::Duration};

use e2e::{
    broker::{SharedBroker, free_port},
    fixture::TestSystem,
    load::{Load, Record},
    proxy::{Mode, Proxy},
    wait::{PATIENCE, until, until_true},
};
use futures_util::future::join_all;
use messaging::{
    MessagingClient as _,
    amqp::{AmqpClient, AmqpOptions, Settings},
    broker::BrokerUrls,
    metrics::Metrics,
    topology::Topology,
};
use prometheus_client::registry::Registry;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

#[tokio::test]
async fn a_full_outbox_refuses_vip_reads_and_takes_them_again_when_the_broker_is_back() {
    const MAX: usize = 20;
    let vhost = SharedBroker::from_environment().vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    proxy.set(Mode::Refuse);
    let system = TestSystem::on(vhost).behind(proxy.port());
    let account = system.launch("accountservice", 1).flag("outbox-max", &MAX.to_string()).start().await;

    let mut record = Load::sent(3 * MAX).run(&account.address()).await;
    assert_eq!(record.answered.len(), MAX);
    let (id, refused) = system.read(&account, "10000").await;
    record.sent.insert(id.clone());
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.json()["request_id"], id);
    assert_eq!(system.read(&account, "10001").await.1.status, 200, "a plain read");
    assert_eq!(account.get("/accounts?limit=3").await.status, 200);
    let ready = account.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let why = ready.json()["checks"]["outbox"]["detail"].to_string();
    assert!(why.contains("the outbox is full: 20"), "{}", ready.text);

    proxy.set(Mode::Forward);
    account.until_ready().await;
    let vip = system.vipservice(1).await;
    let record = record.and(Load::answered(MAX).run(&account.address()).await);
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn a_full_disk_refuses_vip_reads_until_there_is_room_and_loses_nothing() {
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let account = system.launch("accountservice", 1).ulimit("-f unlimited").start().await;
    // It has all accounts: what it writes from here on are notifications, and not its store.
    account.until_ready().await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    let mut record = Load::answered(20).run(&account.address()).await;

    // No file may grow, or be written, behind its first byte.
    account.limit_files(Some(1));
    let refused = system.read(&account, "10000").await;
    record.sent.insert(refused.0);
    assert_eq!((refused.1.status, refused.1.header("retry-after")), (503, "1"), "{}", refused.1.text);
    assert_eq!(account.get("/accounts/10001").await.status, 200);
    let ready = account.get("/readyz").await;
    let why = ready.json()["checks"]["outbox"]["detail"].to_string();
    assert!(why.contains("File too large") && why.contains("no restart is needed"), "{}", ready.text);

    // What was answered is sent meanwhile.
    proxy.set(Mode::Forward);
    until_true("all that waited is in the queue", PATIENCE, async || {
        system.vhost().messages("vip_queue").await.len() == record.answered.len()
    })
    .await;

    account.limit_files(None);
    account.until_ready().await;
    record = record.and(Load::answered(20).run(&account.address()).await);
    until_true("it is sent, too", PATIENCE, async || {
        system.vhost().messages("vip_queue").await.len() == record.answered.len()
    })
    .await;
    account.sigterm();
    let mut account = account;
    assert_eq!(account.exit_code().await, Some(0));

    let account = system.accountservice().await;
    let vip = system.vipservice(1).await;
    system.assert_promise(&record, &account, &[&vip]).await;
    assert_eq!(vip.metric("hops_offers_duplicates_total").await, 0, "what was sent is not sent again");
}

#[tokio::test]
async fn a_view_shows_the_newest_offers_and_no_more_than_it_may() {
    const READS: usize = 200;
    const SHOWN: usize = 50;
    let system = TestSystem::new().await;
    let vip = system.launch("vipservice", 1).flag("offers-max", &SHOWN.to_string()).start().await;
    let account = system.accountservice().await;

    let record = Load::answered(READS).run(&account.address()).await;

    let newest = until("the newest offers are shown", PATIENCE, async || {
        let offers = system.offers(&vip).await;
        assert!(offers.len() <= SHOWN);
        let last = offers.last()?.offset;
        (last >= READS as u64 - 1 && offers.len() == SHOWN).then_some(offers)
    })
    .await;
    let offsets: Vec<_> = newest.iter().map(|offer| offer.offset).collect();
    let last = offsets[SHOWN - 1];
    assert_eq!(offsets, (last + 1 - SHOWN as u64..=last).collect::<Vec<_>>(), "the newest, without a gap");
    assert!(newest.iter().all(|offer| record.answered.contains(&offer.request_id)));
    assert_eq!(system.by_replica(&vip).await.into_values().sum::<u64>(), SHOWN as u64);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_and_the_operators_and_the_promise_are_not() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    // A VIP's read waits for the disk, and another one comes meanwhile.
    let account = system.launch("accountservice", 1).flag("request-concurrency", "1").start().await;
    let mut record = Record::default();

    let refused = until("a read is refused", PATIENCE, async || {
        let reads = join_all((0..32).map(|_| system.read(&account, "10000")));
        let (replies, alive) = tokio::join!(reads, account.get("/livez"));
        assert_eq!(alive.status, 200);
        let mut refused = None;
        for (id, reply) in replies {
            record.sent.insert(id.clone());
            if reply.status == 200 {
                record.answered.insert(id);
            } else {
                refused = Some(reply);
            }
        }
        refused
    })
    .await;

    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    assert!(refused.json()["detail"].to_string().contains("too many requests"), "{}", refused.text);
    assert!(!record.answered.is_empty(), "one at a time is answered");
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn a_broker_that_stays_away_leaves_nothing_behind_in_memory() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let closing = Proxy::start(([127, 0, 0, 1], free_port()).into()).await;
    closing.set(Mode::AcceptAndClose);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    for (how, port) in [("refuses", free_port()), ("closes", closing.port()), ("is silent", silent_port)] {
        let amqp_server_url = BrokerUrls::parse(&format!("amqp://127.0.0.1:{port}")).unwrap();
        let settings = Settings {
            amqp_server_url,
            amqp_connect_timeout: Duration::from_millis(20),
            amqp_backoff_max: Duration::from_millis(2),
            ..Settings::default()
        };
        let options = AmqpOptions::new(&settings, "test.1", Topology::default()).unwrap();
        let client = AmqpClient::new(options, Metrics::registered(&mut Registry::default()));
        client.connect();
        until_true("it has tried once", PATIENCE, async || {
            client.status().check().is_err_and(|why| why.contains(&port.to_string()))
        })
        .await;

        // Some hundred attempts: what each leaves behind would add up.
        let before = tasks();
        sleep_until(Instant::now() + Duration::from_secs(2)).await;
        let left = tasks().saturating_sub(before);
        assert!(left <= 30, "where it {how}: {left} tasks more than {before}");
        client.close().await;
    }
}
