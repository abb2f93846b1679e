//! The client's side of a connection, which notes whether a request may be in hand.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use accept::Connection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Client's stream: its connection is busy after bytes of the client, and idle after bytes of the replica. The bytes of a
/// new connection count from the end of the first request's head: before it a replica has nothing to do.
#[derive(Debug)]
pub(crate) struct Turns {
    client: TcpStream,
    connection: Arc<Connection>,
    head: Head,
}

impl Turns {
    pub(crate) fn new(client: TcpStream, connection: Arc<Connection>) -> Self {
        Self { client, connection, head: Head::default() }
    }
}

/// Head of the first request, which ends with an empty line. A line ends with LF, with or without CR before it
/// (RFC 9112, sections 2.1 and 2.2).
#[derive(Debug, Default)]
struct Head {
    /// True while a line that follows another one has no character yet.
    at_line_start: bool,
    is_complete: bool,
}

impl Head {
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' if self.at_line_start => self.is_complete = true,
                b'\n' => self.at_line_start = true,
                b'\r' => {}
                _ => self.at_line_start = false,
            }
        }
    }
}

impl AsyncRead for Turns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.client).poll_read(cx, buffer))?;
        let received = &buffer.filled()[before..];
        if !self.head.is_complete {
            self.head.read(received);
        }
        if self.head.is_complete && !received.is_empty() {
            self.connection.set_busy();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Turns {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.client).poll_write(cx, bytes))?;
        // Bytes after an answer may be the rest of a request's body.
        self.head.is_complete = true;
        self.connection.set_waiting();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(cx)
    }

    /// The replica has closed the connection, which it does to a client that sends half a request, too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.set_waiting();
        Pin::new(&mut self.client).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_an_empty_line_however_it_is_cut() {
        for (sent, expected) in [
            ("", false),
            ("GET / HTTP/1.1\r\nHost: x\r\n", false),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r", false),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("GET / HTTP/1.1\nHost: x\n\n", true),
            ("\r\nGET / HTTP/1.1\r\n", false),
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\nbody", true),
        ] {
            for cut in 0..=sent.len() {
                let mut head = Head::default();
                head.read(&sent.as_bytes()[..cut]);
                head.read(&sent.as_bytes()[cut..]);
                assert_eq!(head.is_complete, expected, "{sent:?} {cut}");
            }
        }
    }
}
