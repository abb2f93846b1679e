//! The accountservice behind its router: real stores, doubles for what is hard to cause.
//!
//! - this file: reads
//! - `writes`: what changes an account, with a stream in memory

mod writes;

use std::time::Duration;

use super::*;
use crate::{
    changes::replica::Replica,
    routes::router,
    settings::Settings,
    store::{MockAccountStore, SledAccountStore, open::open_store},
};
use axum::{
    body::Body,
    http::{HeaderMap, Method, Request},
};
use http_body_util::BodyExt as _;
use messaging::{Message, MockMessagingClient, PublishError};
use outbox::{Outbox, SyncTo, relay};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use service::http::{Guarded, Health};
use tempfile::TempDir;

/// The service behind its router, with a real store and a real outbox.
struct TestApp {
    router: Guarded,
    outbox: Arc<Outbox>,
    writer: Writer,
    _folder: TempDir,
}

impl TestApp {
    fn new() -> Self {
        Self::with_room_for(100)
    }

    fn with_room_for(outbox_max: usize) -> Self {
        let (folder, accounts) = store();
        Self::on(
            "account.1",
            folder,
            Arc::clone(&accounts) as _,
            accounts,
            MockMessagingClient::new(),
            outbox_max,
        )
    }

    fn on(
        name: &str,
        folder: TempDir,
        accounts: Arc<dyn AccountStore>,
        store: Arc<SledAccountStore>,
        client: MockMessagingClient,
        outbox_max: usize,
    ) -> Self {
        let settings = outbox::Settings { outbox_max, outbox_sync: SyncTo::Os };
        let outbox =
            Outbox::open(&folder.path().join("outbox"), &settings, &mut Registry::default()).unwrap();
        let outbox = Arc::new(outbox);
        let replica = Replica::new(store, Arc::clone(&outbox), name, &mut Registry::default()).unwrap();
        let writer = Writer::new(Arc::new(client), Arc::new(replica), || true, Duration::from_secs(2).into());
        let state = AppState {
            accounts,
            notifier: Notifier::new(Arc::clone(&outbox)),
            writer: writer.clone(),
            accounts_max: 103,
            served_by: name.into(),
        };
        let health = Arc::new(Health::default());
        let router = service::http::router(
            router(state),
            &service::http::Settings::default().into(),
            &health,
            Registry::default(),
        );
        Self { router, outbox, writer, _folder: folder }
    }

    async fn ask(&self, method: Method, path: &str) -> (u16, Value) {
        let answer = self.send(method, path, &[], Body::empty()).await;
        (answer.status, answer.body)
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        request = request.header("x-request-id", "7f3a");
        request = request.header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.answer(request.body(body).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path).await
    }

    fn notifications(&self) -> Vec<Message> {
        let entries = self.outbox.entries().map(Result::unwrap);
        entries.filter(|entry| entry.routing_key == "vip_queue").map(|entry| entry.message).collect()
    }
}

/// An answer of the service.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A store with the accounts of the settings.
fn store() -> (TempDir, Arc<SledAccountStore>) {
    let folder = TempDir::new().unwrap();
    let store = open_store(folder.path()).unwrap();
    let accounts = &Settings::default().accounts.accounts;
    let accounts = SledAccountStore::seeded(&store, folder.path(), accounts).unwrap();
    (folder, Arc::new(accounts))
}

#[tokio::test]
async fn an_account_is_answered_with_who_served_it() {
    let (status, body) = TestApp::new().get("/accounts/10000").await;
    assert_eq!(status, 200);
    assert_eq!(body, json!({"id": "10000", "name": "Person_0", "vip": true, "servedBy": "account.1"}));
}

#[tokio::test]
async fn a_vips_read_leaves_one_notification_of_this_request() {
    let app = TestApp::new();
    app.get("/accounts/10000").await;
    let [notification] = &app.notifications()[..] else { panic!("{:?}", app.notifications()) };
    let body: Value = serde_json::from_slice(&notification.body).unwrap();
    assert_eq!(body["accountId"], "10000");
    assert_eq!(body.as_object().unwrap().len(), 2);
    assert_eq!(notification.correlation_id.as_deref(), Some("7f3a"));
    assert_eq!(notification.kind.as_deref(), Some("vip.notification.v1"));
    assert!(notification.headers["traceparent"].contains("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[tokio::test]
async fn what_is_no_read_of_a_vips_account_notifies_nobody() {
    let app = TestApp::new();
    for (method, path, status) in [
        (Method::GET, "/accounts/10001", 200),
        (Method::HEAD, "/accounts/10000", 200),
        (Method::GET, "/accounts", 200),
        (Method::GET, "/accounts/99999", 404),
        (Method::GET, "/accounts/1000x", 400),
        (Method::GET, "/accounts/10000%2F", 400),
        (Method::POST, "/accounts/10000", 405),
        (Method::GET, "/accounts/10000/offers", 404),
        (Method::GET, "/accounts/", 404),
    ] {
        assert_eq!(app.ask(method.clone(), path).await.0, status, "{method} {path}");
    }
    assert_eq!(app.notifications(), []);
}

#[tokio::test]
async fn with_the_outbox_full_vip_reads_are_answered_503_and_plain_reads_go_on() {
    let app = TestApp::with_room_for(1);
    assert_eq!(app.get("/accounts/10000").await.0, 200);
    let (status, problem) = app.get("/accounts/10000").await;
    assert_eq!((status, &problem["request_id"]), (503, &"7f3a".into()));
    assert_eq!(app.get("/accounts/10001").await.0, 200);
    assert_eq!(app.ask(Method::HEAD, "/accounts/10000").await.0, 200);
    assert_eq!(app.notifications().len(), 1);
}

#[tokio::test]
async fn with_the_store_down_a_read_is_answered_503_and_not_404() {
    let mut down = MockAccountStore::new();
    let error = || StoreError::Sled(sled::Error::Unsupported("down".into()));
    down.expect_find().returning(move |_| Err(error()));
    down.expect_list().returning(move |_, _, _| Err(error()));
    let (folder, store) = store();
    let app = TestApp::on("account.1", folder, Arc::new(down), store, MockMessagingClient::new(), 100);
    for path in ["/accounts/10000", "/accounts"] {
        let (status, problem) = app.get(path).await;
        assert_eq!(status, 503, "{path}");
        assert!(!problem.to_string().contains("Unsupported"), "{problem}");
    }
    assert_eq!(app.notifications(), []);
}

#[tokio::test]
async fn with_publishing_refused_the_read_is_answered_and_its_notification_stays() {
    let app = TestApp::new();
    let mut client = MockMessagingClient::new();
    client.expect_publish_on_queue().times(1..).returning(|_, _| Err(PublishError::Nacked));
    let reads = async {
        assert_eq!(app.get("/accounts/10000").await.0, 200);
        assert_eq!(app.get("/accounts/10000").await.0, 200);
        // The relay has had its turns.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = relay(&app.outbox, &client) => unreachable!("the relay goes on for ever"),
        () = reads => {}
    }
    assert_eq!(app.notifications().len(), 2);
}

#[tokio::test]
async fn a_plain_account_publishes_nothing() {
    let app = TestApp::new();
    let mut client = MockMessagingClient::new();
    client.expect_publish_on_queue().never();
    let reads = async {
        assert_eq!(app.get("/accounts/10001").await.0, 200);
        assert_eq!(app.ask(Method::HEAD, "/accounts/10000").await.0, 200);
    };
    tokio::select! {
        () = relay(&app.outbox, &client) => unreachable!("the relay goes on for ever"),
        () = reads => {}
    }
}

#[tokio::test]
async fn the_list_goes_from_page_to_page_and_ends() {
    let app = TestApp::new();
    let (mut after, mut ids) = (String::new(), vec![]);
    loop {
        let (status, page) = app.get(&format!("/accounts?limit=30{after}")).await;
        assert_eq!(status, 200);
        ids.extend(
            page["accounts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|account| account["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(ids.len(), 100);
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn a_list_that_asks_for_nonsense_is_told_so() {
    let app = TestApp::new();
    for (query, says) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("after=x", "after: an account id"),
    ] {
        let (status, problem) = app.get(&format!("/accounts?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{query}: {problem}");
    }
}
