//! Clients that are slow, greedy, idle or many: each is answered or closed, and the others are served meanwhile.

use std::time::Duration;

use e2e::{
    broker::free_port,
    fixture::TestSystem,
    http::{self, Reply},
    process::{Launch, Service},
    wait::{PATIENCE, until_true},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, interval, timeout},
};

const GET: &str = "GET /accounts/10001 HTTP/1.1\r\nhost: localhost\r\n";

/// More than fits into any socket's buffers: whoever can send that much meets no limit.
const ENDLESS: usize = 64 * 1024 * 1024;

/// An accountservice without a broker, as these tests are about its clients.
async fn accountservice(with: impl FnOnce(Launch) -> Launch) -> (TestSystem, Service) {
    let system = TestSystem::new().await.behind(free_port());
    let account = with(system.launch("accountservice", 1)).start().await;
    (system, account)
}

async fn connect(service: &Service) -> TcpStream {
    TcpStream::connect(("127.0.0.1", service.address().port())).await.expect("it listens")
}

/// A client that comes now, over a connection of its own, is answered.
async fn assert_serves(service: &Service) {
    let request = http::client().get(service.address().url("/accounts/10001"));
    let reply = Reply::of(request).await.expect("others are served");
    assert_eq!(reply.status, 200, "{}", reply.text);
}

/// Its memory once it has answered some requests, in KiB: the first ones make it load its own code.
async fn memory_when_warm(service: &Service) -> u64 {
    for _ in 0..200 {
        assert_eq!(service.get("/accounts").await.status, 200);
    }
    service.memory()
}

/// Far less than the clients of these tests send or ask for.
#[track_caller]
fn assert_keeps_little(service: &Service, before: u64) {
    let memory = service.memory();
    assert!(memory < before + 24 * 1024, "from {before} to {memory} KiB");
}

/// Sends `start` and then `piece` again and again, until the service has had enough; what it answered.
async fn flooded(service: &Service, start: &str, piece: &[u8]) -> String {
    let stream = connect(service).await;
    let (mut from, mut to) = stream.into_split();
    let mut answer = vec![];
    let send = async {
        let mut is_open = to.write_all(start.as_bytes()).await.is_ok();
        for _ in 0..ENDLESS / piece.len() {
            is_open = is_open && to.write_all(piece).await.is_ok();
        }
        assert!(!is_open, "the service took {ENDLESS} bytes after {start:?}");
    };
    let read = async {
        let mut byte = [0];
        // A reset after the answer is an end as good as any.
        while from.read(&mut byte).await.is_ok_and(|read| read > 0) {
            answer.push(byte[0]);
        }
    };
    let both = async { tokio::join!(send, read) };
    timeout(PATIENCE, both).await.expect("it is answered or closed");
    String::from_utf8(answer).expect("text")
}

/// Sends `start` and then one byte at a time, for ever; comes back when the service has closed the connection.
async fn trickle(mut stream: TcpStream, start: String, every: Duration) -> String {
    let mut answer = vec![];
    stream.write_all(start.as_bytes()).await.expect("it listens");
    let (mut from, mut to) = stream.into_split();
    let send = async {
        let mut clock = interval(every);
        while to.write_all(b"x").await.is_ok() {
            clock.tick().await;
        }
    };
    tokio::select! {
        () = send => {}
        _ = from.read_to_end(&mut answer) => {}
    }
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn bodies_without_a_measure_are_answered_and_closed_and_others_are_served() {
    let (_system, account) = accountservice(|launch| launch).await;
    let before = memory_when_warm(&account).await;
    let (long, chunked, posted) = (
        format!("{GET}content-length: 1000000000\r\n\r\n"),
        format!("{GET}transfer-encoding: chunked\r\n\r\n"),
        "POST /accounts HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
    );
    let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
    let (long, chunked, posted, ()) = tokio::join!(
        flooded(&account, &long, &chunk),
        flooded(&account, &chunked, &chunk),
        flooded(&account, &posted, &chunk),
        assert_serves(&account),
    );
    // An answer may be lost when the connection is reset while we still send.
    for (answer, status) in [(long, "413"), (chunked, "200"), (posted, "413")] {
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert_serves(&account).await;
    assert_keeps_little(&account, before);
}

#[tokio::test]
async fn a_declared_body_that_is_too_large_is_answered_413() {
    let (_system, account) = accountservice(|launch| launch).await;
    let request = account.request("GET", "/accounts/10000").body(vec![b'x'; 16 * 1024 + 1]);
    let reply = Reply::of(request).await.expect("an answer");
    assert_eq!(reply.status, 413, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(account.metric("hops_outbox_depth").await, 0, "a refused read notifies nobody");
}

#[tokio::test]
async fn heads_without_a_measure_are_refused_and_others_are_served() {
    let (_system, account) = accountservice(|launch| launch).await;
    let before = memory_when_warm(&account).await;
    let endless = format!("{GET}x-endless: ");
    let many = b"x-many: 1\r\n".repeat(100);
    let (endless, many, address, ()) = tokio::join!(
        flooded(&account, &endless, &[b'x'; 1000]),
        flooded(&account, GET, &many),
        flooded(&account, "GET /accounts/1", &[b'1'; 1000]),
        assert_serves(&account),
    );
    for answer in [endless, many, address] {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // The first is more than is ever read, so that its answer may be lost in the reset.
    for (head, may_be_lost) in [
        (format!("{GET}x-large: {}\r\n\r\n", "x".repeat(16 * 1024)), true),
        (format!("{GET}{}\r\n", "x-many: 1\r\n".repeat(200)), false),
    ] {
        let mut stream = connect(&account).await;
        stream.write_all(head.as_bytes()).await.expect("it fits the buffers");
        let mut answer = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it is closed");
        let is_lost = may_be_lost && read.is_err();
        assert!(is_lost || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_serves(&account).await;
    assert_keeps_little(&account, before);
}

#[tokio::test]
async fn clients_that_send_their_heads_byte_by_byte_are_closed_and_others_are_served() {
    const EVERY: Duration = Duration::from_millis(200);
    let (_system, account) = accountservice(|launch| launch.flag("client-timeout", "1s")).await;
    let since = Instant::now();
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        slow.spawn(trickle(connect(&account).await, format!("{GET}x-slow: "), EVERY));
    }
    assert_serves(&account).await;
    let closed = async { while slow.join_next().await.is_some() {} };
    timeout(PATIENCE, closed).await.expect("all are closed");
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "long before the default of 30 s: {:?}",
        since.elapsed()
    );
    assert_serves(&account).await;
}

#[tokio::test]
async fn a_client_that_sends_its_body_byte_by_byte_is_answered_and_closed() {
    let (_system, account) = accountservice(|launch| launch.flag("client-timeout", "1s")).await;
    let head = format!("{GET}content-length: 10000\r\n\r\n");
    let slow = trickle(connect(&account).await, head, Duration::from_millis(100));
    let (answer, ()) = tokio::join!(timeout(PATIENCE, slow), assert_serves(&account));
    let answer = answer.expect("it is closed");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_closed_and_its_answers_are_not_kept() {
    let (_system, account) = accountservice(|launch| launch.flag("client-timeout", "1s")).await;
    let before = memory_when_warm(&account).await;
    let list = "GET /accounts HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let mut greedy = JoinSet::new();
    for _ in 0..5 {
        let (list, port) = (list.clone(), account.address().port());
        greedy.spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.expect("it listens");
            while stream.write_all(list.as_bytes()).await.is_ok() {}
        });
    }
    assert_serves(&account).await;
    let closed = async { while greedy.join_next().await.is_some() {} };
    timeout(PATIENCE, closed).await.expect("all are closed");
    assert_serves(&account).await;
    assert_keeps_little(&account, before);
}

/// This process and the services that it starts may have this many open files.
fn need_open_files(count: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.is_none_or(|maximum| maximum >= count);
    assert!(allowed, "this test needs {count} open files: raise the hard limit, `ulimit -Hn {count}`");
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit nobody needs a right");
}

#[tokio::test]
async fn ten_thousand_idle_connections_keep_nobody_out_and_take_little_memory() {
    const COUNT: usize = 10_000;
    need_open_files(12_000);
    let (_system, account) = accountservice(|launch| launch.flag("client-timeout", "5min")).await;
    let before = memory_when_warm(&account).await;

    // Half of them wait for their first request, half for their second.
    let mut idle = Vec::with_capacity(COUNT);
    for n in 0..COUNT {
        let mut stream = connect(&account).await;
        if n % 2 == 0 {
            stream.write_all(format!("{GET}\r\n").as_bytes()).await.expect("it takes a request");
            let mut answer = [0; 1024];
            let read =
                timeout(PATIENCE, stream.read(&mut answer)).await.expect("in time").expect("an answer");
            assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        assert_serves(&account).await;
    }
    let memory = account.memory();
    // Measured: 13 KiB for each, mostly the two buffers that hyper begins with.
    assert!(memory < before + 32 * COUNT as u64, "from {before} to {memory} KiB");
    let full =
        |line: &e2e::log::Line| line.field("message").contains("connections are open, which is the limit");
    until_true("the log says once that all places are taken", PATIENCE, async || {
        account.log().count(full) == 1
    })
    .await;
}

/// Opens that many connections, and holds that a new client is served and what the log warns of.
async fn assert_few_open_files(ulimit: &str, connections: usize, warned: &[&str]) {
    let (_system, account) = accountservice(|launch| launch.ulimit(ulimit)).await;
    let mut idle = vec![];
    for _ in 0..connections {
        idle.push(connect(&account).await);
    }
    for _ in 0..20 {
        assert_serves(&account).await;
    }
    let lines = account.log().filter(|line| line.field("level") == "WARN");
    let about = ["open files", "connections are open", "cannot accept"];
    let lines = lines.iter().map(|line| line.field("message"));
    let lines: Vec<_> = lines.filter(|message| about.iter().any(|words| message.contains(words))).collect();
    assert_eq!(lines.len(), warned.len(), "{lines:#?}");
    for (line, words) in lines.iter().zip(warned) {
        assert!(line.contains(words), "{line}, expected {words}");
    }
}

#[tokio::test]
async fn with_few_open_files_a_service_says_so_once_and_serves_all_the_same() {
    let warned = ["only 256 open files: at most 192 connections", "192 connections are open"];
    assert_few_open_files("-n 256", 400, &warned).await;
}

#[tokio::test]
async fn a_service_takes_as_many_open_files_as_it_may_have() {
    need_open_files(12_000);
    assert_few_open_files("-Sn 256", 400, &[]).await;
}
