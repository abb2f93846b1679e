//! The HTTP server of the services and of the tools.
//!
//! It limits the number of connections, the size of a request's head, and the time that a client may keep it waiting, for
//! the head of a request or by not reading its answer; see [`accept`]. It stops without cutting off a request. It knows no
//! routes, and limits neither the time nor the number of requests.
//!
//! - `body`: answers that last, such as streams of events

mod body;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use accept::Connections;
use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

/// Default time limit for a client that keeps a connection waiting.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest head, in bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// The server's limits.
#[derive(Debug, Clone)]
pub struct Bounds<C, F> {
    /// The most connections at a time.
    pub connections: usize,
    /// Returns the time limit for a client that keeps a connection waiting, which may change.
    pub client_timeout: C,
    /// Returns the time limit for requests in flight after the stop.
    pub finish: F,
}

/// Serves until `stop`, then finishes the requests in flight. A client that has sent half a request delays nothing.
/// `answer` gets each request with the address of its client.
pub async fn serve<A: Future<Output = Response> + Send + 'static>(
    listener: TcpListener,
    answer: impl Fn(Request, SocketAddr) -> A + Clone + Send + 'static,
    bounds: Bounds<impl Fn() -> Duration, impl FnOnce() -> Duration>,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    // The time limit for a head is that of `Connections`: hyper has none for an answer that the client does not read.
    http.max_buf_size(HEADER_BYTES).header_read_timeout(None);
    let graceful = GracefulShutdown::new();
    let mut open = Connections::new(bounds.connections, bounds.client_timeout);
    let accept = open.accept(&listener, |stream, peer, connection| {
        let answer = answer.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            connection.set_busy();
            let (answered, connection) = (answer(request.map(Body::new), peer), Arc::clone(&connection));
            async move {
                let answer = answered.await;
                connection.set_waiting();
                Ok::<_, Infallible>(body::watched(answer, connection))
            }
        });
        graceful.watch(http.serve_connection(TokioIo::new(stream), service))
    });
    let _ = stop.run_until_cancelled(accept).await;
    drop(listener);
    let _ = timeout((bounds.finish)(), graceful.shutdown()).await;
    open.close().await;
}

/// Serves the routes of `router`; see [`serve`].
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    bounds: Bounds<impl Fn() -> Duration, impl FnOnce() -> Duration>,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let answer = move |request, _| {
        let answered = router.call(request);
        async move { answered.await.into_response() }
    };
    serve(listener, answer, bounds, stop).await;
}

#[cfg(test)]
mod tests;
