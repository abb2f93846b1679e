//! The rule of every accept loop: an error of `accept` ends no server.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::{Instant, sleep_until},
};

/// Delay before the next attempt to accept a connection, after an attempt that failed.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Connections that arrive at a listener.
#[derive(Debug)]
pub struct Incoming<'a, L> {
    listener: &'a L,
    /// The time of the next attempt, if the last one has failed.
    retry_at: Option<Instant>,
}

/// Socket that accepts connections.
pub trait Listener {
    /// An accepted connection.
    type Accepted: Send;

    /// Accepts one connection, and reports the system's errors. Only [`Incoming`] calls this.
    fn accept_once(&self) -> impl Future<Output = io::Result<Self::Accepted>> + Send;
}

impl<'a, L: Listener> Incoming<'a, L> {
    /// Returns the connections of a listener.
    pub fn new(listener: &'a L) -> Self {
        Self { listener, retry_at: None }
    }

    /// Waits for the next connection, whatever fails meanwhile. Loses no connection if it is dropped.
    pub async fn next(&mut self) -> L::Accepted {
        loop {
            if let Some(accepted) = self.attempt().await {
                return accepted;
            }
        }
    }

    /// Waits for a connection, or for a failed attempt: then the next attempt waits for [`RETRY_DELAY`]. The first of
    /// several failures in a row is logged.
    pub(crate) async fn attempt(&mut self) -> Option<L::Accepted> {
        if let Some(retry_at) = self.retry_at {
            sleep_until(retry_at).await;
        }
        loop {
            match self.listener.accept_once().await {
                Ok(accepted) => {
                    self.retry_at = None;
                    return Some(accepted);
                }
                // accept(2): an error of the new connection, which is gone; the next one may be there already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Usually the process has no more open files, until connections close.
                    if self.retry_at.is_none() {
                        tracing::warn!("cannot accept a connection: {error}");
                    }
                    self.retry_at = Some(Instant::now() + RETRY_DELAY);
                    return None;
                }
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that handles the errors of accept")]
impl Listener for TcpListener {
    type Accepted = (TcpStream, SocketAddr);

    async fn accept_once(&self) -> io::Result<Self::Accepted> {
        self.accept().await
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that handles the errors of accept")]
impl Listener for UnixListener {
    type Accepted = UnixStream;

    async fn accept_once(&self) -> io::Result<Self::Accepted> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use super::*;

    /// Listener whose attempts have these results.
    struct Scripted(Mutex<VecDeque<io::Result<u8>>>);

    impl Listener for Scripted {
        type Accepted = u8;

        async fn accept_once(&self) -> io::Result<u8> {
            self.0.lock().unwrap().pop_front().expect("no attempt beyond those of the test")
        }
    }

    fn no_more_files() -> io::Result<u8> {
        Err(io::Error::from_raw_os_error(24))
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_ends_nothing_and_is_followed_by_a_pause() {
        let aborted = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        for (attempts, pauses) in [
            (vec![Ok(7)], 0),
            (vec![aborted(), aborted(), Ok(7)], 0),
            (vec![no_more_files(), Ok(7)], 1),
            (vec![no_more_files(), no_more_files(), aborted(), Ok(7)], 2),
        ] {
            let listener = Scripted(Mutex::new(attempts.into()));
            let start = Instant::now();
            assert_eq!(Incoming::new(&listener).next().await, 7);
            // The clock of this test stands still while anything can be done, and counts in milliseconds.
            assert_eq!(start.elapsed().as_millis() / RETRY_DELAY.as_millis(), pauses);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_call_that_is_dropped_does_not_shorten_the_pause() {
        let listener = Scripted(Mutex::new([no_more_files(), Ok(7)].into()));
        let mut incoming = Incoming::new(&listener);
        assert_eq!(incoming.attempt().await, None);
        let cut = tokio::time::timeout(RETRY_DELAY / 2, incoming.next()).await;
        cut.unwrap_err();
        assert_eq!(listener.0.lock().unwrap().len(), 1, "no attempt before the end of the pause");
        assert_eq!(incoming.next().await, 7);
    }
}
