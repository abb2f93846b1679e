//! The server: bounded in connections, in the size of a head, and in how long a client may keep it waiting;
//! stopped without cutting anyone off.
//!
//! A connection is either worked on, or it waits for its client: for the head of a request, or for the client
//! to take its answer. Only one that waits is ever closed, when it has waited too long, or the longest of all
//! and there is no place for a new one: idle clients keep nobody out.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{self, AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Guarded;

/// The largest head, in bytes.
const HEADER_BYTES: usize = 16 * 1024;
/// For so long a new connection, or one that was just answered, is not closed for another's sake.
const FRESH: Duration = Duration::from_millis(100);
/// Between two looks for a place while there is none.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two lines that say that all places are taken.
const QUIET: Duration = Duration::from_secs(60);

/// What the server holds its clients to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many connections are open at a time.
    pub connections: usize,
    /// How long a client may keep a connection waiting.
    pub client_timeout: Duration,
    /// How long requests in hand may still take after the stop.
    pub finish: Duration,
}

/// Serves until `stop`, then finishes the requests in hand: a client that has sent half a request holds
/// nobody up.
pub async fn serve(listener: TcpListener, router: Guarded, bounds: Bounds, stop: CancellationToken) {
    let mut open = Connections::new(router, bounds);
    let accept = async {
        let mut look = interval((bounds.client_timeout / 10).clamp(PAUSE, Duration::from_secs(1)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = look.tick() => {
                    open.close_overdue();
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    is_failing = false;
                    open.make_place().await;
                    open.serve(stream);
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
    let _ = timeout(bounds.finish, open.graceful.shutdown()).await;
    open.tasks.shutdown().await;
}

/// The connections that are open.
struct Connections {
    router: Guarded,
    bounds: Bounds,
    http: http1::Builder,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
    by_id: HashMap<task::Id, (Arc<State>, AbortHandle)>,
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

    fn serve(&mut self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let state = Arc::new(State::new(self.start));
        let (router, of_service, start) = (self.router.clone(), Arc::clone(&state), self.start);
        let service = service_fn(move |request: Request<Incoming>| {
            let (router, state) = (router.clone(), Arc::clone(&of_service));
            async move {
                if !state.work() {
                    // It is being closed: a request that was not begun can be sent again.
                    pending::<()>().await;
                }
                let answer = router.answer(request.map(Body::new)).await;
                state.wait(start);
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.graceful.watch(self.http.serve_connection(TokioIo::new(stream), service));
        let task = self.tasks.spawn(async move {
            // Its errors are the client's: a cut, nonsense.
            if let Err(error) = connection.await {
                tracing::debug!("connection ended: {error}");
            }
        });
        self.by_id.insert(task.id(), (state, task));
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
        let since = |(state, _): &&(Arc<State>, AbortHandle)| state.waiting_since();
        if let Some(longest) = self.by_id.values().filter(|place| since(place).is_some()).min_by_key(since) {
            self.close_after(longest, FRESH);
        }
    }

    /// Closes all that have waited too long.
    fn close_overdue(&mut self) {
        self.forget_ended();
        self.by_id.values().for_each(|place| self.close_after(place, self.bounds.client_timeout));
    }

    fn close_after(&self, (state, task): &(Arc<State>, AbortHandle), limit: Duration) {
        if let Some(since) = state.waiting_since()
            && self.start.elapsed() >= Duration::from_micros(since) + limit
            && state.close(since)
        {
            task.abort();
        }
    }
}

fn id_of(ended: &Result<(task::Id, ()), task::JoinError>) -> task::Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

/// Since when a connection waits for its client, in microseconds since the server's start; or one of the two
/// below. Changed by compare and swap, so that no connection is closed with a request in hand.
struct State(AtomicU64);

/// A request is worked on.
const WORKING: u64 = u64::MAX;
/// It is being closed, and takes no request any more.
const CLOSED: u64 = u64::MAX - 1;

impl State {
    fn new(start: Instant) -> Self {
        Self(AtomicU64::new(micros_since(start)))
    }

    /// Begins a request, unless the connection is being closed.
    fn work(&self) -> bool {
        self.0.swap(WORKING, Ordering::AcqRel) != CLOSED
    }

    /// The request is answered.
    fn wait(&self, start: Instant) {
        self.0.store(micros_since(start), Ordering::Release);
    }

    fn waiting_since(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|since| ![WORKING, CLOSED].contains(since))
    }

    /// From now on no request is begun; whether it has waited since then without one.
    fn close(&self, since: u64) -> bool {
        self.0.compare_exchange(since, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
