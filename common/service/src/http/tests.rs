//! What stands around a handler, behind a router with a route for each thing that can happen.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request as HttpRequest},
    routing::post,
};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;

/// A service with a route for each thing that can happen to a handler.
struct TestApp {
    router: Guarded,
    health: Arc<Health>,
}

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

fn app() -> TestApp {
    app_with(&Settings::default().into())
}

fn app_with(settings: &LiveSection<Settings>) -> TestApp {
    let routes = Router::new()
        .route("/hello", get(async || "hello"))
        .route("/panic", get(async || -> String { panic!("a bug") }))
        .route("/slow", get(async || tokio::time::sleep(Duration::from_secs(3600)).await))
        .route("/length", post(async |body: Bytes| body.len().to_string()))
        .route("/full", get(async || Problem::unavailable("the outbox is full")))
        .route(
            "/context",
            get(async |axum::Extension(context): axum::Extension<Arc<RequestContext>>| {
                context.trace.traceparent()
            }),
        );
    let health = Arc::new(Health::default().with("store", || Ok("readable".into())));
    TestApp { router: super::router(routes, settings, &health, Registry::default()), health }
}

impl TestApp {
    async fn get(&self, path: &str) -> Answer {
        self.send(HttpRequest::get(path).body(Body::empty()).unwrap()).await
    }

    async fn send(&self, mut request: HttpRequest<Body>) -> Answer {
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
        let response = self.router.answer(request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let request = HttpRequest::get("/hello").header("x-request-id", "7f3a").body(Body::empty()).unwrap();
    assert_eq!(app().send(request).await.header("x-request-id"), "7f3a");
    assert_eq!(app().get("/hello").await.header("x-request-id").len(), 36);
}

#[tokio::test]
async fn a_trace_that_arrives_is_continued() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = HttpRequest::get("/context").header("traceparent", parent).body(Body::empty()).unwrap();
    let answer = app().send(request).await;
    assert!(answer.body.as_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
}

#[tokio::test]
async fn every_error_is_a_problem_with_the_requests_id() {
    for (method, path, status) in [
        (Method::GET, "/nothing-here", 404),
        (Method::POST, "/hello", 405),
        (Method::GET, "/panic", 500),
        (Method::GET, "/full", 503),
        (Method::DELETE, "/livez", 405),
    ] {
        let request = HttpRequest::builder().method(method).uri(path).header("x-request-id", "7f3a");
        let answer = app().send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(
            (&answer.body["status"], &answer.body["request_id"]),
            (&status.into(), &"7f3a".into()),
            "{path}"
        );
        assert!(answer.body["title"].is_string() && answer.body["detail"].is_string(), "{path}");
        assert_eq!(answer.header("allow").contains("GET"), status == 405, "{path}");
        let says =
            answer.body["detail"].as_str().unwrap().contains(" is not allowed here (allowed: GET, HEAD");
        assert_eq!(says, status == 405, "{path}");
        assert_eq!(answer.header("retry-after"), if status == 503 { "1" } else { "" }, "{path}");
    }
}

#[tokio::test]
async fn a_panic_tells_the_client_nothing_of_its_cause() {
    let answer = app().get("/panic").await;
    assert!(!answer.body.to_string().contains("a bug"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_answered_503() {
    let answer = app().get("/slow").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body["detail"], "not done within 5s");
}

#[tokio::test(start_paused = true)]
async fn a_new_time_out_counts_from_the_next_request_on() {
    let seconds = Arc::new(AtomicU64::new(5));
    let now = Arc::clone(&seconds);
    let settings = Live::from(()).map(move |()| {
        let request_timeout = Duration::from_secs(now.load(Ordering::Relaxed)).into();
        Settings { request_timeout, ..Settings::default() }
    });
    let app = app_with(&LiveSection::new(settings));
    assert_eq!(app.get("/slow").await.body["detail"], "not done within 5s");
    seconds.store(7, Ordering::Relaxed);
    assert_eq!(app.get("/slow").await.body["detail"], "not done within 7s");
}

#[tokio::test]
async fn notes_are_for_who_asks_for_more_and_make_nobody_unready() {
    let health = Arc::new(Health::default().with_note("settings", String::from("refused: a typo").into()));
    let router = super::router(Router::new(), &Settings::default().into(), &health, Registry::default());
    let app = TestApp { router, health };
    let ready = app.get("/readyz?verbose").await;
    assert_eq!((ready.status, &ready.body["notes"]["settings"]), (200, &"refused: a typo".into()));
    assert!(app.get("/readyz").await.body.get("notes").is_none());
    assert!(app.get("/readyz?other").await.body.get("notes").is_none());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let request = HttpRequest::post("/hello").header("content-length", "16385").body(Body::empty()).unwrap();
    assert_eq!(app().send(request).await.status, 413);
}

#[tokio::test]
async fn a_body_may_be_as_large_as_is_set() {
    const SIZE: usize = 1024 * 1024;
    let app = app();
    let app = TestApp { router: app.router.with_body_limit(SIZE), ..app };
    let send = async |size: usize| {
        app.send(HttpRequest::post("/length").body(vec![b'a'; size].into()).unwrap()).await
    };
    assert_eq!(send(SIZE).await.body, SIZE);
    assert_eq!(send(SIZE + 1).await.status, 413);
}

#[tokio::test]
async fn one_request_too_many_is_answered_503_and_the_operators_are_answered_all_the_same() {
    let app = app_with(&Settings { request_concurrency: 1, ..Settings::default() }.into());
    let router = app.router.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let slow = HttpRequest::get("/slow").header("host", "localhost").body(Body::empty()).unwrap();
        router.answer(slow).await
    });
    tokio::task::yield_now().await;
    assert_eq!(app.get("/hello").await.status, 503);
    for path in ["/health", "/livez", "/readyz", "/metrics"] {
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
    tasks.shutdown().await;
    assert_eq!(app.get("/hello").await.status, 200);
}

#[tokio::test]
async fn a_page_of_elsewhere_and_a_request_without_its_host_are_refused_with_what_to_do() {
    let app = app();
    for path in ["/hello", "/health", "/livez", "/readyz", "/metrics", "/nothing"] {
        for (name, value, expected, says) in [
            ("host", "evil.example", 403, "add the name to the setting allowed_hosts"),
            ("host", "", 400, "send one Host header"),
            ("origin", "https://evil.example", 403, "a page of another site"),
            ("sec-fetch-site", "cross-site", 403, "a page of another site"),
        ] {
            let request = HttpRequest::get(path).header(name, value).body(Body::empty()).unwrap();
            let answer = app.send(request).await;
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(answer.status == expected && detail.contains(says), "{path} {name} {value:?}: {detail}");
        }
    }
    let of_a_page =
        HttpRequest::get("/hello").header("origin", "http://localhost").body(Body::empty()).unwrap();
    assert_eq!(app.send(of_a_page).await.status, 200);
}

#[tokio::test]
async fn while_draining_requests_are_answered_and_connections_end() {
    let app = app();
    assert_eq!(app.get("/readyz").await.status, 200);
    app.health.drain();
    let ready = app.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["draining"]), (503, &true.into()));
    assert_eq!(app.get("/livez").await.status, 200);
    let hello = app.get("/hello").await;
    assert_eq!((hello.status, hello.header("connection")), (200, "close"));
}

#[tokio::test]
async fn readiness_names_the_check_that_fails() {
    let health = Arc::new(Health::default().with("broker", || Err("connecting: refused".into())));
    let router = super::router(Router::new(), &Settings::default().into(), &health, Registry::default());
    let app = TestApp { router, health };
    let ready = app.get("/readyz").await;
    assert_eq!(
        (ready.status, &ready.body["checks"]["broker"]["detail"]),
        (503, &"connecting: refused".into())
    );
    let health = app.get("/health").await;
    assert_eq!((health.status, &health.body["status"]), (503, &"DOWN".into()));
    assert_eq!(app.get("/livez").await.status, 200);
}
