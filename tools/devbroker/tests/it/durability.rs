//! Durability: restarts, kills and damaged logs.

use std::{collections::BTreeSet, fs::File, os::unix::fs::PermissionsExt as _};

use crate::kit::*;
use devbroker::{DevBroker, Options};
use e2e::environment::is_full;
use tempfile::tempdir;

#[tokio::test]
async fn what_was_confirmed_survives_kill_9_under_load() {
    let folder = tempdir().unwrap();
    let mut process = Process::start(folder.path(), 0);
    let mut confirmed = BTreeSet::new();
    let mut sent = 0_u32;
    for round in 0..3 {
        let (connection, channel) = channel(&process.url).await;
        for kind in ["quorum", "classic", "stream"] {
            declare(&channel, kind, kind).await;
        }
        // Killed from beside, in the middle of it.
        let deadline = confirmed.len() + 300;
        while let Some(kind) = ["quorum", "classic", "stream"].get(sent as usize % 3) {
            if confirmed.len() == deadline {
                process.kill();
            }
            sent += 1;
            match publish(&channel, kind, sent.to_string().as_bytes()).await {
                Ok(Confirmation::Ack(None)) => confirmed.insert(sent),
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            };
        }
        drop(connection);
        assert!(confirmed.len() >= deadline, "round {round}");
        process = Process::start(folder.path(), process.port());
    }
    let (_connection, channel) = channel(&process.url).await;
    let mut found = BTreeSet::new();
    for kind in ["quorum", "classic"] {
        let count = ready(&channel, kind).await;
        let mut consumer = consume(&channel, kind, 100).await;
        for _ in 0..count {
            let delivery = next(&mut consumer).await;
            assert!(!delivery.redelivered, "nobody has seen it");
            found.insert(String::from_utf8_lossy(&delivery.data).parse().unwrap());
            in_time(delivery.acker.ack(BasicAckOptions::default())).await.unwrap();
        }
    }
    let count = ready(&channel, "stream").await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let consumer =
        channel.basic_consume("stream".into(), "".into(), BasicConsumeOptions::default(), arguments);
    let mut consumer = in_time(consumer).await.unwrap();
    for offset in 0..count {
        let delivery = next(&mut consumer).await;
        let headers = delivery.properties.headers().clone().unwrap();
        assert_eq!(headers.inner()["x-stream-offset"], AMQPValue::LongLongInt(offset.into()));
        found.insert(String::from_utf8_lossy(&delivery.data).parse().unwrap());
        in_time(delivery.acker.ack(BasicAckOptions::default())).await.unwrap();
    }
    let lost: Vec<_> = confirmed.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(process.terminate(), "SIGTERM ends it well");
}

#[tokio::test]
async fn a_delivery_that_was_out_when_it_was_killed_comes_again_and_says_so() {
    let folder = tempdir().unwrap();
    let mut process = Process::start(folder.path(), 0);
    {
        let (_connection, channel) = channel(&process.url).await;
        declare(&channel, "q", "quorum").await;
        for body in ["settled", "out", "new"] {
            publish(&channel, "q", body.as_bytes()).await.unwrap();
        }
        let mut consumer = consume(&channel, "q", 2).await;
        let first = next(&mut consumer).await;
        in_time(first.acker.ack(BasicAckOptions::default())).await.unwrap();
        next(&mut consumer).await;
        next(&mut consumer).await;
        // An answer after the ack means that the ack was handled.
        assert_eq!(ready(&channel, "q").await, 0);
        process.kill();
    }
    let process = Process::start(folder.path(), process.port());
    let (_connection, channel) = channel(&process.url).await;
    let mut consumer = consume(&channel, "q", 5).await;
    for body in ["out", "new"] {
        let delivery = next(&mut consumer).await;
        assert_eq!((&delivery.data[..], delivery.redelivered), (body.as_bytes(), true));
        let count = delivery.properties.headers().clone().unwrap_or_default();
        assert_eq!(count.inner().get("x-delivery-count"), Some(&AMQPValue::LongLongInt(1)));
    }
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_is_read_up_to_there() {
    let above = tempdir().unwrap();
    let folder = above.path().join("data");
    let options = || Options { data_dir: Some(folder.clone()), ..Options::default() };
    let first = broker(options()).await;
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "others cannot read messages");
    {
        let (_connection, channel) = channel(&first.url()).await;
        declare(&channel, "q", "quorum").await;
        for n in 0..20 {
            publish(&channel, "q", n.to_string().as_bytes()).await.unwrap();
        }
    }
    first.stop().await;
    let whole = std::fs::read(folder.join("log")).unwrap();
    let mut before = 0;
    for end in (0..=whole.len()).step_by(61).chain([whole.len()]) {
        std::fs::write(folder.join("log"), &whole[..end]).unwrap();
        let again = broker(options()).await;
        let (_, queues) = ask(again.admin_address().unwrap(), "GET", "/queues").await;
        let messages = queues[0]["messages"].as_u64().unwrap_or(0);
        assert!(messages >= before, "{end}");
        before = messages;
        again.stop().await;
    }
    assert_eq!(before, 20);
}

#[tokio::test]
async fn a_flipped_bit_costs_one_record_is_reported_and_leaves_a_copy() {
    const MESSAGES: u64 = 20;
    let folder = tempdir().unwrap();
    let options = || Options { data_dir: Some(folder.path().into()), fsync: true, ..Options::default() };
    let first = broker(options()).await;
    {
        let (_connection, channel) = channel(&first.url()).await;
        declare(&channel, "q", "quorum").await;
        for n in 0..MESSAGES {
            publish(&channel, "q", n.to_string().as_bytes()).await.unwrap();
        }
    }
    first.stop().await;
    // As a restart leaves it: the queue comes first, and then its messages.
    broker(options()).await.stop().await;
    let log = folder.path().join("log");
    let whole = std::fs::read(&log).unwrap();
    let (mut all_kept, mut one_lost, mut queue_lost, mut refused) = (0, 0, 0, 0);
    for at in (0..whole.len()).step_by(if is_full() { 1 } else { 11 }) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&log, &damaged).unwrap();
        let again = match started(options()).await {
            Ok(again) => again,
            Err(error) => {
                assert!(at < 24 && error.to_string().contains("log"), "byte {at}: {error}");
                assert_eq!(std::fs::read(&log).unwrap(), damaged, "it is left alone");
                refused += 1;
                continue;
            }
        };
        assert!(!again.damage().is_empty(), "byte {at}: no word about it");
        let copy = folder.path().join("log.damaged.1");
        assert_eq!(std::fs::read(&copy).unwrap(), damaged, "byte {at}: the damaged log is kept");
        std::fs::remove_file(copy).unwrap();
        let (_, queues) = ask(again.admin_address().unwrap(), "GET", "/queues").await;
        match queues[0]["messages"].as_u64() {
            Some(MESSAGES) => all_kept += 1,
            Some(messages) if messages == MESSAGES - 1 => one_lost += 1,
            None => queue_lost += 1,
            messages => panic!("byte {at}: {messages:?} messages are left: {:?}", again.damage()),
        }
        again.stop().await;
    }
    let others = all_kept + queue_lost + refused;
    assert!(one_lost > 8 * others, "{one_lost} {all_kept} {queue_lost} {refused}");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_the_broker_which_says_why() {
    let folder = tempdir().unwrap();
    let errors = folder.path().join("errors");
    // A signal comes with the limit, which would end the process before it says anything.
    let limits = "trap '' XFSZ; ulimit -f 64";
    let mut process = Process::limited(limits, folder.path(), File::create(&errors).unwrap().into());
    let (_connection, channel) = channel(&process.url).await;
    declare(&channel, "q", "quorum").await;
    let body = vec![b'x'; 1000];
    let mut confirmed = 0;
    while publish(&channel, "q", &body).await.is_ok_and(|confirmation| confirmation.is_ack()) {
        confirmed += 1;
    }
    assert!(!process.exit().success());
    let said = std::fs::read_to_string(errors).unwrap();
    let log = folder.path().join("log").display().to_string();
    assert!(said.contains(&log) && said.contains("File too large") && said.contains("make room"), "{said}");

    let again = broker(Options { data_dir: Some(folder.path().into()), ..Options::default() }).await;
    let (_, queues) = ask(again.admin_address().unwrap(), "GET", "/queues").await;
    assert_eq!(queues[0]["messages"], confirmed, "what was confirmed is there");
}

#[tokio::test]
async fn a_folder_belongs_to_one_broker_and_a_strange_or_older_file_is_left_alone() {
    let folder = tempdir().unwrap();
    let options = || Options { data_dir: Some(folder.path().into()), ..Options::default() };
    let first = broker(options()).await;
    let error = DevBroker::start(options()).await.unwrap_err();
    assert!(error.to_string().contains("another devbroker"), "{error}");
    first.stop().await;
    for content in ["somebody's diary", "devbroker 1\n and its records", "devbroker 2\n and its records"] {
        std::fs::write(folder.path().join("log"), content).unwrap();
        let error = DevBroker::start(options()).await.unwrap_err();
        assert!(error.to_string().contains("not a log of this version of devbroker: remove it"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join("log")).unwrap(), content);
    }
}

#[tokio::test]
async fn clients_hear_that_a_broker_stops() {
    let broker = broker(Options::default()).await;
    let (connection, _channel) = channel(&broker.url()).await;
    let mut events = connection.events_listener();
    in_time(broker.stop()).await;
    let event = in_time(futures_util::StreamExt::next(&mut events)).await;
    assert!(format!("{event:?}").contains("CONNECTION_FORCED"), "{event:?}");
}

#[tokio::test]
async fn a_log_of_the_past_is_written_anew() {
    let folder = tempdir().unwrap();
    let broker = broker(Options { data_dir: Some(folder.path().into()), ..Options::default() }).await;
    let (_connection, channel) = channel(&broker.url()).await;
    declare(&channel, "q", "quorum").await;
    publish(&channel, "q", b"kept").await.unwrap();
    let body = vec![1; 1_000_000];
    for _ in 0..40 {
        publish(&channel, "q", &body).await.unwrap();
        let got = in_time(channel.basic_get("q".into(), BasicGetOptions::default())).await.unwrap().unwrap();
        if got.delivery.data != b"kept" {
            got.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        } else {
            let next =
                in_time(channel.basic_get("q".into(), BasicGetOptions::default())).await.unwrap().unwrap();
            next.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    assert_eq!(ready(&channel, "q").await, 0, "one is out");
    let size = std::fs::metadata(folder.path().join("log")).unwrap().len();
    assert!(size < 30_000_000, "{size}");
    let options = Options { data_dir: Some(folder.path().into()), ..Options::default() };
    broker.stop().await;
    let again = crate::kit::broker(options).await;
    let (_connection, channel) = crate::kit::channel(&again.url()).await;
    assert_eq!(ready(&channel, "q").await, 1);
}
