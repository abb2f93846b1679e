//! The server over real sockets: who is closed, when, and who is not.

use std::{
    future::ready,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{body::Bytes, routing::get};
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";
const HELD: &[u8] = b"GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n";
const EVENTS: &[u8] = b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A server whose `/held` is answered when the test lets it; then `/events` has its last event.
struct TestServer {
    address: SocketAddr,
    go: Arc<Semaphore>,
    _serving: JoinSet<()>,
}

async fn server(
    connections: usize,
    client_timeout: impl Fn() -> Duration + Send + Sync + 'static,
) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Semaphore::new(0));
    let (held, last) = (Arc::clone(&go), Arc::clone(&go));
    let held = async move || {
        held.acquire().await.unwrap().forget();
        "held"
    };
    let events = async move || {
        let last = stream::once(async move {
            last.acquire().await.unwrap().forget();
            "last."
        });
        Body::from_stream(stream::once(ready("first.")).chain(last).map(Ok::<_, Infallible>))
    };
    let endless = || stream::repeat(Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 100_000])));
    let router = Router::new()
        .route("/hello", get(async || "hello"))
        .route("/large", get(async || "x".repeat(1_000_000)))
        .route("/endless", get(async move || Body::from_stream(endless())))
        .route("/held", get(held))
        .route("/events", get(events));
    let bounds = Bounds { connections, client_timeout, finish: || Duration::ZERO };
    let mut serving = JoinSet::new();
    serving.spawn(serve_router(listener, router, bounds, CancellationToken::new()));
    TestServer { address, go, _serving: serving }
}

impl TestServer {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection over which `request` was sent.
    async fn send(&self, request: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        stream
    }
}

/// Reads until the answer ends with `end`.
async fn answer(stream: &mut TcpStream, end: &str) {
    let mut text = String::new();
    let read = async {
        while !text.ends_with(end) {
            let byte = stream.read_u8().await.unwrap_or_else(|e| panic!("{e} after {text:?}"));
            text.push(byte.into());
        }
    };
    timeout(PATIENCE, read).await.expect("an answer in time");
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}

/// Waits until the server closes the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = [0; 4096];
    let read = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, read).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_client_that_keeps_the_server_waiting_is_closed_and_a_request_in_hand_is_not() {
    let server = server(100, || Duration::from_secs(1)).await;
    let mut in_hand = server.send(HELD).await;
    let mut silent = server.connect().await;
    let mut half_a_head = server.send(b"GET /hello HTTP/1.1\r\nho").await;
    let mut once_answered = server.send(HELLO).await;
    answer(&mut once_answered, "hello").await;

    for stream in [&mut silent, &mut half_a_head, &mut once_answered] {
        closed(stream).await;
    }
    server.go.add_permits(1);
    answer(&mut in_hand, "held").await;
    in_hand.write_all(HELLO).await.unwrap();
    answer(&mut in_hand, "hello").await;
}

#[tokio::test]
async fn a_new_client_timeout_counts_for_connections_that_are_open() {
    let millis = Arc::new(AtomicU64::new(3_600_000));
    let now = Arc::clone(&millis);
    let server = server(100, move || Duration::from_millis(now.load(Ordering::Relaxed))).await;
    let mut silent = server.connect().await;
    let mut answered = server.send(HELLO).await;
    answer(&mut answered, "hello").await;
    millis.store(50, Ordering::Relaxed);
    closed(&mut silent).await;
    closed(&mut answered).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_closed() {
    let server = server(100, || Duration::from_millis(300)).await;
    for path in ["large", "endless"] {
        let request = format!("GET /{path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut taking_nothing = server.send(request.repeat(100).as_bytes()).await;
        // That the server has closed is seen by sending: what it had written is not taken until then.
        let sent = async { while taking_nothing.write_all(HELLO).await.is_ok() {} };
        timeout(PATIENCE, sent).await.unwrap_or_else(|_| panic!("the server does not close {path}"));
    }
}

#[tokio::test]
async fn an_answer_that_lasts_is_in_hand_until_it_ends_and_makes_room_for_nobody() {
    let server = server(2, || Duration::from_millis(300)).await;
    let mut watching = server.send(EVENTS).await;
    answer(&mut watching, "first.\r\n").await;
    for _ in 0..3 {
        let mut idle = server.connect().await;
        let mut newer = server.send(HELLO).await;
        answer(&mut newer, "hello").await;
        closed(&mut idle).await;
        closed(&mut newer).await;
    }
    server.go.add_permits(1);
    let mut rest = vec![];
    timeout(PATIENCE, watching.read_to_end(&mut rest)).await.expect("it waits for its client again").unwrap();
    assert_eq!(rest, b"5\r\nlast.\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_answer_that_lasts_ends_with_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let endless = async || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let bounds = Bounds { connections: 1, client_timeout: || PATIENCE, finish: || Duration::from_millis(10) };
    let router = Router::new().route("/events", get(endless));
    let mut serving = JoinSet::new();
    serving.spawn(serve_router(listener, router, bounds, stop.clone()));
    let mut watching = TcpStream::connect(address).await.unwrap();
    watching.write_all(EVENTS).await.unwrap();
    watching.read_u8().await.unwrap();
    stop.cancel();
    timeout(PATIENCE, serving.join_next()).await.expect("it ends").unwrap().unwrap();
    closed(&mut watching).await;
}
