//! The client's side of a connection, which notes who spoke last.

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

/// Client's stream: its connection is busy after bytes of the client, and idle after bytes of the replica.
#[derive(Debug)]
pub(crate) struct Turns {
    client: TcpStream,
    connection: Arc<Connection>,
}

impl Turns {
    pub(crate) fn new(client: TcpStream, connection: Arc<Connection>) -> Self {
        Self { client, connection }
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
        if buffer.filled().len() > before {
            self.connection.set_busy();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Turns {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.client).poll_write(cx, bytes))?;
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
