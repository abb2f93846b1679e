//! The proxy before a small echo server: what each fault looks like from the service's side.

use std::time::{Duration, Instant};

use accept::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{Direction, Mode, Proxy};
use crate::wait::{PATIENCE, until, until_true};

const SILENCE: Duration = Duration::from_millis(200);

/// A proxy before an echo server, and a connection through it.
async fn echo() -> (JoinSet<()>, Proxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut connections, mut incoming) = (JoinSet::new(), Incoming::new(&listener));
        loop {
            let (mut stream, _) = incoming.next().await;
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let proxy = Proxy::start(address).await;
    let client = connect(&proxy).await;
    (tasks, proxy, client)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("the proxy listens")
}

async fn say(client: &mut TcpStream, text: &str) -> String {
    client.write_all(text.as_bytes()).await.expect("written");
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).await.expect("an echo");
    String::from_utf8(answer).expect("text")
}

/// All that still comes until the connection ends.
async fn rest(client: &mut TcpStream) -> String {
    let mut answer = vec![];
    let end = timeout(PATIENCE, client.read_to_end(&mut answer)).await;
    let _ = end.expect("the connection ends");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn bytes_pass_in_both_directions() {
    let (_tasks, proxy, mut client) = echo().await;
    assert_eq!(say(&mut client, "hello").await, "hello");
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_cut_ends_all_connections_and_new_ones_work() {
    let (_tasks, proxy, mut client) = echo().await;
    say(&mut client, "hello").await;
    proxy.cut();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(say(&mut connect(&proxy).await, "again").await, "again");
}

#[tokio::test]
async fn a_cut_in_mid_frame_lets_the_first_bytes_pass() {
    let (_tasks, proxy, mut client) = echo().await;
    proxy.cut_after(Direction::FromBroker, 3);
    client.write_all(b"hello").await.expect("written");
    assert_eq!(rest(&mut client).await, "hel");
    proxy.until_cuts(1).await;
    assert_eq!(say(&mut connect(&proxy).await, "again").await, "again");
}

#[tokio::test]
async fn a_frozen_link_is_silent_and_loses_nothing() {
    let (_tasks, proxy, mut client) = echo().await;
    proxy.set(Mode::Freeze);
    client.write_all(b"hello").await.expect("written");
    let mut answer = [0; 5];
    timeout(SILENCE, client.read_exact(&mut answer)).await.expect_err("nothing comes");
    proxy.set(Mode::Forward);
    client.read_exact(&mut answer).await.expect("it comes late");
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn a_delay_holds_each_direction() {
    let (_tasks, proxy, mut client) = echo().await;
    proxy.set(Mode::Delay(SILENCE));
    let start = Instant::now();
    say(&mut client, "hello").await;
    assert!(start.elapsed() >= 2 * SILENCE);
}

#[tokio::test]
async fn accept_and_close_takes_a_connection_and_ends_it() {
    let (_tasks, proxy, _client) = echo().await;
    proxy.set(Mode::AcceptAndClose);
    assert_eq!(rest(&mut connect(&proxy).await).await, "");
}

#[tokio::test]
async fn a_refusing_proxy_is_not_there_and_comes_back_on_its_port() {
    let (_tasks, proxy, mut client) = echo().await;
    proxy.set(Mode::Refuse);
    assert_eq!(rest(&mut client).await, "");
    until_true("connections are refused", Duration::from_secs(5), async || {
        TcpStream::connect(("127.0.0.1", proxy.port())).await.is_err()
    })
    .await;
    proxy.set(Mode::Forward);
    let mut client = until("the proxy is back", Duration::from_secs(5), async || {
        TcpStream::connect(("127.0.0.1", proxy.port())).await.ok()
    })
    .await;
    assert_eq!(say(&mut client, "again").await, "again");
}
