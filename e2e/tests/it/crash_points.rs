//! Every row of the crash table in `docs/GUARANTEES.md`: a process that dies exactly there, under load, and what is left.
//!
//! The places are failpoints. Each test holds the sets against each other, and where its row has an effect that can be
//! seen, shows it: otherwise the place could be passed without a trace.

use std::collections::BTreeMap;

use e2e::{
    broker::SharedBroker,
    fixture::TestSystem,
    load::{Load, Record},
    log::Line,
    process::Service,
    proxy::Proxy,
    wait::{PATIENCE, until_true},
};

/// An accountservice that dies at a place and is started again, with reads going on all the time.
async fn accountservice_dies(system: &TestSystem, failpoint: &str) -> (Service, Record) {
    let mut account = system.launch("accountservice", 1).failpoint(failpoint).start().await;
    let load = Load::steady().start(&account.address());
    account.die_and_restart().await;
    (account, load.stop().await)
}

/// Content of the outbox when the accountservice died.
fn was_waiting(account: &Service) -> bool {
    account.log().count(|line| line.field("message").starts_with("waiting in the outbox from an earlier run"))
        == 1
}

/// A vipservice that dies at a place and is started again, in the same way.
async fn vipservice_dies(system: &TestSystem, failpoint: &str) -> (Service, Service, Record) {
    let account = system.accountservice().await;
    let mut vip = system.launch("vipservice", 1).failpoint(failpoint).start().await;
    let load = Load::steady().start(&account.address());
    vip.die_and_restart().await;
    (account, vip, load.stop().await)
}

/// Counts the deliveries of each message in the vipservice's log.
fn deliveries(vip: &Service) -> BTreeMap<String, usize> {
    let mut deliveries = BTreeMap::new();
    for line in vip.log().filter(|line| line.hop() == Some(7)) {
        *deliveries.entry(line.field("message.id").to_owned()).or_default() += 1;
    }
    deliveries
}

async fn until_delivered_twice(vip: &Service) {
    until_true("a message comes a second time", PATIENCE, async || deliveries(vip).values().any(|n| *n > 1))
        .await;
}

/// Returns the number of duplicates in the stream, as a replica counts them.
async fn repetitions(vip: &Service) -> u64 {
    vip.metric("hops_offers_duplicates_total").await
}

#[tokio::test]
async fn killed_before_the_outbox_is_flushed_nobody_was_told() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    let (account, record) = accountservice_dies(&system, "outbox-written@20=kill").await;
    let is_cut = |why: &str| !why.contains("Connection refused");
    assert!(record.refused.iter().any(|(_, why)| is_cut(why)), "the read in hand was answered");
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_after_the_flush_and_before_the_answer_an_unanswered_read_has_its_offer() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    let (account, record) = accountservice_dies(&system, "outbox-flushed@20=kill").await;
    system.assert_promise(&record, &account, &[&vip]).await;
    until_true("an offer of a read that was not answered", PATIENCE, async || {
        system.offers(&vip).await.iter().any(|offer| !record.answered.contains(&offer.request_id))
    })
    .await;
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_between_publish_and_confirm_the_message_is_published_again() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    let (account, record) = accountservice_dies(&system, "published@1=kill").await;
    assert!(was_waiting(&account), "it was removed before its confirm");
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_between_confirm_and_removal_the_message_comes_twice_and_is_one_row() {
    let system = TestSystem::new().await;
    let vip = system.vipservice(1).await;
    let (account, record) = accountservice_dies(&system, "relay-confirmed@1=kill").await;
    until_delivered_twice(&vip).await;
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_after_a_refusal_the_message_is_published_when_there_is_room() {
    let system = TestSystem::new().await;
    let small = |name| system.launch(name, 1).flag("vip-queue-max-length", "10");
    let mut account = small("accountservice").failpoint("relay-refused@1=kill").start().await;
    let load = Load::steady().start(&account.address());
    account.die_and_restart().await;
    assert!(was_waiting(&account), "what was refused is gone");
    let vip = small("vipservice").start().await;
    system.assert_promise(&load.stop().await, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_on_delivery_the_message_comes_again() {
    let system = TestSystem::new().await;
    let (account, vip, record) = vipservice_dies(&system, "delivered@10=kill").await;
    let again = |line: &Line| line.hop() == Some(7) && line.fields["message.redelivered"] == true;
    until_true("a message comes again", PATIENCE, async || vip.log().count(again) > 0).await;
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_between_the_offers_publish_and_its_confirm_the_message_comes_again() {
    let system = TestSystem::new().await;
    let (account, vip, record) = vipservice_dies(&system, "published@1=kill").await;
    until_delivered_twice(&vip).await;
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn killed_between_the_offers_confirm_and_the_ack_there_are_two_entries_and_one_row() {
    let system = TestSystem::new().await;
    let (account, vip, record) = vipservice_dies(&system, "handled@10=kill").await;
    system.assert_promise(&record, &account, &[&vip]).await;
    assert!(repetitions(&vip).await >= 1, "nothing was appended twice");
}

#[tokio::test]
async fn killed_right_after_the_ack_nothing_is_lost() {
    let system = TestSystem::new().await;
    let (account, vip, record) = vipservice_dies(&system, "acked@10=kill").await;
    system.assert_promise(&record, &account, &[&vip]).await;
}

#[tokio::test]
async fn an_ack_that_is_lost_on_its_way_makes_two_entries_and_one_row() {
    let vhost = SharedBroker::from_environment().vhost().await;
    let proxy = Proxy::start(vhost.address()).await;
    let system = TestSystem::on(vhost).behind(proxy.port());
    let account = system.accountservice().await;
    let vip = system.launch("vipservice", 1).failpoint("handled@10=stall").start().await;
    let load = Load::steady().start(&account.address());
    let stands = |line: &Line| line.field("failpoint") == "handled";
    until_true("the vipservice stands before an ack", PATIENCE, async || vip.log().count(stands) == 1).await;
    proxy.cut();
    system.assert_promise(&load.stop().await, &account, &[&vip]).await;
    assert!(repetitions(&vip).await >= 1, "nothing was appended twice");
}

#[tokio::test]
async fn killed_between_a_retrys_confirm_and_the_ack_original_and_copy_are_handled_and_are_one_row() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    let fails = system.launch("vipservice", 1).failpoint("handling@10=panic,moved@1=kill");
    let mut vip = fails.flag("retry-delays", "200ms").start().await;
    let load = Load::steady().start(&account.address());
    vip.die_and_restart().await;
    let record = load.stop().await;
    until_true("the copy comes back", PATIENCE, async || repetitions(&vip).await >= 1).await;
    system.assert_sets(&record, &account, &[&vip]).await;
    assert_eq!(system.vhost().ready("vip_queue.dead").await, Some(0));
}

#[tokio::test]
async fn killed_between_a_dead_letters_confirm_and_the_ack_the_dead_letter_has_an_offer() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    let fails = system.launch("vipservice", 1).failpoint("handling@10=panic,moved@1=kill");
    let mut vip = fails.flag("retry-delays", "").start().await;
    let load = Load::steady().start(&account.address());
    vip.die_and_restart().await;
    system.assert_sets(&load.stop().await, &account, &[&vip]).await;

    let [dead] = &system.vhost().messages("vip_queue.dead").await[..] else { panic!("one dead letter") };
    assert!(dead.header("x-hops-reason").unwrap().contains("panic"), "{dead:?}");
    let offers = system.offers(&vip).await;
    assert!(offers.iter().any(|offer| offer.request_id == dead.request_id()), "the original was not handled");
}
