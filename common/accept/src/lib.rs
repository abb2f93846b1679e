//! Accepts TCP connections so that idle ones lock nobody out. It knows no protocol.
//!
//! A connection is either busy, with a request in flight, or it waits for its client: for a request, or for the client to
//! read its answer. Only connections that wait are closed: those that have waited too long, and the one that has waited
//! longest when a new connection needs its place.
//!
//! - `incoming`: the rule of every accept loop, for listeners without such connections, too
//! - `open_files`: the limit of open files

mod incoming;
mod open_files;

use std::{
    collections::HashMap,
    fmt::Display,
    future::ready,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{self, JoinSet, yield_now},
    time::{Instant, sleep_until, timeout},
};

pub use self::{
    incoming::{Incoming, Listener},
    open_files::{affordable_connections, file_limit, raise_file_limit},
};

/// Shortest wait after which a connection may be closed to make room for another.
const MIN_WAIT: Duration = Duration::from_millis(100);
/// Time between two attempts to make room while there is none.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Shortest time between two warnings that the limit is reached.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The open connections of a listener.
#[derive(Debug)]
pub struct Connections<T> {
    limit: usize,
    client_timeout: T,
    tasks: JoinSet<()>,
    by_id: HashMap<task::Id, Arc<Connection>>,
    start: Instant,
    /// The time of the last warning that the limit is reached.
    warned: Option<Instant>,
}

impl<T: Fn() -> Duration> Connections<T> {
    /// Returns no connections yet. At most `limit` are open at a time; `client_timeout` returns the time limit for a client
    /// that keeps its connection waiting, which may change.
    pub fn new(limit: usize, client_timeout: T) -> Self {
        Self {
            limit,
            client_timeout,
            tasks: JoinSet::new(),
            by_id: HashMap::new(),
            start: Instant::now(),
            warned: None,
        }
    }

    /// Accepts connections until the caller drops this future. Each is served by the future that `serve` returns, in a
    /// task of its own.
    pub async fn accept<F, E>(
        &mut self,
        listener: &TcpListener,
        mut serve: impl FnMut(TcpStream, SocketAddr, Arc<Connection>) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let mut next_poll = Instant::now() + self.poll_interval();
        let mut incoming = Incoming::new(listener);
        loop {
            let accepted = tokio::select! {
                accepted = incoming.attempt() => accepted,
                () = sleep_until(next_poll) => {
                    self.close_overdue();
                    next_poll = Instant::now() + self.poll_interval();
                    continue;
                }
            };
            let Some((stream, peer)) = accepted else {
                self.close_longest_waiting();
                continue;
            };
            self.make_room().await;
            let _ = stream.set_nodelay(true);
            let connection = Arc::new(Connection::new(self.start));
            let served = serve(stream, peer, Arc::clone(&connection));
            let task = self.tasks.spawn(until_closed(served, Arc::clone(&connection)));
            self.by_id.insert(task.id(), connection);
        }
    }

    /// Waits up to `limit` until all connections have closed, then closes those that are left.
    pub async fn finish(mut self, limit: Duration) {
        let _ = timeout(limit, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.close().await;
    }

    /// Closes all connections, the busy ones, too.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    /// Returns the time between two checks for connections that have waited too long.
    fn poll_interval(&self) -> Duration {
        ((self.client_timeout)() / 10).clamp(RETRY_INTERVAL, Duration::from_secs(1))
    }

    /// Closes waiting connections until there is room for one more.
    async fn make_room(&mut self) {
        self.forget_ended();
        while self.tasks.len() >= self.limit {
            if self.warned.is_none_or(|warned| warned.elapsed() > WARN_INTERVAL) {
                self.warned = Some(Instant::now());
                tracing::warn!(
                    "{} connections are open, which is the limit: for each new one the longest idle one is closed",
                    self.tasks.len()
                );
            }
            self.close_longest_waiting();
            if let Ok(Some(ended)) = timeout(RETRY_INTERVAL, self.tasks.join_next_with_id()).await {
                self.by_id.remove(&id_of(&ended));
            }
        }
    }

    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.by_id.remove(&id_of(&ended));
        }
    }

    /// Closes the connection that has waited longest, if any has.
    fn close_longest_waiting(&self) {
        let waiting = self.by_id.values().filter(|connection| connection.waiting_since().is_some());
        if let Some(longest) = waiting.min_by_key(|connection| connection.waiting_since()) {
            longest.close_after(MIN_WAIT);
        }
    }

    /// Closes the connections that have waited too long.
    fn close_overdue(&mut self) {
        self.forget_ended();
        let limit = (self.client_timeout)();
        self.by_id.values().for_each(|connection| connection.close_after(limit));
    }
}

/// Serves a connection until it ends, or until it is closed while it waits. Before that it reads what the client has sent
/// meanwhile: if the server was slow, the client did not keep it waiting.
async fn until_closed<E: Display>(served: impl Future<Output = Result<(), E>>, connection: Arc<Connection>) {
    let mut served = pin!(served);
    let mut is_last_poll = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut served => {
                // Its errors are the client's: a lost connection, or bytes that are not of the protocol.
                if let Err(error) = ended {
                    tracing::debug!("connection ended: {error}");
                }
                return;
            }
            () = ready(()), if is_last_poll => {
                if connection.is_to_close() {
                    return;
                }
                is_last_poll = false;
            }
            () = connection.closing.notified() => {
                // The runtime polls the system for input before this task goes on.
                yield_now().await;
                is_last_poll = true;
            }
        }
    }
}

fn id_of(ended: &Result<(task::Id, ()), task::JoinError>) -> task::Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

/// The state of a connection, which waits for its client at first. Only its own task changes it, so none is closed with a
/// request in flight.
#[derive(Debug)]
pub struct Connection {
    /// The start of the server, from which times are counted.
    start: Instant,
    /// The time from which on it waits for its client, in microseconds; or [`BUSY`].
    since: AtomicU64,
    /// The wait at whose end it is to close.
    last_wait: AtomicU64,
    closing: Notify,
}

/// A request is in flight.
const BUSY: u64 = u64::MAX;

impl Connection {
    fn new(start: Instant) -> Self {
        let (since, last_wait) = (AtomicU64::new(micros_since(start)), AtomicU64::new(BUSY));
        Self { start, since, last_wait, closing: Notify::new() }
    }

    /// Marks the start of a request.
    pub fn set_busy(&self) {
        self.since.store(BUSY, Ordering::Release);
    }

    /// Marks the end of a request: from here on the connection waits for its client.
    pub fn set_waiting(&self) {
        self.since.store(micros_since(self.start), Ordering::Release);
    }

    fn waiting_since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| *since != BUSY)
    }

    /// Makes the connection close if it has waited for `limit`, unless it becomes busy meanwhile.
    fn close_after(&self, limit: Duration) {
        if let Some(since) = self.waiting_since()
            && self.start.elapsed() >= Duration::from_micros(since).saturating_add(limit)
        {
            self.last_wait.store(since, Ordering::Release);
            self.closing.notify_one();
        }
    }

    fn is_to_close(&self) -> bool {
        self.waiting_since() == Some(self.last_wait.load(Ordering::Acquire))
    }
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
