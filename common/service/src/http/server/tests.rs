//! The server over real sockets: who is closed, when, and who is not.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{Extension, Router, routing::get};
use prometheus_client::registry::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

use super::*;
use crate::http::{Health, Settings, router};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";
const HELD: &[u8] = b"GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A server whose `/held` is answered when the test lets it.
struct TestServer {
    address: SocketAddr,
    go: Arc<Semaphore>,
    _serving: JoinSet<()>,
}

async fn server(connections: usize, client_timeout: impl Into<Live<Duration>>) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&go);
    let held = async move || {
        held.acquire().await.unwrap().forget();
        "held"
    };
    let routes = Router::new()
        .route("/hello", get(async || "hello"))
        .route("/large", get(async || "x".repeat(1_000_000)))
        .route("/held", get(held))
        .route("/peer", get(async |Extension(peer): Extension<Peer>| format!("you are {}.", peer.0)));
    let settings = Settings { request_timeout: PATIENCE.into(), ..Settings::default() };
    let router = router(routes, &settings.into(), &Arc::new(Health::default()), Registry::default());
    let bounds = Bounds { connections, client_timeout: client_timeout.into(), finish: Duration::ZERO.into() };
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, router, bounds, CancellationToken::new()));
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
async fn a_request_knows_its_peer() {
    let server = server(2, PATIENCE).await;
    let mut stream = server.send(b"GET /peer HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let ours = stream.local_addr().unwrap();
    answer(&mut stream, &format!("you are {ours}.")).await;
}

#[tokio::test]
async fn a_client_that_keeps_the_server_waiting_is_closed_and_a_request_in_hand_is_not() {
    let server = server(100, Duration::from_secs(1)).await;
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
    let server =
        server(100, Live::from(()).map(move |()| Duration::from_millis(now.load(Ordering::Relaxed)))).await;
    let mut silent = server.connect().await;
    let mut answered = server.send(HELLO).await;
    answer(&mut answered, "hello").await;
    millis.store(50, Ordering::Relaxed);
    closed(&mut silent).await;
    closed(&mut answered).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_closed() {
    let server = server(100, Duration::from_millis(300)).await;
    let large = b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let mut taking_nothing = server.send(&large).await;
    // That the server has closed is seen by sending: what it had written is not taken until then.
    let sent = async { while taking_nothing.write_all(HELLO).await.is_ok() {} };
    timeout(PATIENCE, sent).await.expect("the server closes the connection");
}
