//! The server. It limits the number of connections, the size of a request's head, and the time that a client may keep it
//! waiting, for the head of a request or by not reading its answer; see [`accept`]. It stops without cutting off a request.

use std::{convert::Infallible, sync::Arc, time::Duration};

use accept::Connections;
use axum::body::Body;
use hops_config::Live;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Guarded, Peer};

/// The largest head, in bytes.
const HEADER_BYTES: usize = 16 * 1024;

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
    let mut http = http1::Builder::new();
    // The time limit for a head is that of `Connections`: hyper has none for an answer that the client does not read.
    http.max_buf_size(HEADER_BYTES).header_read_timeout(None);
    let graceful = GracefulShutdown::new();
    let mut open = Connections::new(bounds.connections, move || bounds.client_timeout.get());
    let accept = open.accept(&listener, |stream, peer, connection| {
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let (router, connection) = (router.clone(), Arc::clone(&connection));
            async move {
                connection.set_busy();
                let answer = router.answer(request.map(Body::new)).await;
                connection.set_waiting();
                Ok::<_, Infallible>(answer)
            }
        });
        graceful.watch(http.serve_connection(TokioIo::new(stream), service))
    });
    let _ = stop.run_until_cancelled(accept).await;
    drop(listener);
    let _ = timeout(bounds.finish.get(), graceful.shutdown()).await;
    open.close().await;
}

#[cfg(test)]
mod tests;
