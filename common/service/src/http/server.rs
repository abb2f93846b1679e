//! The server. It limits the number of connections, the size of a request's head, and the time that a client may keep it
//! waiting. It stops without cutting off a request.
//!
//! A connection is either busy, with a request in flight, or it waits for its client: for the head of a request, or for
//! the client to read its answer. The server closes only connections that wait: those that have waited too long, and the
//! one that has waited longest when a new connection needs its place. So idle clients lock nobody out.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Display,
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use hops_config::Live;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{self, JoinSet, yield_now},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Guarded, Peer};

/// The largest head, in bytes.
const HEADER_BYTES: usize = 16 * 1024;
/// Shortest wait after which a connection may be closed to make room for another.
const MIN_WAIT: Duration = Duration::from_millis(100);
/// Time between two attempts to make room while there is none.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Shortest time between two warnings that the limit is reached.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The server's limits.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The most connections at a time.
    pub connections: usize,
    /// Time limit for a client that keeps a connection waiting.
    pub client_timeout: Live<Duration>,
    /// Time limit for requests in flight after the stop.
    pub finish: Live<Duration>,
}

/// Serves until `stop`, then finishes the requests in flight. A client that has sent half a request delays nothing.
pub async fn serve(listener: TcpListener, router: Guarded, bounds: Bounds, stop: CancellationToken) {
    let mut open = Connections::new(router, bounds.clone());
    let accept = async {
        let mut poll = polls(&bounds);
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = poll.tick() => {
                    open.close_overdue();
                    let new = polls(&bounds);
                    if new.period() != poll.period() {
                        poll = new;
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    is_failing = false;
                    open.make_room().await;
                    open.serve(stream, Peer(peer));
                }
                Err(error) => {
                    // Usually the process has no more open files, until connections close.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!("cannot accept a connection: {error}");
                    }
                    open.close_longest_waiting();
                    sleep(MIN_WAIT).await;
                }
            }
        }
    };
    let _ = stop.run_until_cancelled(accept).await;
    drop(listener);
    let _ = timeout(bounds.finish.get(), open.graceful.shutdown()).await;
    open.tasks.shutdown().await;
}

/// Returns the interval at which connections that have waited too long are closed.
fn polls(bounds: &Bounds) -> Interval {
    let period = (bounds.client_timeout.get() / 10).clamp(RETRY_INTERVAL, Duration::from_secs(1));
    let mut polls = interval_at(Instant::now() + period, period);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    polls
}

/// The open connections.
struct Connections {
    router: Guarded,
    bounds: Bounds,
    http: http1::Builder,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    by_id: HashMap<task::Id, Arc<State>>,
    start: Instant,
    /// The time of the last warning that the limit is reached.
    warned: Option<Instant>,
}

impl Connections {
    fn new(router: Guarded, bounds: Bounds) -> Self {
        let mut http = http1::Builder::new();
        // The time limit for a head is ours: hyper has none for an answer that the client does not read.
        http.max_buf_size(HEADER_BYTES).header_read_timeout(None);
        Self {
            router,
            bounds,
            http,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            by_id: HashMap::new(),
            start: Instant::now(),
            warned: None,
        }
    }

    fn serve(&mut self, stream: TcpStream, peer: Peer) {
        let _ = stream.set_nodelay(true);
        let state = Arc::new(State::new(self.start));
        let (router, of_service, start) = (self.router.clone(), Arc::clone(&state), self.start);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let (router, state) = (router.clone(), Arc::clone(&of_service));
            async move {
                state.work();
                let answer = router.answer(request.map(Body::new)).await;
                state.wait(start);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.graceful.watch(self.http.serve_connection(TokioIo::new(stream), service));
        let task = self.tasks.spawn(until_closed(connection, Arc::clone(&state)));
        self.by_id.insert(task.id(), state);
    }

    /// Closes waiting connections until there is room for one more.
    async fn make_room(&mut self) {
        self.forget_ended();
        while self.tasks.len() >= self.bounds.connections {
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
        let waiting = self.by_id.values().filter(|state| state.waiting_since().is_some());
        if let Some(longest) = waiting.min_by_key(|state| state.waiting_since()) {
            self.close_after(longest, MIN_WAIT);
        }
    }

    /// Closes the connections that have waited too long.
    fn close_overdue(&mut self) {
        self.forget_ended();
        let limit = self.bounds.client_timeout.get();
        self.by_id.values().for_each(|state| self.close_after(state, limit));
    }

    fn close_after(&self, state: &State, limit: Duration) {
        if let Some(since) = state.waiting_since()
            && self.start.elapsed() >= Duration::from_micros(since) + limit
        {
            state.close(since);
        }
    }
}

/// Serves a connection until it ends, or until it is closed while it waits. Before that it reads what the client has sent
/// meanwhile: if the server was slow, the client did not keep it waiting.
async fn until_closed<E: Display>(connection: impl Future<Output = Result<(), E>>, state: Arc<State>) {
    let mut connection = pin!(connection);
    let mut is_last_poll = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                // Its errors are the client's: a lost connection, or bytes that are not HTTP.
                if let Err(error) = ended {
                    tracing::debug!("connection ended: {error}");
                }
                return;
            }
            () = ready(()), if is_last_poll => {
                if state.is_to_close() {
                    return;
                }
                is_last_poll = false;
            }
            () = state.closing.notified() => {
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

/// The state of a connection. Only its own task changes it, so none is closed with a request in flight.
struct State {
    /// The time from which on it waits for its client, in microseconds since the server's start; or [`BUSY`].
    since: AtomicU64,
    /// The wait at whose end it is to close.
    last_wait: AtomicU64,
    closing: Notify,
}

/// A request is in flight.
const BUSY: u64 = u64::MAX;

impl State {
    fn new(start: Instant) -> Self {
        let since = AtomicU64::new(micros_since(start));
        Self { since, last_wait: AtomicU64::new(BUSY), closing: Notify::new() }
    }

    /// Marks the start of a request.
    fn work(&self) {
        self.since.store(BUSY, Ordering::Release);
    }

    /// Marks the end of a request.
    fn wait(&self, start: Instant) {
        self.since.store(micros_since(start), Ordering::Release);
    }

    fn waiting_since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| *since != BUSY)
    }

    /// Makes the connection close, unless it has become busy meanwhile.
    fn close(&self, since: u64) {
        self.last_wait.store(since, Ordering::Release);
        self.closing.notify_one();
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
