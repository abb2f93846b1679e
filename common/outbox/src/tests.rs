//! The outbox in a temporary store, and the relay with a broker that is a double.

use std::sync::{Arc, Mutex};

use contracts::RequestContext;

use super::*;

fn message(n: u32) -> Message {
    let context = RequestContext::from_parts_or_new(Some(&format!("request-{n}")), None, None);
    contracts::event("test.v1", "outbox", "subject", &context, &n).unwrap()
}

fn open(store: &sled::Db, max: usize) -> Result<Outbox, sled::Error> {
    Outbox::open(store, max, &mut Registry::default())
}

fn store() -> sled::Db {
    sled::Config::new().temporary(true).open().unwrap()
}

#[test]
fn an_entry_comes_out_as_it_went_in_whatever_its_body_holds() {
    let message = Message { body: b"a\nb\0\xff".to_vec().into(), ..message(1) };
    let entry = decode(&encode("vip_queue", &message).unwrap()).unwrap();
    assert_eq!(entry, Entry { queue: "vip_queue".into(), message });
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_store_is_opened_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let appended = message(1);
    {
        let store = sled::open(folder.path()).unwrap();
        open(&store, 10).unwrap().append("vip_queue", &appended).await.unwrap();
    }
    let store = sled::open(folder.path()).unwrap();
    let outbox = open(&store, 10).unwrap();
    assert_eq!(outbox.len(), 1);
    let entries: Vec<_> = outbox.entries().map(Result::unwrap).collect();
    assert_eq!(entries, [Entry { queue: "vip_queue".into(), message: appended }]);
}

#[tokio::test]
async fn a_full_outbox_refuses_and_takes_messages_again_when_there_is_room() {
    let outbox = open(&store(), 2).unwrap();
    outbox.append("q", &message(1)).await.unwrap();
    assert!(outbox.check().is_ok());
    outbox.append("q", &message(2)).await.unwrap();
    assert!(matches!(outbox.append("q", &message(3)).await, Err(OutboxError::Full(2))));
    assert!(outbox.check().unwrap_err().contains("full"));
    let (key, _) = outbox.after(None).next().unwrap().unwrap();
    outbox.remove(&[key]).unwrap();
    outbox.append("q", &message(4)).await.unwrap();
    assert_eq!(outbox.len(), 2);
}

#[tokio::test]
async fn a_message_that_no_broker_would_take_is_refused() {
    let outbox = open(&store(), 2).unwrap();
    let large = Message { body: vec![0; BODY_LIMIT + 1].into(), ..message(1) };
    assert!(matches!(outbox.append("q", &large).await, Err(OutboxError::Invalid(_))));
    assert!(outbox.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_append_at_once_are_all_in_and_share_flushes() {
    let outbox = Arc::new(open(&store(), 1000).unwrap());
    let mut appends = tokio::task::JoinSet::new();
    for n in 0..500 {
        let outbox = Arc::clone(&outbox);
        appends.spawn(async move { outbox.append("q", &message(n)).await.unwrap() });
    }
    appends.join_all().await;
    assert_eq!(outbox.len(), 500);
    assert_eq!(outbox.entries().count(), 500);
    assert_eq!(*outbox.flushed.lock().await, 500);
}

mod relaying {
    use std::{
        collections::HashMap,
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use messaging::MockMessagingClient;
    use tokio::time::Instant;

    use super::*;

    /// Relays until the outbox is empty, to a client that answers each message's n-th try with `answer`.
    async fn relayed(
        outbox: &Outbox,
        answer: impl Fn(&Message, u32) -> Result<(), PublishError> + Send + Sync + 'static,
    ) -> HashMap<String, u32> {
        let tries = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
        let mut client = MockMessagingClient::new();
        let seen = Arc::clone(&tries);
        client.expect_publish_on_queue().returning(move |_, message| {
            let mut tries = seen.lock().unwrap();
            let n = tries.entry(message.id.clone().unwrap()).or_default();
            *n += 1;
            answer(&message, *n)
        });
        tokio::select! {
            () = relay(outbox, &client) => unreachable!("the relay goes on for ever"),
            () = outbox.drained() => {}
        }
        let tries = tries.lock().unwrap();
        tries.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_confirmed_message_is_removed_and_was_sent_once() {
        let outbox = open(&store(), 5000).unwrap();
        for n in 0..2500 {
            outbox.append("q", &message(n)).await.unwrap();
        }
        let tries = relayed(&outbox, |_, _| Ok(())).await;
        assert_eq!(tries.len(), 2500);
        assert!(tries.values().all(|n| *n == 1));
        assert_eq!(outbox.entries().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_failed_is_sent_again_and_with_the_same_id() {
        let outbox = open(&store(), 100).unwrap();
        for n in 0..30 {
            outbox.append("q", &message(n)).await.unwrap();
        }
        let fails = |message: &Message| message.body.ends_with(b"7");
        let tries = relayed(&outbox, move |message, n| match n {
            1 if fails(message) => Err(PublishError::Nacked),
            2 if fails(message) => Err(PublishError::Unconfirmed("cut".into())),
            3 if fails(message) => Err(PublishError::Unroutable("312".into())),
            _ => Ok(()),
        });
        let tries = tokio::time::timeout(Duration::from_secs(60), tries).await.unwrap();
        assert_eq!(tries.len(), 30);
        assert_eq!(tries.values().filter(|n| **n == 4).count(), 3);
        assert_eq!(tries.values().filter(|n| **n == 1).count(), 27);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_has_room_for_one_now_and_then_is_not_stormed() {
        let outbox = open(&store(), 1000).unwrap();
        for n in 0..1000 {
            outbox.append("q", &message(n)).await.unwrap();
        }
        let (asked, taken) = (Arc::new(AtomicU32::new(0)), Mutex::new(Instant::now()));
        let count = Arc::clone(&asked);
        let slow = relayed(&outbox, move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            let mut taken = taken.lock().unwrap();
            if taken.elapsed() < Duration::from_millis(200) {
                return Err(PublishError::Nacked);
            }
            *taken = Instant::now();
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_secs(60), slow).await.is_err(), "it takes three minutes");
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked < 100_000, "{asked} times in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_be_published_is_parked_and_blocks_no_other() {
        let store = store();
        store.open_tree("outbox").unwrap().insert(0_u64.to_be_bytes(), "damaged").unwrap();
        let outbox = open(&store, 100).unwrap();
        assert_eq!((outbox.len(), outbox.parked_len()), (0, 1));
        for n in 0..3 {
            outbox.append("q", &message(n)).await.unwrap();
        }
        let tries = relayed(&outbox, |message, _| match &*message.body {
            b"1" => Err(PublishError::Invalid("too large".into())),
            _ => Ok(()),
        });
        assert_eq!(tries.await.len(), 3);
        assert_eq!((outbox.len(), outbox.parked_len()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_appended_while_the_relay_runs_is_sent_too() {
        let outbox = open(&store(), 100).unwrap();
        let mut client = MockMessagingClient::new();
        client.expect_publish_on_queue().times(3).returning(|_, _| Ok(()));
        let append = async {
            for n in 0..3 {
                outbox.append("q", &message(n)).await.unwrap();
                outbox.drained().await;
            }
        };
        tokio::select! {
            () = relay(&outbox, &client) => unreachable!("the relay goes on for ever"),
            () = append => {}
        }
    }
}
