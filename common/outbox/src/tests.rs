//! The outbox in a temporary folder, and the relay with a broker that is a double.

use std::sync::{Arc, Mutex};

use contracts::RequestContext;

use super::*;

fn message(n: u32) -> Message {
    let context = RequestContext::from_parts_or_new(Some(&format!("request-{n}")), None, None);
    contracts::event("test.v1", "outbox", "subject", &context, &n).unwrap()
}

/// An outbox in a folder of its own.
struct Temporary {
    outbox: Outbox,
    _folder: tempfile::TempDir,
}

impl std::ops::Deref for Temporary {
    type Target = Outbox;

    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

fn open(folder: &Path, outbox_max: usize) -> Result<Outbox, String> {
    let settings = Settings { outbox_max, outbox_sync: SyncTo::Os };
    Outbox::open(folder, &settings, &mut Registry::default())
}

fn outbox(outbox_max: usize) -> Temporary {
    let folder = tempfile::TempDir::new().unwrap();
    Temporary { outbox: open(folder.path(), outbox_max).unwrap(), _folder: folder }
}

#[test]
fn an_entry_comes_out_as_it_went_in_whatever_its_body_holds() {
    let message = Message { body: b"a\nb\0\xff".to_vec().into(), ..message(1) };
    let entry = Entry {
        exchange: "events".into(),
        routing_key: "a.b".into(),
        mandatory: false,
        message,
        parked: Some("why".into()),
    };
    assert_eq!(Entry::decode(&encode(&entry, &entry.message.body).unwrap()).unwrap(), entry);
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_outbox_is_opened_again() {
    let folder = tempfile::TempDir::new().unwrap();
    let appended = message(1);
    {
        let outbox = open(folder.path(), 10).unwrap();
        outbox.append("vip_queue", &appended).await.unwrap();
        let why = open(folder.path(), 10).unwrap_err();
        assert!(why.contains("in use by another process") && why.contains("--data-dir"), "{why}");
    }
    let outbox = open(folder.path(), 10).unwrap();
    assert_eq!(outbox.len(), 1);
    let entries: Vec<_> = outbox.entries().map(Result::unwrap).collect();
    assert_eq!(entries, [Entry::for_queue("vip_queue", appended)]);
}

#[tokio::test]
async fn a_full_outbox_refuses_and_takes_messages_again_when_there_is_room() {
    let outbox = outbox(2);
    outbox.append("q", &message(1)).await.unwrap();
    assert!(outbox.check().is_ok());
    outbox.append("q", &message(2)).await.unwrap();
    assert!(matches!(outbox.append("q", &message(3)).await, Err(OutboxError::Full(2))));
    assert!(outbox.check().unwrap_err().contains("full"));
    outbox.remove(&[outbox.after(0, 1)[0].0]);
    outbox.append("q", &message(4)).await.unwrap();
    assert_eq!(outbox.len(), 2);
}

#[tokio::test]
async fn a_message_that_no_broker_would_take_is_refused() {
    let outbox = outbox(2);
    let large = Message { body: vec![0; BODY_LIMIT + 1].into(), ..message(1) };
    assert!(matches!(outbox.append("q", &large).await, Err(OutboxError::Invalid(_))));
    assert!(outbox.is_empty());
}

#[tokio::test]
async fn what_is_damaged_is_reported_and_all_else_is_there() {
    let folder = tempfile::TempDir::new().unwrap();
    let outbox = open(folder.path(), 10).unwrap();
    for n in 0..3 {
        outbox.append("q", &message(n)).await.unwrap();
    }
    drop(outbox);
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "log")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let outbox = open(folder.path(), 10).unwrap();
    let name = file.file_name().unwrap().to_string_lossy();
    let damage = outbox.damage()[0].to_string();
    assert!(damage.contains(&*name) && damage.contains("record 1 cannot be read"), "{damage}");
    let left: Vec<_> = outbox.entries().map(|entry| entry.unwrap().message).collect();
    assert_eq!(left, [message_of(&left[0], 1), message_of(&left[1], 2)]);
    assert_eq!(outbox.check().unwrap(), "2 waiting; damaged, see the log: 1");
}

/// Returns the nth message with the id and the time of `like`.
fn message_of(like: &Message, n: u32) -> Message {
    Message { id: like.id.clone(), timestamp: like.timestamp, headers: like.headers.clone(), ..message(n) }
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
        let outbox = outbox(5000);
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
        let outbox = outbox(100);
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
        let outbox = outbox(1000);
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
        let outbox = outbox(5000);
        outbox.journal.append(b"no message".to_vec()).await.unwrap();
        for n in 0..3 {
            outbox.append("q", &message(n)).await.unwrap();
        }
        let tries = relayed(&outbox, |message, _| match &*message.body {
            b"1" => Err(PublishError::Invalid("too large".into())),
            _ => Ok(()),
        });
        assert_eq!(tries.await.len(), 3);
        let parked: Vec<_> = outbox.parked().collect();
        assert_eq!((outbox.len(), parked.len()), (0, 2));
        assert!(parked[0].as_ref().unwrap_err().contains("no line end"), "{parked:?}");
        assert_eq!(parked[1].as_ref().unwrap().parked.as_deref(), Some("too large"));
    }

    #[tokio::test]
    async fn thousands_of_entries_that_are_no_messages_do_not_stop_the_relay() {
        let outbox = outbox(5000);
        for _ in 0..2500 {
            outbox.journal.append(b"no message".to_vec()).await.unwrap();
        }
        outbox.append("q", &message(1)).await.unwrap();
        let tries = tokio::time::timeout(Duration::from_secs(60), relayed(&outbox, |_, _| Ok(()))).await;
        assert_eq!((tries.unwrap().len(), outbox.parked().count()), (1, 2500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_goes_where_its_entry_says() {
        let outbox = outbox(100);
        let mut client = MockMessagingClient::new();
        client.expect_publish_on_queue().withf(|queue, _| queue == "q").times(1).returning(|_, _| Ok(()));
        let goes_to = |exchange: &str, key: &str| (exchange.to_owned(), key.to_owned());
        let (routed, copied) = (goes_to("events", "a.b"), goes_to("all", ""));
        let entry = |(exchange, routing_key): (String, String), mandatory| Entry {
            exchange,
            routing_key,
            mandatory,
            ..Entry::for_queue("", message(1))
        };
        for (to, mandatory) in [(routed.clone(), true), (copied.clone(), false)] {
            outbox.append_entry(&entry(to, mandatory)).await.unwrap();
        }
        outbox.append("q", &message(2)).await.unwrap();
        client
            .expect_publish()
            .withf(move |exchange, key, _| goes_to(exchange, key) == routed)
            .times(1)
            .returning(|_, _, _| Ok(()));
        client
            .expect_broadcast()
            .withf(move |exchange, key, _| goes_to(exchange, key) == copied)
            .times(1)
            .returning(|_, _, _| Ok(()));
        tokio::select! {
            () = relay(&outbox, &client) => unreachable!("the relay goes on for ever"),
            () = outbox.drained() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_appended_while_the_relay_runs_is_sent_too() {
        let outbox = outbox(100);
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
