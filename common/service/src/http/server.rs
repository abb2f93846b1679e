//! The server: that of [`http_server`], with a request's peer for the operators' access.

use std::{net::SocketAddr, time::Duration};

use axum::extract::Request;
use http_server::Bounds;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Guarded, Peer};

/// Serves until `stop`, then finishes the requests in flight.
pub async fn serve(
    listener: TcpListener,
    router: Guarded,
    bounds: Bounds<impl Fn() -> Duration, impl FnOnce() -> Duration>,
    stop: CancellationToken,
) {
    let answer = move |mut request: Request, peer: SocketAddr| {
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        async move { router.answer(request).await }
    };
    http_server::serve(listener, answer, bounds, stop).await;
}

#[cfg(test)]
mod tests;
