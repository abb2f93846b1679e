//! Every fault that we know how to cause, against the real services at work, one test for each.
//!
//! A test warms a system up, takes the levels of its services (`e2e::levels`), causes its fault under a load, undoes it,
//! and ends in the set equation (`e2e::sets`) with `vip_queue.dead` empty and the levels back where they were.
//! docs/GUARANTEES.md has the table of the faults; those that are not here are in `kills` and `messaging`.
//! Without `HOPS_TESTS=full` those are left out, and say so, that need a broker of their own or more than twelve seconds;
//! ten of those are for the threads of name look-ups, which leave when they were idle for so long.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use e2e::{
    broker::{PrivateBroker, SharedBroker, Shortage},
    environment::full_only,
    fixture::TestSystem,
    levels::Levels,
    load::{Load, Record, in_flight},
    process::{Launch, Service},
    proxy::{Mode, Proxy},
    wait::{PATIENCE, until, until_true},
};

/// A system whose services are warm, with their levels.
struct AtWork {
    system: TestSystem,
    account: Service,
    vip: Service,
    early: Record,
    levels: Vec<Levels>,
}

impl AtWork {
    /// Starts both services with these flags.
    async fn on(system: TestSystem, flags: &[(&str, &str)]) -> Self {
        let with_flags =
            |launch| flags.iter().fold(launch, |launch: Launch, (name, value)| launch.flag(name, value));
        Self::with(system, with_flags).await
    }

    /// Starts both services as `change` says.
    async fn with(system: TestSystem, change: impl Fn(Launch) -> Launch) -> Self {
        let start = |binary| change(system.launch(binary, 1)).start();
        let (account, vip) = tokio::join!(start("accountservice"), start("vipservice"));
        tokio::join!(account.until_ready(), vip.until_ready());
        Self::warmed_up(system, account, vip, Record::default()).await
    }

    async fn warmed_up(system: TestSystem, account: Service, vip: Service, earlier: Record) -> Self {
        let (early, levels) = system.warm_up(earlier, &account, &[&vip]).await;
        Self { system, account, vip, early, levels }
    }

    fn both(&self) -> [&Service; 2] {
        [&self.account, &self.vip]
    }

    /// Waits until both say in `/readyz` that they are not ready, with this word; they are alive all the same.
    async fn until_both_say(&self, word: &str) {
        for service in self.both() {
            until_says(service, word).await;
            assert_eq!(service.get("/livez").await.status, 200);
        }
    }

    /// Some more reads of the VIP, all answered 200.
    async fn reads(&self) -> Record {
        Load::answered(in_flight()).at_a_time(32).run(&self.account.address()).await
    }

    /// Nothing is lost, nothing is twice, nothing is dead, all are ready, and nothing is held that was not held before.
    async fn until_whole(self, record: Record) {
        let record = record.and(self.early.clone());
        self.system.assert_promise(&record, &self.account, &[&self.vip]).await;
        self.until_back().await;
    }

    async fn until_back(&self) {
        for service in self.both() {
            service.until_ready().await;
        }
        Levels::until_all_back(&self.levels).await;
    }
}

async fn until_says(service: &Service, word: &str) {
    until_true(&format!("{} is not ready and says {word:?}", service.name()), PATIENCE, async || {
        let reply = service.get("/readyz").await;
        reply.status == 503 && reply.text.contains(word)
    })
    .await;
}

/// A line of the log with this in its message, which is waited for.
async fn until_logged(service: &Service, words: &str) {
    until_true(&format!("{} logs {words:?}", service.name()), PATIENCE, async || {
        service.log().count(|line| line.field("message").contains(words)) > 0
    })
    .await;
}

/// Fault 1.
#[tokio::test]
async fn a_broker_application_that_is_restarted_under_load_loses_no_answered_read() {
    if !full_only("faults::a_broker_application_that_is_restarted_under_load_loses_no_answered_read") {
        return;
    }
    let broker = PrivateBroker::start().await;
    let work = AtWork::on(TestSystem::on(broker.vhost()), &[("amqp-backoff-max", "1s")]).await;

    let load = Load::steady().start(&work.account.address());
    load.until_answered(20).await;
    broker.stop_application().await;
    work.until_both_say("connecting").await;
    let before = load.answered();
    load.until_answered(before + 20).await;
    broker.start_application().await;
    for service in work.both() {
        service.until_ready().await;
    }

    work.until_whole(load.stop().await).await;
}

/// Fault 3.
#[tokio::test]
async fn a_broker_that_stalls_gets_what_it_did_not_confirm_once_more() {
    if !full_only("faults::a_broker_that_stalls_gets_what_it_did_not_confirm_once_more") {
        return;
    }
    let broker = PrivateBroker::start().await;
    // The heart beats slowly, so that it is the confirms that are missed.
    let flags = [("amqp-operation-timeout", "2s"), ("amqp-heartbeat", "60s")];
    let work = AtWork::on(TestSystem::on(broker.vhost()), &flags).await;
    let unknown = work.account.metric("hops_messages_unknown_total").await;

    broker.freeze().await;
    let record = work.reads().await;
    until_true("confirms are missed", PATIENCE, async || {
        work.account.metric("hops_messages_unknown_total").await > unknown
    })
    .await;
    broker.thaw().await;

    work.until_whole(record).await;
}

/// Fault 6.
#[tokio::test]
async fn a_link_that_goes_silent_is_replaced_after_two_heartbeats_and_loses_no_answered_read() {
    if !full_only(
        "faults::a_link_that_goes_silent_is_replaced_after_two_heartbeats_and_loses_no_answered_read",
    ) {
        return;
    }
    const HEARTBEAT: Duration = Duration::from_secs(2);
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let work = AtWork::on(system, &[("amqp-heartbeat", "2s"), ("amqp-connect-timeout", "1s")]).await;

    let since = Instant::now();
    proxy.set(Mode::Freeze);
    let record = work.reads().await;
    work.until_both_say("connecting").await;
    // And another one for those who watch, on a machine that has other things to do.
    assert!(since.elapsed() <= 3 * HEARTBEAT, "{:?}", since.elapsed());
    proxy.set(Mode::Forward);

    work.until_whole(record).await;
}

/// Fault 7, its first three.
#[tokio::test]
async fn a_way_that_closes_refuses_or_says_nothing_is_tried_again_and_leaves_nothing_behind() {
    if !full_only(
        "faults::a_way_that_closes_refuses_or_says_nothing_is_tried_again_and_leaves_nothing_behind",
    ) {
        return;
    }
    const ATTEMPTS: usize = 12;
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let flags = [("amqp-connect-timeout", "300ms"), ("amqp-backoff-max", "300ms")];
    let work = AtWork::on(system, &flags).await;

    let mut record = Record::default();
    for mode in [Mode::AcceptAndClose, Mode::Refuse, Mode::Freeze] {
        let before = proxy.accepted();
        proxy.set(mode);
        proxy.cut();
        record = record.and(work.reads().await);
        work.until_both_say("connecting").await;
        if mode != Mode::Refuse {
            let many = || proxy.accepted() >= before + ATTEMPTS;
            until_true(&format!("{ATTEMPTS} attempts, {mode:?}"), PATIENCE, async || many()).await;
        }
        // While it lasts: an attempt that was given up must not wait for better times.
        for levels in &work.levels {
            levels.until_threads_are_back("lapin-io-loop").await;
        }
        proxy.set(Mode::Forward);
        for service in work.both() {
            service.until_ready().await;
        }
    }

    work.until_whole(record).await;
}

/// Fault 7, its last. RFC 2606 promises that the name will never be there.
#[tokio::test]
async fn a_name_that_nobody_knows_is_passed_over_and_alone_it_is_shown() {
    if !full_only("faults::a_name_that_nobody_knows_is_passed_over_and_alone_it_is_shown") {
        return;
    }
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let known = system.vhost().amqp_url_at(proxy.port());
    let unknown = known.replace("127.0.0.1", "guest:guest@broker.invalid");
    let both = format!("{unknown},{known}");
    let flags = [("amqp-server-url", &*both), ("amqp-backoff-max", "300ms")];
    let work = AtWork::on(system, &flags).await;

    for _ in 0..3 {
        let before = proxy.accepted();
        proxy.cut();
        until_true("all four connections are new", PATIENCE, async || proxy.accepted() >= before + 4).await;
    }
    let mut record = work.reads().await;

    // A second accountservice knows nothing else, until it is started with the right name.
    let launch = work.system.launch("accountservice", 2);
    let mut lost = launch.clone().flag("amqp-server-url", &unknown).start().await;
    record = record.and(Load::answered(10).run(&lost.address()).await);
    until_says(&lost, "broker.invalid").await;
    lost.sigterm();
    assert_eq!(lost.exit_code().await, Some(0));
    let found = launch.start().await;
    found.until_ready().await;

    work.until_whole(record).await;
}

/// Fault 8.
#[tokio::test]
async fn connections_that_an_operator_closes_are_made_anew_and_the_log_has_the_reason() {
    if !full_only("faults::connections_that_an_operator_closes_are_made_anew_and_the_log_has_the_reason") {
        return;
    }
    let broker = PrivateBroker::start().await;
    let work = AtWork::on(TestSystem::on(broker.vhost()), &[]).await;

    let load = Load::steady().start(&work.account.address());
    load.until_answered(20).await;
    broker.close_all_connections("moving house").await;
    for service in work.both() {
        until_logged(service, "moving house").await;
    }
    let before = load.answered();
    load.until_answered(before + 20).await;

    work.until_whole(load.stop().await).await;
}

/// Fault 9, a declaration; a publish is in `messaging::what_can_never_be_published_says_so_at_once`.
#[tokio::test]
async fn a_replica_that_declares_other_arguments_is_refused_and_disturbs_nobody() {
    const ATTEMPTS: usize = 8;
    let vhost = SharedBroker::from_environment().vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let detour = vhost.amqp_url_at(proxy.port());
    let work = AtWork::on(TestSystem::on(vhost), &[]).await;

    let load = Load::steady().start(&work.account.address());
    let other = work.system.launch("vipservice", 2).flag("amqp-server-url", &detour);
    let other = other.flag("offers-max-bytes", "1000000").flag("amqp-backoff-max", "500ms");
    let mut other = other.start().await;
    until_says(&other, "'x-max-length-bytes' for queue 'offers'").await;
    until_true("it tries again", PATIENCE, async || proxy.accepted() >= ATTEMPTS).await;
    for service in work.both() {
        assert_eq!(service.get("/readyz").await.status, 200, "{}", service.name());
    }
    assert_eq!(other.log().count(|line| line.hop().is_some()), 0, "it got nothing");
    other.sigterm();
    assert_eq!(other.exit_code().await, Some(0));

    work.until_whole(load.stop().await).await;
}

/// Fault 13, the consumer's side.
#[tokio::test]
async fn a_slow_replica_has_no_more_in_hand_than_its_prefetch_and_another_goes_on() {
    const PREFETCH: u64 = 5;
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let direct = system.vhost().amqp_url();
    let work = AtWork::with(system, |launch| match launch.binary() {
        "accountservice" => launch.flag("amqp-server-url", &direct),
        _ => launch.flag("consumer-prefetch", &PREFETCH.to_string()),
    })
    .await;

    proxy.set(Mode::Delay(Duration::from_millis(300)));
    let record = Load::answered(100).at_a_time(32).run(&work.account.address()).await;
    until_true("its hands are full and the queue has grown", PATIENCE, async || {
        let in_hand = work.system.vhost().queues().await["vip_queue"]["messages_unacknowledged"].as_u64();
        assert!(in_hand <= Some(PREFETCH), "{in_hand:?} in hand");
        in_hand == Some(PREFETCH) && work.system.vhost().ready("vip_queue").await >= Some(40)
    })
    .await;
    let other = work.system.launch("vipservice", 2).flag("amqp-server-url", &direct).start().await;
    until_true("the other does the work that is left", PATIENCE, async || {
        let made = other.log().count(|line| line.hop() == Some(9));
        work.system.vhost().ready("vip_queue").await == Some(0) && made >= 20
    })
    .await;
    proxy.set(Mode::Forward);

    work.until_whole(record).await;
}

/// Fault 13, the publisher's side.
#[tokio::test]
async fn what_a_full_queue_refuses_waits_in_the_outbox_until_there_is_room() {
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    let direct = system.vhost().amqp_url();
    let work = AtWork::with(system, |launch| {
        let launch = launch.flag("vip-queue-max-length", "20").flag("amqp-heartbeat", "60s");
        match launch.binary() {
            "accountservice" => launch.flag("amqp-server-url", &direct),
            _ => launch.flag("consumer-prefetch", "5"),
        }
    })
    .await;
    let nacked = work.account.metric("hops_messages_nacked_total").await;
    let waiting = || {
        let lines = work.account.log().filter(|line| line.fields["outbox.waiting"].is_u64());
        lines.iter().map(|line| line.fields["outbox.waiting"].as_u64().unwrap()).collect::<Vec<_>>()
    };

    proxy.set(Mode::Freeze);
    let record = work.reads().await.and(work.reads().await);
    until_true("the queue is full, the broker refuses, the outbox holds", PATIENCE, async || {
        work.system.vhost().ready("vip_queue").await >= Some(20)
            && work.account.metric("hops_messages_nacked_total").await > nacked
            && work.account.metric("hops_outbox_depth").await > 0
            && waiting().last() > Some(&0)
    })
    .await;
    assert_eq!(work.account.get("/accounts/10001").await.status, 200);
    proxy.set(Mode::Forward);
    until_true("the outbox is empty", PATIENCE, async || work.account.metric("hops_outbox_depth").await == 0)
        .await;
    until_true("the log has the count", PATIENCE, async || waiting().last() == Some(&0)).await;

    work.until_whole(record).await;
}

/// Fault 14.
#[tokio::test]
async fn a_broker_short_of_memory_or_disk_is_shown_and_what_was_read_meanwhile_arrives_later() {
    if !full_only(
        "faults::a_broker_short_of_memory_or_disk_is_shown_and_what_was_read_meanwhile_arrives_later",
    ) {
        return;
    }
    let broker = PrivateBroker::start().await;
    let work = AtWork::on(TestSystem::on(broker.vhost()), &[]).await;

    let mut record = Record::default();
    for shortage in [Shortage::Memory, Shortage::Disk] {
        broker.starve(shortage).await;
        record = record.and(work.reads().await);
        until_says(&work.account, "the broker takes no messages").await;
        record = record.and(work.reads().await);
        assert!(work.account.metric("hops_outbox_depth").await > 0, "{shortage:?}");
        assert_eq!(work.account.metric("hops_broker_blocked").await, 1, "{shortage:?}");
        broker.feed(shortage).await;
        for service in work.both() {
            service.until_ready().await;
        }
    }

    work.until_whole(record).await;
}

/// Fault 17, a queue and a stream. What was in them is gone, so nothing is in the queue, and the equation begins anew with the
/// new stream.
#[tokio::test]
async fn a_queue_and_a_stream_that_somebody_deletes_are_made_again_and_used() {
    let mut work = AtWork::on(TestSystem::new().await, &[]).await;

    work.system.vhost().delete("vip_queue").await;
    until_true("vip_queue is consumed again", PATIENCE, async || {
        work.system.vhost().consumers("vip_queue").await == Some(1)
    })
    .await;
    let record = work.reads().await.and(std::mem::take(&mut work.early));
    work.system.assert_promise(&record, &work.account, &[&work.vip]).await;

    work.system.vhost().delete("offers").await;
    until_true("the view is that of the new stream", PATIENCE, async || {
        work.system.offers(&work.vip).await.is_empty() && work.vip.get("/readyz").await.status == 200
    })
    .await;
    let record = work.reads().await;
    work.until_whole(record).await;
}

/// Fault 17, permissions.
#[tokio::test]
async fn permissions_that_are_revoked_are_named_and_given_back_they_are_used() {
    if !SharedBroker::from_environment().is_rabbitmq_for("it has no permissions") {
        return;
    }
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    system.vhost().create_user("its password").await;
    let (user, flags) = (system.vhost().user(), [("amqp-backoff-max", "1s")]);
    let work = AtWork::with(system, |launch| {
        let launch = launch.env("APP_AMQP_USERNAME", &user).env("APP_AMQP_PASSWORD", "its password");
        flags.iter().fold(launch, |launch, (name, value)| launch.flag(name, value))
    })
    .await;

    work.system.vhost().revoke_permissions().await;
    let mut record = work.reads().await;
    // RabbitMQ remembers per channel what is allowed: the next connection sees it for certain.
    proxy.cut();
    for words in ["refused: ", "ACCESS_REFUSED", "the user's permissions"] {
        work.until_both_say(words).await;
    }
    record = record.and(work.reads().await);
    work.system.vhost().give_permissions().await;

    work.until_whole(record).await;
}

/// Fault 18. The broker is short of memory, so no offer is confirmed, and what is in hand stays there for too long.
#[tokio::test]
async fn deliveries_that_are_taken_away_after_the_brokers_time_out_come_again_and_are_one_offer_each() {
    if !full_only(
        "faults::deliveries_that_are_taken_away_after_the_brokers_time_out_come_again_and_are_one_offer_each",
    ) {
        return;
    }
    /// RabbitMQ looks once a minute.
    const TWO_MINUTES_AND_SOME: Duration = Duration::from_secs(150);
    if !SharedBroker::from_environment().is_rabbitmq_for("it takes no delivery away") {
        return;
    }
    let broker = PrivateBroker::rabbitmq_with("consumer_timeout = 60000\n").await;
    let system = TestSystem::on(broker.vhost());
    let work = AtWork::on(system, &[]).await;

    // They lie in the queue when the alarm is raised, and are in hand while it lasts.
    let mut vip = work.vip;
    let handled = |vip: &Service| vip.log().count(|line| line.hop() == Some(7));
    let before = handled(&vip);
    vip.kill9().await;
    let record = Load::answered(in_flight()).at_a_time(32).run(&work.account.address()).await;
    until_true("the outbox is empty", PATIENCE, async || work.account.metric("hops_outbox_depth").await == 0)
        .await;
    broker.starve(Shortage::Memory).await;
    vip.restart().await;
    until_true("its hands are full", PATIENCE, async || handled(&vip) >= before + 50).await;
    let (early, mut levels) = (work.early, work.levels);
    levels.truncate(1);
    levels.push(Levels::of(&vip).await);
    let work = AtWork { vip, early, levels, ..work };
    let since = Instant::now();
    until("the broker takes them away", TWO_MINUTES_AND_SOME, async || {
        let taken = |line: &e2e::log::Line| line.field("message").contains("consuming vip_queue again");
        // RabbitMQ 4.0 closes the channel, and 4.3 cancels the consumer.
        let says_why = |line: &e2e::log::Line| {
            ["timed out", "timeout", "not acknowledged in time"].iter().any(|words| line.text.contains(words))
        };
        work.vip.log().filter(taken).into_iter().find(says_why)
    })
    .await;
    assert!(since.elapsed() > Duration::from_secs(50), "{:?}", since.elapsed());
    broker.feed(Shortage::Memory).await;

    work.until_whole(record).await;
}

/// Fault 21, the consumer.
#[tokio::test]
async fn a_vipservice_told_to_stop_under_load_finishes_what_it_began_and_no_other_sees_it_again() {
    let work = AtWork::on(TestSystem::new().await, &[]).await;
    let mut leaving = work.system.vipservice(2).await;

    let load = Load::answered(in_flight()).at_a_time(32).start(&work.account.address());
    until_true("it is at work", PATIENCE, async || leaving.log().count(|line| line.hop() == Some(7)) >= 5)
        .await;
    stops_in_time(&mut leaving).await;
    let record = load.finish().await;

    let ids = |service: &Service, hop: u64, is_again: bool| -> BTreeSet<String> {
        let lines = service.log().filter(|line| {
            line.hop() == Some(hop) && (!is_again || line.fields["message.redelivered"] == true)
        });
        lines.iter().map(|line| line.field("message.id").to_owned()).collect()
    };
    let (begun, finished) = (ids(&leaving, 7, false), ids(&leaving, 9, false));
    assert_eq!(begun, finished, "what it began it finished");
    work.system.assert_promise(&record.clone().and(work.early.clone()), &work.account, &[&work.vip]).await;
    let again: Vec<_> = ids(&work.vip, 7, true).intersection(&finished).cloned().collect();
    assert!(again.is_empty(), "finished there, and delivered again here: {again:?}");
    work.until_whole(record).await;
}

/// Fault 21, the publisher.
#[tokio::test]
async fn an_accountservice_told_to_stop_under_load_answers_what_it_took_and_sends_what_it_answered() {
    let mut work = AtWork::on(TestSystem::new().await, &[]).await;

    let load = Load::answered(in_flight()).at_a_time(32).start(&work.account.address());
    load.until_answered(in_flight() / 4).await;
    stops_in_time(&mut work.account).await;
    work.account.restart().await;
    let record = load.finish().await;

    // The one that was stopped is another process now.
    work.levels.remove(0);
    work.until_whole(record).await;
}

/// Within the grace period, with exit code 0.
async fn stops_in_time(service: &mut Service) {
    const GRACE: Duration = Duration::from_secs(10);
    let since = Instant::now();
    service.sigterm();
    assert_eq!(service.exit_code().await, Some(0));
    assert!(since.elapsed() < GRACE, "{:?}", since.elapsed());
}

/// Fault 22: wrong at start, corrected at the broker; then changed there under those who are connected.
#[tokio::test]
async fn a_wrong_password_is_shown_until_it_is_corrected_and_so_is_a_changed_one() {
    if !full_only("faults::a_wrong_password_is_shown_until_it_is_corrected_and_so_is_a_changed_one") {
        return;
    }
    if !SharedBroker::from_environment().is_rabbitmq_for("it has one user") {
        return;
    }
    let (system, proxy) = TestSystem::behind_a_proxy().await;
    system.vhost().create_user("another").await;
    let start = |binary| {
        let launch = system.launch(binary, 1).flag("amqp-backoff-max", "4s");
        launch.env("APP_AMQP_USERNAME", &system.vhost().user()).env("APP_AMQP_PASSWORD", "the one").start()
    };
    let (account, vip) = tokio::join!(start("accountservice"), start("vipservice"));
    for service in [&account, &vip] {
        until_says(service, "APP_AMQP_PASSWORD").await;
    }
    let earlier = Load::answered(in_flight()).run(&account.address()).await;
    system.vhost().change_password("the one").await;
    for service in [&account, &vip] {
        service.until_ready().await;
    }
    let work = AtWork::warmed_up(system, account, vip, earlier).await;

    work.system.vhost().change_password("yet another").await;
    let mut record = work.reads().await;
    for service in work.both() {
        assert_eq!(service.get("/readyz").await.status, 200, "who is connected stays connected");
    }
    proxy.cut();
    work.until_both_say("refused: ").await;
    record = record.and(work.reads().await);
    // A rate can only be measured over time.
    let before = proxy.accepted();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let attempts = proxy.accepted() - before;
    assert!(attempts <= 8, "{attempts} attempts of four connections in 3 s");
    work.system.vhost().change_password("the one").await;

    work.until_whole(record).await;
}
