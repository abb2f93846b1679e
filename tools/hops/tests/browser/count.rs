//! The cards are the broker's messages: no ghost, none missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use e2e::{load::Load, process::Address, wait::PATIENCE, wait::until_true, webdriver::Browser};
use lapin::BasicProperties;

use crate::{
    checkout::Checkout,
    page::{Page, own_broker},
};

const READS: usize = 2000;
/// Long enough for the messages to wait there until the end of the test.
const RETRY_QUEUE: &str = "vip_queue.retry.600000";
/// A version that no replica reads, so that each tries again later.
const LATER_VERSION: &str = "vip.notification.v2";

#[tokio::test]
async fn after_many_reads_and_two_kills_the_cards_are_the_messages_that_the_broker_has() {
    let Some(browser) = Browser::start("the page's cards beside the broker's messages").await else { return };
    let checkout = Checkout::new().await;
    let settings = checkout.path().join("config-repo/vipservice-test.yml");
    let with_one_delay = fs::read_to_string(&settings).unwrap() + "retry_delays: 600s\n";
    fs::write(&settings, with_one_delay).unwrap();
    checkout.hops(&["up", "-d"]).ok();
    let broker = own_broker(&checkout);
    checkout.hops(&["service", "scale", "vipservice=3"]).ok();
    let page = Page::open(browser, &checkout).await;

    let load = Load::answered(READS).at_a_time(16).start(&Address::at(checkout.port(6767)));
    for (answered, victim) in [(READS / 4, "vipservice.2"), (READS / 2, "vipservice.3")] {
        load.until_answered(answered).await;
        checkout.hops(&["kill", victim]).ok();
    }
    let sent = load.finish().await.sent.len();
    until_true("each read has its offer", PATIENCE, async || {
        checkout.by_replica().await.values().sum::<u64>() == sent as u64
    })
    .await;

    for number in 0..3 {
        let properties = BasicProperties::default().with_message_id(format!("poison-{number}").into());
        broker.publish("vip_queue", properties, b"poison").await;
    }
    for number in 0..2 {
        let properties = BasicProperties::default()
            .with_message_id(format!("later-{number}").into())
            .with_content_type("application/json".into())
            .with_type(LATER_VERSION.into());
        broker.publish("vip_queue", properties, b"{}").await;
    }
    for (queue, count) in [("vip_queue.dead", 3), (RETRY_QUEUE, 2)] {
        let name = format!("{queue} has {count}");
        until_true(&name, PATIENCE, async || broker.ready(queue).await == Some(count)).await;
    }
    checkout.hops(&["service", "scale", "vipservice=0"]).ok();
    checkout.hops(&["read", "37", "--rate", "500"]).ok();

    let queues = [("vip_queue", 37), ("vip_queue.dead", 3), (RETRY_QUEUE, 2)];
    for (queue, count) in queues {
        page.until_queue(queue, &[("cards", count), ("broker", count)]).await;
    }
    let listed = checkout.hops(&["queues", "--json"]).json();
    let mut at_the_broker = BTreeMap::new();
    for (queue, count) in queues {
        let row = listed.iter().find(|row| row["name"] == queue).unwrap();
        assert_eq!((row["ready"].as_u64(), row["unacked"].as_u64()), (Some(count as u64), Some(0)), "{row}");
        let messages = broker.messages(queue).await;
        let ids =
            messages.iter().map(|message| message.properties.message_id().as_ref().unwrap().to_string());
        at_the_broker.insert(queue.to_owned(), ids.collect::<BTreeSet<_>>());
    }
    let mut on_the_page = BTreeMap::<String, BTreeSet<String>>::new();
    page.until_messages("vip_queue", 42).await;
    for [id, place, _] in page.messages().await {
        let queue = place.split(['"', ' ', ',']).find(|word| word.starts_with("vip_queue"));
        if let Some(queue) = queue {
            on_the_page.entry(queue.to_owned()).or_default().insert(id);
        }
    }
    assert_eq!(on_the_page, at_the_broker);
    page.until_offers(sent).await;
    assert_eq!(page.browser.complaints().await, Vec::<String>::new());
}
