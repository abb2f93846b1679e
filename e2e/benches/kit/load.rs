//! Load over HTTP/1.1 with as little work as possible, so that one core can keep another one busy.
#![allow(dead_code, reason = "each benchmark uses its part of it")]

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, LocalSet},
};

/// Connections that are kept alive, each with one request at a time.
const CONNECTIONS: usize = 32;

/// Reads `path` that many times; panics at any answer but 200. Returns how long it took.
pub(crate) async fn get(port: u16, path: &str, reads: usize) -> Duration {
    let left = Rc::new(Cell::new(reads));
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n\r\n");
    let request: Rc<[u8]> = request.into_bytes().into();
    let since = Instant::now();
    let connections = async {
        let mut connections = JoinSet::new();
        for _ in 0..CONNECTIONS {
            connections.spawn_local(connection(port, Rc::clone(&request), Rc::clone(&left)));
        }
        connections.join_all().await;
    };
    LocalSet::new().run_until(connections).await;
    since.elapsed()
}

/// Reads `path` that many times over one connection. Returns the median of how long a read took.
pub(crate) async fn median_of_one(port: u16, path: &str, reads: usize) -> Duration {
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n\r\n");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket has no delay");
    let mut buffer = vec![0; 4096];
    let mut times = Vec::with_capacity(reads);
    for _ in 0..reads {
        let since = Instant::now();
        let answer = ask(&mut stream, request.as_bytes(), &mut buffer).await.expect("an answer");
        times.push(since.elapsed());
        assert_eq!(status(answer), Some(200), "{}", String::from_utf8_lossy(answer));
    }
    times.sort_unstable();
    times[reads / 2]
}

async fn connection(port: u16, request: Rc<[u8]>, left: Rc<Cell<usize>>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket has no delay");
    let mut buffer = vec![0; 4096];
    while let Some(rest) = left.get().checked_sub(1) {
        left.set(rest);
        let answer = ask(&mut stream, &request, &mut buffer).await.expect("an answer");
        assert_eq!(status(answer), Some(200), "{}", String::from_utf8_lossy(answer));
    }
}

/// One request and its answer, which must fit the buffer; `None` when the connection ends before it.
pub(crate) async fn ask<'a>(
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &'a mut [u8],
) -> Option<&'a [u8]> {
    stream.write_all(request).await.ok()?;
    let mut len = 0;
    loop {
        let read = stream.read(&mut buffer[len..]).await.ok().filter(|read| *read > 0)?;
        len += read;
        if answer_len(&buffer[..len]).is_some_and(|whole| whole <= len) {
            return Some(&buffer[..len]);
        }
    }
}

/// The status code.
pub(crate) fn status(answer: &[u8]) -> Option<u16> {
    str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Returns the length of the whole answer, as soon as its head has arrived.
fn answer_len(answer: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
    let at = answer[..head].windows(NAME.len()).position(|name| name == NAME)? + NAME.len();
    let digits = answer[at..].iter().take_while(|digit| digit.is_ascii_digit());
    let body = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    Some(head + 4 + body)
}
