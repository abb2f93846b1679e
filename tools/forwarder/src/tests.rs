//! The forwarder over real sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

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
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
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

struct Front {
    address: SocketAddr,
    replicas: Arc<Replicas>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Front {
    async fn of(replicas: &[&Echo]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (list, stop, mut task) = (Arc::<Replicas>::default(), CancellationToken::new(), JoinSet::new());
        list.set(replicas.iter().map(|echo| echo.address).collect());
        task.spawn(forward(listener, Arc::clone(&list), Duration::from_secs(5), stop.clone()));
        Self { address, replicas: list, stop, task }
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
