//! Connections over real sockets: which are closed, when, and which are not.
//!
//! The server of these tests reads one byte at a time, and answers each with the same byte: an `h` when the test lets it,
//! any other at once.

use std::{future::pending, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};

use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
const HELD: u8 = b'h';

struct TestServer {
    address: SocketAddr,
    go: Arc<Semaphore>,
    _serving: JoinSet<()>,
}

async fn server(limit: usize, client_timeout: impl Fn() -> Duration + Send + Sync + 'static) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&go);
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut open = Connections::new(limit, client_timeout);
        open.accept(&listener, |stream, _, connection| echo(stream, connection, Arc::clone(&held))).await;
    });
    TestServer { address, go, _serving: serving }
}

async fn echo(mut stream: TcpStream, connection: Arc<Connection>, held: Arc<Semaphore>) -> io::Result<()> {
    loop {
        let byte = stream.read_u8().await?;
        connection.set_busy();
        if byte == HELD {
            held.acquire().await.unwrap().forget();
        }
        connection.set_waiting();
        stream.write_u8(byte).await?;
    }
}

impl TestServer {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection over which `byte` was sent.
    async fn send(&self, byte: u8) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_u8(byte).await.unwrap();
        stream
    }
}

async fn answer(stream: &mut TcpStream, byte: u8) {
    let answer = timeout(LONG, stream.read_u8()).await.expect("an answer in time");
    assert_eq!(answer.unwrap(), byte);
}

/// Sends a byte over an open connection, and waits for the answer.
async fn echoes(stream: &mut TcpStream) {
    stream.write_u8(b'e').await.unwrap();
    answer(stream, b'e').await;
}

/// Waits until the server closes the connection.
async fn closed(stream: &mut TcpStream) {
    let read = timeout(LONG, stream.read_u8()).await.expect("the server closes the connection");
    read.unwrap_err();
}

#[tokio::test]
async fn a_new_client_timeout_counts_for_connections_that_are_open_and_for_none_that_is_busy() {
    let millis = Arc::new(AtomicU64::new(3_600_000));
    let now = Arc::clone(&millis);
    let server = server(100, move || Duration::from_millis(now.load(Ordering::Relaxed))).await;
    let mut busy = server.send(HELD).await;
    let mut silent = server.connect().await;
    let mut answered = server.connect().await;
    echoes(&mut answered).await;
    millis.store(50, Ordering::Relaxed);
    closed(&mut silent).await;
    closed(&mut answered).await;

    millis.store(3_600_000, Ordering::Relaxed);
    server.go.add_permits(1);
    answer(&mut busy, HELD).await;
    echoes(&mut busy).await;
}

#[tokio::test]
async fn when_all_places_are_taken_the_longest_idle_connection_goes_for_a_new_one() {
    let server = server(3, || LONG).await;
    let mut busy = server.send(HELD).await;
    let mut oldest = server.connect().await;
    let mut younger = server.connect().await;
    echoes(&mut younger).await;

    let mut newest = server.connect().await;
    echoes(&mut newest).await;

    closed(&mut oldest).await;
    echoes(&mut younger).await;
    server.go.add_permits(1);
    answer(&mut busy, HELD).await;
}

#[tokio::test]
async fn while_all_connections_have_a_request_in_hand_a_new_one_waits_and_none_is_closed() {
    let server = server(2, || LONG).await;
    let (mut one, mut two) = (server.send(HELD).await, server.send(HELD).await);
    let mut waiting = server.send(b'e').await;
    let early = timeout(3 * MIN_WAIT, waiting.read_u8()).await;
    assert!(early.is_err(), "{early:?}");

    server.go.add_permits(2);
    answer(&mut one, HELD).await;
    answer(&mut two, HELD).await;
    answer(&mut waiting, b'e').await;
}

#[tokio::test]
async fn a_connection_that_is_given_up_is_looked_at_once_more_and_then_closed() {
    let given_up = || {
        let connection = Arc::new(Connection::new(Instant::now()));
        connection.close_after(Duration::ZERO);
        connection
    };
    let idle = until_closed(pending::<Result<(), String>>(), given_up());
    timeout(LONG, idle).await.expect("it is closed");

    let (connection, mut is_answered) = (given_up(), false);
    let served = async {
        // The request is there already, and the runtime has yet to ask the system for it.
        yield_now().await;
        connection.set_busy();
        yield_now().await;
        is_answered = true;
        Ok::<_, String>(())
    };
    until_closed(served, Arc::clone(&connection)).await;
    assert!(is_answered);
}
