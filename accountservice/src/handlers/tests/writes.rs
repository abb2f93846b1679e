//! Writes, with a stream in memory in the place of the broker: two replicas read the same entries in the same order.

use std::{
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use messaging::{BrokerStatus, LinkStatus};
use streams::Replay;
use tokio::sync::watch;

use super::*;
use crate::changes::upkeep::{self, Bounds};

/// A stream in memory.
#[derive(Clone, Default)]
struct TestStream {
    entries: Arc<Mutex<Vec<Message>>>,
    count: watch::Sender<usize>,
    is_down: Arc<AtomicBool>,
}

impl TestStream {
    fn client(&self) -> MockMessagingClient {
        let mut client = MockMessagingClient::new();
        let stream = self.clone();
        client.expect_append().returning(move |_, message| {
            if stream.is_down.load(Ordering::SeqCst) {
                return Err(PublishError::Unconfirmed("the broker is away".into()));
            }
            let mut entries = stream.entries.lock().unwrap();
            entries.push(message);
            stream.count.send_replace(entries.len());
            Ok(())
        });
        let stream = self.clone();
        client.expect_status().returning(move || {
            let status = || match stream.is_down.load(Ordering::SeqCst) {
                true => LinkStatus::Connecting(None),
                false => LinkStatus::Up,
            };
            BrokerStatus { publishing: status(), consuming: status() }
        });
        client
    }

    fn len(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    /// Applies the stream to a replica, and what comes later.
    async fn feed(&self, replica: &Replica) {
        let mut count = self.count.subscribe();
        let mut read = 0;
        replica.apply(vec![Replay::Restarted { end: None }, Replay::CaughtUp]).await;
        loop {
            let _ = count.wait_for(|count| *count > read).await;
            let steps: Vec<_> = {
                let entries = self.entries.lock().unwrap();
                entries[read..]
                    .iter()
                    .zip(read as u64..)
                    .map(|(entry, offset)| Replay::Entry(offset, entry.clone()))
                    .collect()
            };
            read += steps.len();
            replica.apply(steps).await;
        }
    }
}

impl TestApp {
    fn on_stream(stream: &TestStream, name: &str) -> Self {
        let (folder, store) = store();
        Self::on(name, folder, Arc::clone(&store) as _, store, stream.client(), 1000)
    }

    /// Runs the stream's reader and the upkeep beside a test, which begins when the first accounts are in the stream.
    async fn beside<T>(&self, stream: &TestStream, test: impl Future<Output = T>) -> T {
        let test = async {
            let mut progress = self.writer.replica().progress();
            progress.wait_for(|progress| progress.position.is_read).await.unwrap();
            test.await
        };
        let bounds = Bounds::new(256 * 1024 * 1024);
        tokio::select! {
            () = stream.feed(self.writer.replica()) => unreachable!("it goes on for ever"),
            () = upkeep::run(&self.writer, bounds) => unreachable!("it goes on for ever"),
            result = test => result,
        }
    }

    async fn json(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = [&[("content-type", "application/json")][..], headers].concat();
        self.send(method, path, &headers, Body::from(body.to_owned())).await
    }

    async fn post(&self, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.json(Method::POST, "/accounts", headers, body).await
    }

    async fn read(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, Body::empty()).await
    }
}

/// Method, path, headers and body of a request, with the status of its answer and a part of what that says.
type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);

const ADA: &str = r#"{"id":"7","name":"Ada","vip":true}"#;

#[tokio::test]
async fn an_account_is_created_changed_and_deleted() {
    let stream = TestStream::default();
    let app = TestApp::on_stream(&stream, "account.1");
    let test = async {
        let made = app.post(ADA, &[]).await;
        assert_eq!(
            (made.status, made.header("location"), made.header("etag")),
            (201, "/accounts/7", "\"1\"")
        );
        assert_eq!(made.body, json!({"id": "7", "name": "Ada", "vip": true, "servedBy": "account.1"}));
        assert_eq!(app.read("/accounts/7", &[]).await.header("etag"), "\"1\"");

        let changed =
            app.json(Method::PUT, "/accounts/7", &[("if-match", "\"1\"")], r#"{"name":"Ada L"}"#).await;
        assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""));
        let read = app.read("/accounts/7", &[]).await;
        assert_eq!((&read.body["name"], &read.body["vip"]), (&json!("Ada L"), &json!(false)));

        let deleted = app.json(Method::DELETE, "/accounts/7", &[("if-match", "\"2\"")], "").await;
        assert_eq!((deleted.status, &deleted.body), (204, &Value::Null));
        assert_eq!(app.read("/accounts/7", &[]).await.status, 404);

        // Its version goes on: who has seen an older one changes nothing of the new one.
        assert_eq!(app.post(ADA, &[]).await.header("etag"), "\"4\"");
        let late = app.json(Method::PUT, "/accounts/7", &[("if-match", "\"1\"")], r#"{"name":"late"}"#).await;
        assert_eq!(late.status, 412);
    };
    app.beside(&stream, test).await;
}

#[tokio::test]
async fn of_two_changes_with_the_same_base_on_two_replicas_one_counts() {
    let stream = TestStream::default();
    let (one, two) = (TestApp::on_stream(&stream, "account.1"), TestApp::on_stream(&stream, "account.2"));
    let test = async {
        for round in 1..20 {
            let tag = format!("\"{round}\"");
            let if_match = [("if-match", tag.as_str())];
            let put = async |app: &TestApp, name: &str| {
                let body = format!(r#"{{"name":"{name}"}}"#);
                app.json(Method::PUT, "/accounts/10001", &if_match, &body).await.status
            };
            let mut both = [put(&one, "one").await, 0];
            both[1] = put(&two, "two").await;
            if round % 2 == 0 {
                let (a, b) = tokio::join!(put(&one, "one"), put(&two, "two"));
                assert_eq!((a, b), (412, 412), "an older version");
            }
            both.sort_unstable();
            assert_eq!(both, [200, 412], "round {round}");
        }
    };
    one.beside(&stream, two.beside(&stream, test)).await;
    let state = |app: &TestApp| app.writer.replica().store().list(None, false, 1000).unwrap();
    assert_eq!(state(&one), state(&two));
}

#[tokio::test]
async fn what_cannot_be_done_is_a_problem_that_says_what_to_do_and_changes_nothing() {
    let stream = TestStream::default();
    let app = TestApp::on_stream(&stream, "account.1");
    let test = async {
        let before = stream.len();
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(101));
        let long_key = "k".repeat(129);
        let cases: &[Case] = &[
            (Method::POST, "/accounts", &[], r#"{"id":"10000","name":"Ada"}"#, 409, "change it with PUT"),
            (
                Method::POST,
                "/accounts",
                &[],
                r#"{"nam":"Ada"}"#,
                422,
                "`nam`: an account has id, name and vip",
            ),
            (Method::POST, "/accounts", &[], r#"{"name":7}"#, 422, "name:"),
            (Method::POST, "/accounts", &[], &long, 422, "name: send 1 to 100"),
            (Method::POST, "/accounts", &[], "{", 400, "not JSON"),
            (Method::POST, "/accounts", &[("idempotency-key", &long_key)], ADA, 400, "idempotency-key"),
            (Method::PUT, "/accounts/10000", &[], ADA, 422, "id: it is not the 10000 of the address"),
            (Method::PUT, "/accounts/10000", &[], r#"{"name":"Ada"}"#, 428, "as If-Match"),
            (
                Method::PUT,
                "/accounts/10000",
                &[("if-match", "7")],
                r#"{"name":"Ada"}"#,
                400,
                "with its quotes",
            ),
            (
                Method::PUT,
                "/accounts/10000",
                &[("if-match", "\"0\"")],
                r#"{"name":"Ada"}"#,
                412,
                "read it again",
            ),
            (
                Method::PUT,
                "/accounts/10000",
                &[("if-match", "W/\"1\"")],
                r#"{"name":"Ada"}"#,
                412,
                "read it again",
            ),
            (
                Method::PUT,
                "/accounts/10000",
                &[("if-none-match", "*")],
                r#"{"name":"Ada"}"#,
                412,
                "there is an account",
            ),
            (
                Method::PUT,
                "/accounts/8",
                &[("if-match", "\"1\"")],
                r#"{"name":"Ada"}"#,
                412,
                "there is no account 8",
            ),
            (
                Method::PUT,
                "/accounts/x",
                &[("if-match", "\"1\"")],
                r#"{"name":"Ada"}"#,
                400,
                "1 to 20 digits",
            ),
            (Method::DELETE, "/accounts/10000", &[], "", 428, "as If-Match"),
            (Method::DELETE, "/accounts/8", &[("if-match", "\"1\"")], "", 404, "there is no account 8"),
            (Method::DELETE, "/accounts/8", &[], "", 404, "there is no account 8"),
            // A version that nobody has made never reaches the stream.
            (Method::DELETE, "/accounts/10000", &[("if-match", "\"99\"")], "", 412, "read it again"),
            (Method::PATCH, "/accounts/10000", &[], "", 405, "allowed: "),
        ];
        for (method, path, headers, body, status, says) in cases {
            let answer = app.json(method.clone(), path, headers, body).await;
            assert_eq!(answer.status, *status, "{method} {path} {headers:?} {body}: {}", answer.body);
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains(says), "{method} {path} {headers:?} {body}: {detail}");
        }
        let none = [("if-none-match", "\"0\"")];
        let replaced = app.json(Method::PUT, "/accounts/10000", &none, r#"{"name":"Ada"}"#).await;
        assert_eq!(replaced.status, 428, "what it does not name would be overwritten: {}", replaced.body);
        let missing = app.json(Method::PUT, "/accounts/8", &[], r#"{"name":"Ada"}"#).await;
        assert!(
            missing.body["detail"].as_str().unwrap().contains("send If-None-Match: *"),
            "{}",
            missing.body
        );
        assert_eq!(app.read("/accounts/10000", &[("if-match", "\"9\"")]).await.status, 412);
        let plain = app.send(Method::POST, "/accounts", &[("content-type", "text/plain")], ADA.into()).await;
        assert_eq!(plain.status, 415, "{}", plain.body);
        assert_eq!(stream.len(), before);
    };
    app.beside(&stream, test).await;
}

#[tokio::test]
async fn the_same_key_gets_the_first_outcome_from_any_replica() {
    let stream = TestStream::default();
    let (one, two) = (TestApp::on_stream(&stream, "account.1"), TestApp::on_stream(&stream, "account.2"));
    let test = async {
        let key = [("idempotency-key", "order-7")];
        let made = one.post(r#"{"name":"Ada"}"#, &key).await;
        assert_eq!(made.status, 201);
        let entries = stream.len();
        for app in [&one, &two] {
            let again = app.post(r#"{"name":"Ada"}"#, &key).await;
            assert_eq!(again.status, 201);
            for header in ["location", "etag"] {
                assert_eq!(again.header(header), made.header(header));
            }
            let other = app.post(r#"{"name":"Bob"}"#, &key).await;
            assert_eq!(other.status, 422, "{}", other.body);
        }
        // `two` may have appended a second entry before it had read the first one; it changed nothing.
        assert!(stream.len() <= entries + 1);

        let rejected = [("idempotency-key", "late"), ("if-match", "\"1\"")];
        let path = made.header("location");
        let put = async |app: &TestApp, name: &str, headers: &[(&str, &str)]| {
            app.json(Method::PUT, path, headers, &format!(r#"{{"name":"{name}"}}"#)).await.status
        };
        assert_eq!(put(&one, "Ada L", &[("if-match", "\"1\"")]).await, 200);
        assert_eq!(put(&one, "late", &rejected).await, 412);
        assert_eq!(put(&two, "late", &rejected).await, 412);
    };
    one.beside(&stream, two.beside(&stream, test)).await;
}

#[tokio::test]
async fn a_write_with_a_key_that_comes_too_late_has_an_outcome_which_stays() {
    let stream = TestStream::default();
    let app = TestApp::on_stream(&stream, "account.1");
    let test = async {
        let put = async |key: &str, tag: &str| {
            let headers = [("idempotency-key", key), ("if-match", tag)];
            app.json(Method::PUT, "/accounts/10001", &headers, r#"{"name":"Ada"}"#).await.status
        };
        assert_eq!(put("k-1", "\"1\"").await, 200);
        // Its base is an old one: the stream says so, and not this replica, which might be behind.
        let before = stream.len();
        assert_eq!(put("k-2", "\"1\"").await, 412);
        assert_eq!(put("k-2", "\"1\"").await, 412);
        assert_eq!(stream.len(), before + 1);
        assert_eq!(put("k-2", "\"2\"").await, 422, "another request");
        assert_eq!(app.post(ADA, &[("idempotency-key", "k-3")]).await.status, 201);
        assert_eq!(app.post(ADA, &[("idempotency-key", "k-4")]).await.status, 409);
        assert_eq!(app.read("/accounts/7", &[]).await.header("etag"), "\"1\"");
    };
    app.beside(&stream, test).await;
}

#[tokio::test]
async fn outcomes_of_a_stream_that_is_gone_mean_nothing_in_another_one() {
    let (first, second) = (TestStream::default(), TestStream::default());
    let app = TestApp::on_stream(&first, "account.1");
    let key = [("idempotency-key", "k-1")];
    app.beside(&first, async { assert_eq!(app.post(ADA, &key).await.status, 201) }).await;
    assert!(app.writer.replica().outcome("k-1").unwrap().is_some());

    // Somebody else has written to the new one first.
    let other = TestApp::on_stream(&second, "account.2");
    other.beside(&second, async { assert_eq!(other.post(r#"{"name":"Bob"}"#, &[]).await.status, 201) }).await;
    let mut progress = app.writer.replica().progress();
    let old = progress.borrow().position.stream.clone();
    let followed = async {
        let has_all = |progress: &crate::changes::replica::Progress| {
            let position = &progress.position;
            let is_new = position.stream.is_some() && position.stream != old;
            is_new && position.last.as_ref().is_some_and(|(offset, _)| *offset + 1 == second.len() as u64)
        };
        progress.wait_for(has_all).await.unwrap();
    };
    tokio::select! {
        () = second.feed(app.writer.replica()) => unreachable!("it goes on for ever"),
        () = followed => {}
    }
    assert_eq!(app.writer.replica().outcome("k-1").unwrap(), None);
    // No account is gone.
    assert_eq!(app.read("/accounts/7", &[]).await.header("etag"), "\"1\"");
}

#[tokio::test]
async fn without_a_broker_reads_go_on_and_a_write_has_no_known_outcome() {
    let stream = TestStream::default();
    let app = TestApp::on_stream(&stream, "account.1");
    let test = async {
        stream.is_down.store(true, Ordering::SeqCst);
        let lost = app.post(ADA, &[("idempotency-key", "k-1")]).await;
        let detail = lost.body["detail"].as_str().unwrap();
        assert_eq!((lost.status, lost.header("retry-after")), (503, "1"));
        assert_eq!(
            detail,
            "no broker: the outcome is unknown, ask again with the same Idempotency-Key (k-1)"
        );
        assert_eq!(app.read("/accounts/10001", &[]).await.status, 200);
        stream.is_down.store(false, Ordering::SeqCst);
        assert_eq!(app.post(ADA, &[("idempotency-key", "k-1")]).await.status, 201);
        assert_eq!(app.read("/accounts/7", &[]).await.header("etag"), "\"1\"");
    };
    app.beside(&stream, test).await;
}

#[tokio::test]
async fn a_read_with_the_position_of_a_write_sees_it_on_every_replica() {
    let stream = TestStream::default();
    let (one, two) = (TestApp::on_stream(&stream, "account.1"), TestApp::on_stream(&stream, "account.2"));
    let test = async {
        let made = one.post(ADA, &[]).await;
        let position = made.header("hops-position");
        let seen = two.read("/accounts/7", &[("hops-position", position)]).await;
        assert_eq!((seen.status, seen.header("etag")), (200, "\"1\""));
        let seen = two.read("/accounts?vip=true", &[("hops-position", position)]).await;
        assert_eq!(seen.body["accounts"].as_array().unwrap().len(), 2);

        let (name, offset) = position.split_once(':').unwrap();
        let later = format!("{name}:{}", offset.parse::<u64>().unwrap() + 1);
        assert_eq!(two.read("/accounts/7", &[("hops-position", &later)]).await.status, 503);
        assert_eq!(two.read("/accounts/7", &[("hops-position", "another:0")]).await.status, 412);
        assert_eq!(two.read("/accounts/7", &[("hops-position", "7")]).await.status, 400);
    };
    one.beside(&stream, two.beside(&stream, test)).await;
}

#[tokio::test]
async fn what_is_not_modified_is_no_read_and_notifies_nobody() {
    let stream = TestStream::default();
    let app = TestApp::on_stream(&stream, "account.1");
    let test = async {
        let tag = app.read("/accounts/10000", &[]).await.header("etag").to_owned();
        assert_eq!(app.notifications().len(), 1);
        for sent in [tag.as_str(), "*", &format!("W/{tag}"), "\"9\", \"1\""] {
            let answer = app.read("/accounts/10000", &[("if-none-match", sent)]).await;
            assert_eq!((answer.status, answer.header("etag")), (304, tag.as_str()), "{sent}");
        }
        assert_eq!(app.read("/accounts/10000", &[("if-none-match", "x")]).await.status, 400);
        assert_eq!(app.notifications().len(), 1);

        let list = app.read("/accounts", &[]).await.header("etag").to_owned();
        assert_eq!(app.read("/accounts", &[("if-none-match", &list)]).await.status, 304);
        app.post(ADA, &[]).await;
        assert_eq!(app.read("/accounts", &[("if-none-match", &list)]).await.status, 200);
    };
    app.beside(&stream, test).await;
}

#[tokio::test]
async fn there_are_no_more_accounts_than_allowed() {
    let stream = TestStream::default();
    let app = TestApp::on_stream(&stream, "account.1");
    let test = async {
        for id in 1..=3 {
            assert_eq!(app.post(&format!(r#"{{"id":"{id}","name":"x"}}"#), &[]).await.status, 201);
        }
        let full = app.post(r#"{"name":"x"}"#, &[]).await;
        assert_eq!(full.status, 507);
        assert!(full.body["detail"].as_str().unwrap().contains("accounts_max"), "{}", full.body);
        // A deleted account keeps its place, and may come back.
        assert_eq!(app.json(Method::DELETE, "/accounts/1", &[("if-match", "\"1\"")], "").await.status, 204);
        assert_eq!(app.post(r#"{"name":"x"}"#, &[]).await.status, 507);
        assert_eq!(app.post(r#"{"id":"1","name":"x"}"#, &[]).await.status, 201);
    };
    app.beside(&stream, test).await;
}

#[tokio::test]
async fn each_change_is_an_event_of_the_replica_that_took_it() {
    let stream = TestStream::default();
    let (one, two) = (TestApp::on_stream(&stream, "account.1"), TestApp::on_stream(&stream, "account.2"));
    let events = |app: &TestApp| {
        let entries = app.outbox.entries().map(Result::unwrap);
        entries.filter(|entry| entry.exchange == "accounts").collect::<Vec<_>>()
    };
    let test = async {
        one.post(ADA, &[("idempotency-key", "k-1")]).await;
        one.json(Method::PUT, "/accounts/7", &[("if-match", "\"1\"")], r#"{"name":"Ada L"}"#).await;
        one.json(Method::PUT, "/accounts/7", &[("if-match", "\"1\"")], r#"{"name":"late"}"#).await;
        one.json(Method::DELETE, "/accounts/7", &[("if-match", "\"2\"")], "").await;
    };
    one.beside(&stream, two.beside(&stream, test)).await;
    let seen = events(&one);
    let keys: Vec<_> = seen.iter().map(|event| event.routing_key.as_str()).collect();
    assert_eq!(keys, ["account.created", "account.changed", "account.deleted"]);
    assert_eq!(events(&two), []);
    let first = &seen[0];
    assert_eq!((first.mandatory, first.message.id.as_deref()), (false, Some("k-1")));
    assert_eq!(first.message.kind.as_deref(), Some("account.created.v1"));
    let body: Value = serde_json::from_slice(&first.message.body).unwrap();
    assert_eq!(body, json!({"accountId": "7", "version": 1, "name": "Ada", "vip": true}));
    let body: Value = serde_json::from_slice(&seen[2].message.body).unwrap();
    assert_eq!(body, json!({"accountId": "7", "version": 3}));
}

#[tokio::test]
async fn options_and_head_are_answered() {
    let app = TestApp::new();
    for (path, methods) in
        [("/accounts", "GET, HEAD, POST, OPTIONS"), ("/accounts/10000", "GET, HEAD, PUT, DELETE, OPTIONS")]
    {
        let answer = app.send(Method::OPTIONS, path, &[], Body::empty()).await;
        assert_eq!((answer.status, answer.header("allow")), (204, methods));
        let head = app.send(Method::HEAD, path, &[], Body::empty()).await;
        assert_eq!((head.status, head.body), (200, Value::Null));
    }
}

#[tokio::test]
async fn before_the_stream_is_read_reads_come_from_the_first_accounts_and_writes_wait() {
    let app = TestApp::new();
    assert_eq!(app.read("/accounts/10000", &[]).await.header("etag"), "\"1\"");
    let write = app.post(ADA, &[]).await;
    assert_eq!(write.status, 503);
    assert!(write.body["detail"].as_str().unwrap().contains("still being read"), "{}", write.body);
    assert!(app.writer.replica().check(true).unwrap_err().contains("first accounts"));
}
