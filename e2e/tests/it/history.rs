//! A long history: what is in the stream of offers, and how much of it a replica has to read.

use e2e::{
    broker::Vhost,
    fixture::TestSystem,
    process::Service,
    wait::{PATIENCE, until, until_true},
};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

const SHOWN: usize = 100;

/// An entry, as a vipservice appends it.
fn entry(id: &str, replica: &str) -> Vec<u8> {
    let times = r#""readAt":"2026-11-20T06:27:33.757Z","madeAt":"2026-11-20T06:27:34.000Z","validUntil":"2026-11-27T06:27:33.757Z""#;
    format!(
        r#"{{"id":"{id}","accountId":"10000","text":"t",{times},"requestId":"r-{id}","madeBy":"{replica}"}}"#
    )
    .into_bytes()
}

/// Publishes bodies to a queue or stream; returns once the broker has confirmed all of them.
async fn publish(vhost: &Vhost, queue: &str, messages: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let (_connection, channel) = vhost.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for (id, body) in messages {
        let properties = BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2);
        let publish = BasicPublishOptions::default();
        channel.basic_publish("".into(), queue.into(), publish, &body, properties).await.unwrap();
    }
    let refused = channel.wait_for_confirms().await.unwrap();
    assert!(refused.is_empty(), "{} messages were refused", refused.len());
}

/// Entries that a replica had read when it was ready for the first time.
async fn entries_read(service: &Service) -> u64 {
    let replayed = |line: &e2e::log::Line| line.field("message") == "entries were read for that";
    // It is ready before it has logged the number.
    let line =
        until("it logs the number", PATIENCE, async || service.log().filter(replayed).into_iter().next());
    line.await.fields["entries"].as_u64().unwrap()
}

#[tokio::test]
async fn a_replica_reads_the_newest_offers_of_a_long_stream_and_shows_what_the_others_show() {
    const ENTRIES: usize = 5000;
    let system = TestSystem::new().await;
    let launch = |number| {
        system.launch("vipservice", number).flag("offers-max", &SHOWN.to_string()).flag("log-level", "debug")
    };
    let old = launch(1).start().await;
    old.until_ready().await;
    // Every seventh one is a duplicate of the offer fifty entries before, so there are some across each start.
    let id = |n: usize| format!("offer-{}", if n.is_multiple_of(7) && n > 50 { n - 50 } else { n });
    let entries = (0..ENTRIES).map(|n| (id(n), entry(&id(n), &format!("v.{}", n % 3))));
    publish(system.vhost(), "offers", entries).await;
    publish(system.vhost(), "vip_queue.dead", [id(1), id(ENTRIES - 1)].map(|id| (id, b"{}".to_vec()))).await;
    until_true("the first replica has read all of it", PATIENCE, async || {
        system.offers(&old).await.last().is_some_and(|last| last.offset >= ENTRIES as u64 - 1)
    })
    .await;

    let new = launch(2).start().await;
    new.until_ready().await;

    until_true("no entry is left to apply", PATIENCE, async || {
        new.metric(r#"hops_stream_behind{stream="offers"}"#).await == 0
    })
    .await;

    let read = entries_read(&new).await;
    assert!(read <= 3 * SHOWN as u64, "it has read {read} of {ENTRIES} entries");
    let shown = system.offers(&new).await;
    assert_eq!((shown.len(), &shown), (SHOWN, &system.offers(&old).await));
    assert_eq!(system.by_replica(&new).await, system.by_replica(&old).await);
    // A dead letter whose offer is older than that may have one: nobody says that it has none.
    let letters = new.get("/dead-letters").await.json();
    let exists = |id: &str| {
        let mut letters = letters["deadLetters"].as_array().unwrap().iter();
        letters.find(|letter| letter["id"] == id).map(|letter| letter["offer"].clone())
    };
    assert_eq!(exists(&id(ENTRIES - 1)), Some(true.into()), "{letters}");
    assert_eq!(exists(&id(1)), Some(serde_json::Value::Null), "{letters}");
}

#[tokio::test]
async fn where_duplicates_fill_the_end_of_the_stream_reading_begins_further_back() {
    let system = TestSystem::new().await;
    system.vipservice(1).await;
    let id = |n: usize| format!("offer-{}", n.min(299));
    publish(system.vhost(), "offers", (0..1000).map(|n| (id(n), entry(&id(n), "v.1")))).await;
    let new = system.launch("vipservice", 2).flag("offers-max", &SHOWN.to_string()).start().await;
    new.until_ready().await;
    let offsets: Vec<_> = system.offers(&new).await.iter().map(|offer| offer.offset).collect();
    assert_eq!(offsets, (200..300).collect::<Vec<_>>());
    assert_eq!(new.metric("hops_offers_duplicates_total").await, 700, "each duplicate is counted once");
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_skipped_by_its_offset_and_kept_in_no_memory() {
    let system = TestSystem::new().await;
    let running = system.vipservice(1).await;
    let large = |id: &str| {
        let body = String::from_utf8(entry(id, "v.1")).unwrap();
        body.replace(r#""text":"t""#, &format!(r#""text":"{}""#, "x".repeat(12 * 1024 * 1024))).into_bytes()
    };
    let entries = [
        ("a", entry("a", "v.1")),
        ("large-1", large("large-1")),
        ("large-2", large("large-2")),
        ("b", entry("b", "v.1")),
    ];
    publish(system.vhost(), "offers", entries.map(|(id, body)| (id.to_owned(), body))).await;
    let new = system.vipservice(2).await;
    for service in [&running, &new] {
        let shown = system.until_offers(service, 2).await;
        assert_eq!(shown.iter().map(|offer| offer.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        for offset in [1, 2] {
            let skipped = |line: &e2e::log::Line| {
                line.fields["offset"] == offset && line.text.contains("of stream offers is skipped")
            };
            assert_eq!(service.log().count(skipped), 1, "{}", service.log().tail(20));
        }
    }
}
