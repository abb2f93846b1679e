//! The walk of one message from end to end, while nothing breaks.

use std::collections::BTreeSet;

use e2e::{
    fixture::TestSystem,
    http::Reply,
    load::{Load, in_flight},
    wait::{PATIENCE, until, until_true},
};
use serde_json::json;

#[tokio::test]
async fn a_vip_read_becomes_one_offer_with_the_same_request_id() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);

    let (id, reply) = system.read(&account, "10000").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-request-id"), id);
    let expected = json!({"id": "10000", "name": "Person_0", "vip": true, "servedBy": "accountservice.1"});
    assert_eq!(reply.json(), expected);

    let offers = system.until_offers(&vip, 1).await;
    let [offer] = offers.as_slice() else { panic!("one offer, not {offers:?}") };
    assert_eq!(offer.request_id, id);
    assert_eq!(offer.account_id, "10000");
    assert_eq!(offer.made_by, "vipservice.1");
    assert!(!offer.text.is_empty());

    let one = vip.get(&format!("/offers/{}", offer.id)).await;
    assert_eq!((one.status, &one.json()["requestId"]), (200, &json!(id)));
    assert_eq!(vip.get("/offers?accountId=10000").await.json()["offers"][0]["id"], json!(offer.id));
    assert_eq!(vip.get("/offers?accountId=10001").await.json()["offers"], json!([]));
}

#[tokio::test]
async fn plain_reads_heads_lists_and_refused_reads_notify_nobody() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);

    assert_eq!(system.read(&account, "10001").await.1.status, 200);
    assert_eq!(system.read(&account, "10100").await.1.status, 404);
    let head = Reply::of(account.request("HEAD", "/accounts/10000")).await.expect("an answer");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(account.get("/accounts?limit=100").await.status, 200);
    assert_eq!(Reply::of(account.request("POST", "/accounts/10000")).await.expect("an answer").status, 405);
    // Messages keep their order, so whatever those had sent would be here before this one.
    let id = system.read_vip(&account).await;

    let offers = system.until_offers(&vip, 1).await;
    assert_eq!(offers.iter().map(|offer| &offer.request_id).collect::<Vec<_>>(), [&id]);
}

#[tokio::test]
async fn where_nothing_is_killed_every_read_sent_is_an_offer() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);

    let record = Load::sent(in_flight()).at_a_time(32).run(&account.address()).await;

    assert_eq!(record.refused, []);
    system.assert_promise(&record, &account, &[&vip]).await;
    let offered: BTreeSet<_> = system.offers(&vip).await.into_iter().map(|offer| offer.request_id).collect();
    assert_eq!(offered, record.sent);
}

#[tokio::test]
async fn two_replicas_share_thirty_reads() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    let (one, two) = tokio::join!(
        system.launch("vipservice", 1).flag("consumer-prefetch", "1").start(),
        system.launch("vipservice", 2).flag("consumer-prefetch", "1").start(),
    );
    one.until_ready().await;
    two.until_ready().await;
    until_true("both replicas have subscribed", PATIENCE, async || {
        system.vhost().consumers("vip_queue").await == Some(2)
    })
    .await;

    for _ in 0..30 {
        system.read_vip(&account).await;
    }

    for replica in [&one, &two] {
        system.until_offers(replica, 30).await;
        let made = system.by_replica(replica).await;
        assert_eq!(made.keys().collect::<Vec<_>>(), ["vipservice.1", "vipservice.2"], "{made:?}");
        assert_eq!(made.values().sum::<u64>(), 30, "{made:?}");
    }
}

#[tokio::test]
async fn nine_hop_lines_tell_the_story_of_one_request() {
    let system = TestSystem::new().await;
    let (account, vip) = tokio::join!(
        system.launch("accountservice", 1).flag("log-level", "debug").start(),
        system.launch("vipservice", 1).flag("log-level", "debug").start(),
    );
    account.until_ready().await;
    vip.until_ready().await;

    let id = system.read_vip(&account).await;
    system.until_offers(&vip, 1).await;

    let hops = |lines: Vec<e2e::log::Line>| lines.iter().filter_map(e2e::log::Line::hop).collect::<Vec<_>>();
    until("the nine lines", PATIENCE, async || {
        let walked = [hops(account.log().hops(&id)), hops(vip.log().hops(&id))];
        (walked == [vec![1, 2, 3, 4, 5, 6], vec![7, 8, 9]]).then_some(())
    })
    .await;
    let notify = &account.log().hops(&id)[3];
    assert!(notify.field("message").contains("account 10000 is a VIP"), "{}", notify.text);
    assert_eq!(notify.field("instance"), "accountservice.1");
    let consumer = &vip.log().hops(&id)[0];
    assert!(consumer.field("message").contains(r#""accountId":"10000""#), "{}", consumer.text);
}

#[tokio::test]
async fn a_restarted_vipservice_replays_all_offers() {
    let system = TestSystem::new().await;
    let (account, mut vip) = (system.accountservice().await, system.vipservice(1).await);
    for _ in 0..20 {
        system.read_vip(&account).await;
    }
    let before = system.until_offers(&vip, 20).await;

    vip.sigterm();
    assert_eq!(vip.exit_code().await, Some(0));
    vip.restart().await;
    assert_eq!(system.until_offers(&vip, 20).await, before);

    let newcomer = system.vipservice(2).await;
    assert_eq!(system.offers(&newcomer).await, before, "a replica that is ready shows what was there");
}

#[tokio::test]
async fn offers_are_listed_page_by_page_in_the_order_of_the_stream() {
    let system = TestSystem::new().await;
    let (account, vip) = (system.accountservice().await, system.vipservice(1).await);
    for _ in 0..5 {
        system.read_vip(&account).await;
    }
    let all = system.until_offers(&vip, 5).await;
    assert!(all.is_sorted_by(|one, next| one.offset < next.offset));

    let first = vip.get("/offers?limit=3").await.json();
    assert_eq!(first["offers"].as_array().map(Vec::len), Some(3));
    let rest = vip.get(&format!("/offers?limit=3&after={}", first["next"])).await.json();
    assert_eq!(rest["offers"].as_array().map(Vec::len), Some(2));
    assert_eq!(rest["offers"][0]["id"], json!(all[3].id));
    assert!(rest.get("next").is_none_or(serde_json::Value::is_null), "{rest}");
}

#[tokio::test]
async fn the_message_on_the_wire_is_as_the_contract_says() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let system = TestSystem::new().await;
    let account = system.accountservice().await;

    let request = account
        .request("GET", "/accounts/10000")
        .header("x-request-id", "the-request")
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
    assert_eq!(Reply::of(request).await.expect("an answer").status, 200);

    let message = until("the message in vip_queue", PATIENCE, async || {
        system.vhost().messages("vip_queue").await.pop()
    })
    .await;
    let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
    assert_eq!(
        body.as_object().map(|body| body.keys().collect::<Vec<_>>()),
        Some(vec![&"accountId".into(), &"readAt".into()])
    );
    assert_eq!(body["accountId"], "10000");
    let text = |value: &Option<lapin::types::ShortString>| {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    let properties = &message.properties;
    assert_eq!(text(properties.content_type()), "application/json");
    assert_eq!(text(properties.kind()), "vip.notification.v1");
    assert_eq!(text(properties.app_id()), "accountservice");
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    assert_eq!(message.request_id(), "the-request");
    assert!(properties.timestamp().is_some());
    let id = uuid::Uuid::parse_str(&text(properties.message_id())).expect("a UUID");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(message.header("cloudEvents_id"), Some(id.to_string()));
    for name in [
        "cloudEvents_source",
        "cloudEvents_type",
        "cloudEvents_specversion",
        "cloudEvents_time",
        "cloudEvents_subject",
    ] {
        assert!(message.header(name).is_some(), "{name} is missing");
    }
    let traceparent = message.header("traceparent").expect("a traceparent");
    assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "{traceparent}");

    let vip = system.vipservice(1).await;
    system.until_offers(&vip, 1).await;
    let hops = [account.log().hops("the-request"), vip.log().hops("the-request")].concat();
    // The relay and the publisher, hops 5 and 6, work for many requests at a time.
    for line in hops.iter().filter(|line| !matches!(line.hop(), Some(5 | 6))) {
        assert_eq!(line.field("trace"), TRACE, "{}", line.text);
    }
}
