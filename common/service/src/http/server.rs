//! The server: bounded in connections, in the size of a head, and in how long a client may keep it waiting;
//! stopped without cutting anyone off.
//!
//! A connection is either worked on, or it waits for its client: for the head of a request, or for the client
//! to take its answer. Only one that waits is ever closed, when it has waited too long, or the longest of all
//! and there is no place for a new one: idle clients keep nobody out.

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
/// For so long a new connection, or one that was just answered, is not closed for another's sake.
const FRESH: Duration = Duration::from_millis(100);
/// Between two looks for a place while there is none.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two lines that say that all places are taken.
const QUIET: Duration = Duration::from_secs(60);

/// What the server holds its clients to.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// How many connections are open at a time.
    pub connections: usize,
    /// How long a client may keep a connection waiting.
    pub client_timeout: Live<Duration>,
    /// How long requests in hand may still take after the stop.
    pub finish: Live<Duration>,
}

/// Serves until `stop`, then finishes the requests in hand: a client that has sent half a request holds
/// nobody up.
pub async fn serve(listener: TcpListener, router: Guarded, bounds: Bounds, stop: CancellationToken) {
    let mut open = Connections::new(router, bounds.clone());
    let accept = async {
        let mut look = looks(&bounds);
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = look.tick() => {
                    open.close_overdue();
                    let anew = looks(&bounds);
                    if anew.period() != look.period() {
                        look = anew;
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    is_failing = false;
                    open.make_place().await;
                    open.serve(stream, Peer(peer));
                }
                Err(error) => {
                    // Mostly: the machine has no more open files. It passes when connections go.
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!("cannot accept a connection: {error}");
                    }
                    open.close_longest_waiting();
                    sleep(FRESH).await;
                }
            }
        }
    };
    let _ = stop.run_until_cancelled(accept).await;
    drop(listener);
    let _ = timeout(bounds.finish.get(), open.graceful.shutdown()).await;
    open.tasks.shutdown().await;
}

/// When to look for clients that have kept the server waiting too long.
fn looks(bounds: &Bounds) -> Interval {
    let period = (bounds.client_timeout.get() / 10).clamp(PAUSE, Duration::from_secs(1));
    let mut looks = interval_at(Instant::now() + period, period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// The connections that are open.
struct Connections {
    router: Guarded,
    bounds: Bounds,
    http: http1::Builder,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    by_id: HashMap<task::Id, Arc<State>>,
    start: Instant,
    told: Option<Instant>,
}

impl Connections {
    fn new(router: Guarded, bounds: Bounds) -> Self {
        let mut http = http1::Builder::new();
        // How long a head may take is our business, since an answer that is not taken is held to the same.
        http.max_buf_size(HEADER_BYTES).header_read_timeout(None);
        Self {
            router,
            bounds,
            http,
            graceful: GracefulShutdown::new(),
            tasks: JoinSet::new(),
            by_id: HashMap::new(),
            start: Instant::now(),
            told: None,
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

    /// Waits until there is a place for one more, and sees to it that there is.
    async fn make_place(&mut self) {
        self.forget_ended();
        while self.tasks.len() >= self.bounds.connections {
            if self.told.is_none_or(|told| told.elapsed() > QUIET) {
                self.told = Some(Instant::now());
                tracing::warn!(
                    "{} connections are open, which is the limit: for each new one the longest idle one is closed",
                    self.tasks.len()
                );
            }
            self.close_longest_waiting();
            if let Ok(Some(ended)) = timeout(PAUSE, self.tasks.join_next_with_id()).await {
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
            self.close_after(longest, FRESH);
        }
    }

    /// Closes all that have waited too long.
    fn close_overdue(&mut self) {
        self.forget_ended();
        let limit = self.bounds.client_timeout.get();
        self.by_id.values().for_each(|state| self.close_after(state, limit));
    }

    fn close_after(&self, state: &State, limit: Duration) {
        if let Some(since) = state.waiting_since()
            && self.start.elapsed() >= Duration::from_micros(since) + limit
        {
            state.give_up(since);
        }
    }
}

/// Serves a connection until it ends, or is given up while it waits. What its client has sent by then is looked
/// at first: where the server is the slow one, the client has not kept it waiting.
async fn until_closed<E: Display>(connection: impl Future<Output = Result<(), E>>, state: Arc<State>) {
    let mut connection = pin!(connection);
    let mut is_last_look = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                // Its errors are the client's: a cut, nonsense.
                if let Err(error) = ended {
                    tracing::debug!("connection ended: {error}");
                }
                return;
            }
            () = ready(()), if is_last_look => {
                if state.is_given_up() {
                    return;
                }
                is_last_look = false;
            }
            () = state.told.notified() => {
                // The runtime asks the system for what has arrived before this goes on.
                yield_now().await;
                is_last_look = true;
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

/// What a connection does. Only its own task changes it, so none is closed with a request in hand.
struct State {
    /// Since when it waits for its client, in microseconds since the server's start; or [`WORKING`].
    since: AtomicU64,
    /// The wait that is to end with it.
    given_up: AtomicU64,
    told: Notify,
}

/// A request is worked on.
const WORKING: u64 = u64::MAX;

impl State {
    fn new(start: Instant) -> Self {
        let since = AtomicU64::new(micros_since(start));
        Self { since, given_up: AtomicU64::new(WORKING), told: Notify::new() }
    }

    /// A request is begun.
    fn work(&self) {
        self.since.store(WORKING, Ordering::Release);
    }

    /// The request is answered.
    fn wait(&self, start: Instant) {
        self.since.store(micros_since(start), Ordering::Release);
    }

    fn waiting_since(&self) -> Option<u64> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| *since != WORKING)
    }

    /// Tells the connection to end, if it still waits since then.
    fn give_up(&self, since: u64) {
        self.given_up.store(since, Ordering::Release);
        self.told.notify_one();
    }

    fn is_given_up(&self) -> bool {
        self.waiting_since() == Some(self.given_up.load(Ordering::Acquire))
    }
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
