//! The forwarder over real sockets.

use accept::Incoming;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};

use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// Replica that sends its name, and then echoes what it receives.
struct Echo {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Echo {
    async fn new(name: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let (mut open, mut incoming) = (JoinSet::new(), Incoming::new(&listener));
            loop {
                let (mut stream, _) = incoming.next().await;
                open.spawn(async move {
                    let _ = stream.write_all(&[name]).await;
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Self { address, _task: task }
    }
}

/// Request that is answered when the test allows it; any other byte but a line's end is answered at once.
const HELD: u8 = b'h';
/// Byte for which the replica closes the connection.
const CLOSE: u8 = b'x';
/// Part of a request's head: the replica waits for the rest.
const HALF: u8 = b'\n';
/// End of a request's head.
const EMPTY_LINE: &[u8] = b"\n\n";

/// Replica that reads requests of one byte, and answers each with the same byte.
struct Slow {
    address: SocketAddr,
    allowed: Arc<Semaphore>,
    _task: JoinSet<()>,
}

impl Slow {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, allowed) = (listener.local_addr().unwrap(), Arc::new(Semaphore::new(0)));
        let (held, mut task) = (Arc::clone(&allowed), JoinSet::new());
        task.spawn(async move {
            let (mut open, mut incoming) = (JoinSet::new(), Incoming::new(&listener));
            loop {
                let ((mut stream, _), held) = (incoming.next().await, Arc::clone(&held));
                open.spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        match byte {
                            CLOSE => return,
                            b'\n' => continue,
                            HELD => held.acquire().await.unwrap().forget(),
                            _ => {}
                        }
                        let _ = stream.write_u8(byte).await;
                    }
                });
            }
        });
        Self { address, allowed, _task: task }
    }
}

struct Front {
    address: SocketAddr,
    replicas: Arc<Replicas>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Front {
    async fn of(replicas: &[&Echo]) -> Self {
        Self::with_limit(MAX_CONNECTIONS, replicas.iter().map(|echo| echo.address).collect()).await
    }

    async fn with_limit(connections: usize, replicas: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (list, stop, mut task) = (Arc::<Replicas>::default(), CancellationToken::new(), JoinSet::new());
        list.set(replicas);
        let close_timeout = Duration::from_secs(5);
        task.spawn(forward(listener, Arc::clone(&list), connections, close_timeout, stop.clone()));
        Self { address, replicas: list, stop, task }
    }

    /// Opens a connection over which `bytes` are sent.
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Opens a connection, and returns it with the name of the replica that answers.
    async fn connect(&self) -> (TcpStream, u8) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let name = stream.read_u8().await.unwrap();
        (stream, name)
    }
}

async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"hello").await.unwrap();
    let mut received = [0; 5];
    stream.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
}

#[tokio::test]
async fn replicas_take_turns_and_bytes_are_forwarded() {
    let (a, b, c) = (Echo::new(b'a').await, Echo::new(b'b').await, Echo::new(b'c').await);
    let front = Front::of(&[&a, &b, &c]).await;
    let mut names = vec![];
    for _ in 0..6 {
        let (mut stream, name) = front.connect().await;
        echoes(&mut stream).await;
        names.push(name);
    }
    assert_eq!(names, b"abcabc");
}

#[tokio::test]
async fn a_replica_that_refuses_is_skipped() {
    let (a, b) = (Echo::new(b'a').await, Echo::new(b'b').await);
    let front = Front::of(&[&a, &b]).await;
    let gone = a.address;
    drop(a);
    for _ in 0..4 {
        assert_eq!(front.connect().await.1, b'b', "{gone} refuses");
    }
}

#[tokio::test]
async fn an_open_connection_stays_with_a_replica_that_leaves_the_list() {
    let (a, b) = (Echo::new(b'a').await, Echo::new(b'b').await);
    let front = Front::of(&[&a]).await;
    let (mut stream, name) = front.connect().await;
    front.replicas.set(vec![b.address]);
    assert_eq!((name, front.connect().await.1), (b'a', b'b'));
    echoes(&mut stream).await;
}

#[tokio::test]
async fn a_connection_waits_for_the_first_replica() {
    let (a, front) = (Echo::new(b'a').await, Front::of(&[]).await);
    let connection = front.connect();
    front.replicas.set(vec![a.address]);
    assert_eq!(connection.await.1, b'a');
}

#[tokio::test]
async fn the_end_of_one_side_reaches_the_other() {
    let (a, mut front) = (Echo::new(b'a').await, Front::of(&[]).await);
    front.replicas.set(vec![a.address]);
    let (mut stream, _) = front.connect().await;
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);

    let (mut stream, _) = front.connect().await;
    front.stop.cancel();
    echoes(&mut stream).await;
    drop(stream);
    front.task.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(front.address).await.is_err(), "nobody listens any more");
}

async fn answer(stream: &mut TcpStream, byte: u8) {
    let answer = timeout(LONG, stream.read_u8()).await.expect("an answer in time");
    assert_eq!(answer.unwrap(), byte);
}

/// Waits until the forwarder closes the connection.
async fn closed(stream: &mut TcpStream) {
    let read = timeout(LONG, stream.read_u8()).await.expect("the forwarder closes the connection");
    read.unwrap_err();
}

#[tokio::test]
async fn a_full_forwarder_closes_idle_connections_for_new_ones_and_no_request_in_flight() {
    let replica = Slow::new().await;
    let front = Front::with_limit(3, vec![replica.address]).await;
    let mut in_flight = front.send(&[&[HELD], EMPTY_LINE].concat()).await;
    let mut silent = front.send(&[]).await;
    let mut answered = front.send(b"a").await;
    answer(&mut answered, b'a').await;

    let mut first = front.send(b"b").await;
    answer(&mut first, b'b').await;
    closed(&mut silent).await;
    // More than half a minute in which idle clients come and go, as the forwarder's clock has it.
    for _ in 0..20 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
        let mut next = front.send(b"c").await;
        answer(&mut next, b'c').await;
    }
    closed(&mut answered).await;
    closed(&mut first).await;
    replica.allowed.add_permits(1);
    answer(&mut in_flight, HELD).await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_replica_is_not_closed() {
    let (replica, front) = (Slow::new().await, Front::with_limit(1, vec![]).await);
    let (mut first, mut second) = (front.send(b"a").await, front.send(b"b").await);
    front.replicas.set(vec![replica.address]);
    answer(&mut first, b'a').await;
    answer(&mut second, b'b').await;
    closed(&mut first).await;
}

#[tokio::test]
async fn a_client_that_stays_after_its_replica_has_closed_takes_no_place() {
    let replica = Slow::new().await;
    let front = Front::with_limit(1, vec![replica.address]).await;
    let mut stays = front.send(&[CLOSE]).await;
    closed(&mut stays).await;
    let mut next = front.send(b"a").await;
    answer(&mut next, b'a').await;
}

#[tokio::test]
async fn half_a_request_keeps_nobody_out() {
    let replica = Slow::new().await;
    let front = Front::with_limit(1, vec![replica.address]).await;
    let mut half = front.send(&[HALF]).await;
    let mut whole = front.send(b"a").await;
    answer(&mut whole, b'a').await;
    closed(&mut half).await;
}

#[test]
fn all_ports_together_have_no_more_files_than_they_may() {
    for (ports, files, expected) in
        [(1, 100, 50), (3, 100, 16), (3, 20_000, 2_000), (2, 0, 1), (0, 100, 50), (1, usize::MAX, 2_000)]
    {
        assert_eq!(connections_per_port(ports, files), expected, "{ports} {files}");
    }
}
