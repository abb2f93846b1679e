//! The server: bounded in connections, header size and header time, and stopped without cutting anyone off.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Guarded;

/// How long a client may take to send a request's head, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head, in bytes.
const HEADER_BYTES: usize = 16 * 1024;

/// Serves until `stop`, then finishes the requests in hand, for at most `finish`: a client that has sent half
/// a request holds nobody up. At most `connections` are open at a time; the kernel keeps further ones waiting.
pub async fn serve(
    listener: TcpListener,
    router: Guarded,
    connections: usize,
    finish: Duration,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(connections));
    let (graceful, mut open) = (GracefulShutdown::new(), JoinSet::new());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES);
    let accept = async {
        loop {
            while open.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Mostly: too many open files. It passes when clients go.
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let router = router.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let router = router.clone();
                async move { Ok::<_, Infallible>(router.answer(request.map(Body::new)).await) }
            });
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            open.spawn(async move {
                // Its errors are the client's: a cut, a time-out, nonsense.
                if let Err(error) = connection.await {
                    tracing::debug!("connection ended: {error}");
                }
                drop(slot);
            });
        }
    };
    let _ = stop.run_until_cancelled(accept).await;
    drop(listener);
    let _ = timeout(finish, graceful.shutdown()).await;
    open.shutdown().await;
}
