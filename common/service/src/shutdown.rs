//! A service's run, and from SIGTERM to its exit, in order, within the grace period.
//!
//! The order is what keeps the promises: first nobody sends us anything new, then what is in hand is
//! finished while everything that it needs still works, and only then are the connections closed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use hops_config::{Live, SharedSettings};
use messaging::{MessagingClient, Subscription};
use outbox::{self, Outbox};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    http::{self, Health},
    startup::{self, Exit},
};

/// How long the relay may still publish when all else is done; what is left waits on disk.
const OUTBOX_DRAIN: Duration = Duration::from_secs(3);

/// All that a service runs, put together by its `run`.
#[expect(missing_debug_implementations, reason = "its parts are traits and futures; nobody prints it")]
pub struct Service {
    /// Where it listens.
    pub listener: TcpListener,
    /// What it answers: see [`http::router`].
    pub router: http::Guarded,
    /// What `/readyz` reports.
    pub health: Arc<Health>,
    /// Its messaging client, connecting already.
    pub client: Arc<dyn MessagingClient>,
    /// Its consumers.
    pub subscriptions: Vec<Subscription>,
    /// Its outbox, if it has one.
    pub outbox: Option<OutboxOnDisk>,
}

/// An outbox and where it is.
#[derive(Debug)]
pub struct OutboxOnDisk {
    /// The outbox.
    pub outbox: Arc<Outbox>,
    /// The store it is in, which is flushed at the end.
    pub store: sled::Db,
    /// The store's folder.
    pub folder: PathBuf,
}

/// The first SIGTERM or SIGINT cancels the token; a second ends the process at once, with code 130.
///
/// # Errors
/// The system's, if signals cannot be listened to.
pub fn signals() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let listen = async move {
        for first in [true, false] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if first {
                tracing::info!("{name}: finishing what is in hand; once more to stop at once");
                stopping.cancel();
            }
        }
        tracing::warn!("a second signal: stopping at once");
        exit_at_once();
    };
    spawn_until_exit(listen);
    Ok(stop)
}

#[expect(clippy::disallowed_methods, reason = "it listens until the process ends, and nobody waits for it")]
fn spawn_until_exit(listen: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(listen);
}

#[expect(clippy::exit, reason = "whoever signals twice has decided that nothing is worth waiting for")]
fn exit_at_once() -> ! {
    std::process::exit(Exit::AtOnce as i32)
}

impl Service {
    /// Serves until `stop`, then shuts down in order.
    ///
    /// # Errors
    /// What was left when the grace period was over, for the log; the exit code is then not 0.
    pub async fn run(
        self,
        settings: impl Into<Live<Arc<SharedSettings>>>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let settings = settings.into();
        let accepting = CancellationToken::new();
        let relaying = CancellationToken::new();
        let tasks = TaskTracker::new();
        if let Some(OutboxOnDisk { outbox, .. }) = &self.outbox {
            let (outbox, client, stop) = (Arc::clone(outbox), Arc::clone(&self.client), relaying.clone());
            tasks.spawn(async move { stop.run_until_cancelled(outbox::relay(&outbox, &*client)).await });
        }
        if let Ok(address) = self.listener.local_addr() {
            tracing::info!(port = address.port(), "listening on http://{address}");
        }
        // No request takes longer than its time-out, and half of what is left of the grace is for the rest.
        let finish = |settings: Arc<SharedSettings>| {
            let left = settings.shutdown_grace.saturating_sub(settings.shutdown_linger);
            settings.request_timeout.min(left / 2)
        };
        let bounds = http::Bounds {
            connections: startup::affordable_connections(settings.get().connection_limit),
            client_timeout: settings.map(|settings| settings.client_timeout),
            finish: settings.map(finish),
        };
        let server = http::serve(self.listener, self.router, bounds, accepting.clone());
        let server = tasks.spawn(server);

        stop.cancelled().await;
        let settings = settings.get();
        let in_order = async {
            // 1. Nobody sends us anything new.
            self.health.drain();
            self.subscriptions.iter().for_each(Subscription::cancel);
            // 2. Load balancers notice; until then requests are still answered.
            sleep(settings.shutdown_linger).await;
            // 3. What was asked is answered.
            accepting.cancel();
            let _ = server.await;
            // 4. What was delivered is handled, published and acknowledged.
            for subscription in &self.subscriptions {
                subscription.finished().await;
            }
            // 5. What is in the outbox is published, as far as it goes.
            if let Some(OutboxOnDisk { outbox, .. }) = &self.outbox {
                let _ = timeout(OUTBOX_DRAIN, outbox.drained()).await;
            }
            relaying.cancel();
            tasks.close();
            tasks.wait().await;
            // 6. Connections close, the store is flushed.
            self.client.close().await;
            match &self.outbox {
                Some(on_disk) => on_disk.store.flush_async().await.map(drop),
                None => Ok(()),
            }
        };
        let in_time = timeout(settings.shutdown_grace, in_order).await;
        let waiting = self.outbox.as_ref().map_or(0, |on_disk| on_disk.outbox.len());
        if let Some(OutboxOnDisk { folder, .. }) = self.outbox.as_ref().filter(|_| waiting > 0) {
            tracing::warn!("{waiting} waiting in the outbox in {}: sent at the next start", folder.display());
        }
        let flushed = in_time.map_err(|_| {
            let deliveries: usize = self.subscriptions.iter().map(Subscription::in_flight).sum();
            let requests = self.health.requests();
            let left = format!(
                "not done within {:?}, left: requests in hand {requests}, deliveries in hand {deliveries} (they are \
                 delivered again), waiting in the outbox {waiting}",
                settings.shutdown_grace
            );
            tracing::warn!("{left}");
            left
        })?;
        flushed.map_err(|e| format!("the store cannot be flushed: {e}"))
    }
}
