//! A service's run, and from SIGTERM to its exit, in order, within the grace period.
//!
//! The order keeps the promises: first no new work arrives, then the work in flight is finished while everything that it
//! needs still runs, and only then are the connections closed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use documented::DocumentedFields;
use hops_config::{InvalidValue, LiveSection, Moment, Reloadable, Section};
use messaging::{MessagingClient, Subscription};
use outbox::{self, Outbox};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http::{self, Health};

/// Time limit for the relay when all else is done; the other messages stay on disk.
const OUTBOX_DRAIN: Duration = Duration::from_secs(3);

/// The most connections at a time; for one more, the longest idle one is closed. Idle ones cost some kilobytes each.
const CONNECTION_LIMIT: usize = 10_000;

/// The settings of the shutdown.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// Time limit from SIGTERM to exit: what is not done by then is logged, and the exit code is 1 (default 10s)
    #[serde(with = "hops_config::reloadable::duration")]
    pub shutdown_grace: Reloadable<Duration>,
    /// How long requests are still accepted after SIGTERM, while load balancers notice (default 0s, in the stack 3s)
    #[serde(with = "hops_config::reloadable::duration")]
    pub shutdown_linger: Reloadable<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { shutdown_grace: Duration::from_secs(10).into(), shutdown_linger: Duration::ZERO.into() }
    }
}

impl Section for Settings {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        match self.shutdown_grace.at(moment) > self.shutdown_linger.at(moment) {
            true => Ok(()),
            false => Err(InvalidValue::new(
                "shutdown_grace",
                "must be longer than shutdown_linger, which is a part of it",
            )),
        }
    }
}

/// The parts of a running service.
#[expect(missing_debug_implementations, reason = "its parts are traits and futures; nobody prints it")]
pub struct Service {
    /// The socket that it listens on.
    pub listener: TcpListener,
    /// Its routes: see [`http::router`].
    pub router: http::Guarded,
    /// The checks of `/readyz`.
    pub health: Arc<Health>,
    /// Its messaging client, connecting already.
    pub client: Arc<dyn MessagingClient>,
    /// Its consumers.
    pub subscriptions: Vec<Subscription>,
    /// Its outbox, if it has one. It is closed at the end.
    pub outbox: Option<Arc<Outbox>>,
    /// The folder of its data.
    pub folder: PathBuf,
}

impl Service {
    /// Serves until `stop`, then shuts down in order.
    ///
    /// # Errors
    /// The work that was left at the end of the grace period; the exit code is then not 0.
    pub async fn run(
        self,
        settings: &LiveSection<Settings>,
        http: &LiveSection<http::Settings>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let accepting = CancellationToken::new();
        let relaying = CancellationToken::new();
        let tasks = TaskTracker::new();
        if let Some(outbox) = &self.outbox {
            let (outbox, client, stop) = (Arc::clone(outbox), Arc::clone(&self.client), relaying.clone());
            tasks.spawn(async move { stop.run_until_cancelled(outbox::relay(&outbox, &*client)).await });
        }
        if let Ok(address) = self.listener.local_addr() {
            tracing::info!(port = address.port(), "listening on http://{address}");
        }
        // No request takes longer than its time-out, and half of what is left of the grace is for the rest.
        let request_timeout = http.live(|http, moment| *http.request_timeout.at(moment));
        let finish = move |settings: &Settings, moment| {
            let (grace, linger) = (*settings.shutdown_grace.at(moment), *settings.shutdown_linger.at(moment));
            request_timeout.get().min(grace.saturating_sub(linger) / 2)
        };
        let client_timeout = http.live(|http, moment| *http.client_timeout.at(moment));
        let finish = settings.live(finish);
        let bounds = http_server::Bounds {
            connections: accept::affordable_connections(CONNECTION_LIMIT),
            client_timeout: move || client_timeout.get(),
            finish: move || finish.get(),
        };
        let server = http::serve(self.listener, self.router, bounds, accepting.clone());
        let server = tasks.spawn(server);

        stop.cancelled().await;
        let grace = settings.live(|settings, moment| *settings.shutdown_grace.at(moment)).get();
        let linger = settings.live(|settings, moment| *settings.shutdown_linger.at(moment)).get();
        let in_order = async {
            // 1. No new work arrives.
            self.health.drain();
            self.subscriptions.iter().for_each(Subscription::cancel);
            // 2. Load balancers notice; until then requests are still answered.
            sleep(linger).await;
            // 3. Requests are answered.
            accepting.cancel();
            let _ = server.await;
            // 4. Deliveries are handled, published and acknowledged.
            for subscription in &self.subscriptions {
                subscription.finished().await;
            }
            // 5. Messages in the outbox are published, within a time limit.
            if let Some(outbox) = &self.outbox {
                let _ = timeout(OUTBOX_DRAIN, outbox.drained()).await;
            }
            relaying.cancel();
            tasks.close();
            tasks.wait().await;
            // 6. Connections close, and the outbox.
            self.client.close().await;
            match &self.outbox {
                Some(outbox) => outbox.close().await,
                None => Ok(()),
            }
        };
        let in_time = timeout(grace, in_order).await;
        let waiting = self.outbox.as_ref().map_or(0, |outbox| outbox.len());
        if waiting > 0 {
            let folder = self.folder.display();
            tracing::warn!("{waiting} waiting in the outbox in {folder}: sent at the next start");
        }
        in_time.map_err(|_| {
            let deliveries: usize = self.subscriptions.iter().map(Subscription::in_flight).sum();
            let requests = self.health.requests();
            let left = format!(
                "not done within {grace:?}, left: requests in flight {requests}, deliveries in flight {deliveries} (they are \
                 delivered again), waiting in the outbox {waiting}",
            );
            tracing::warn!("{left}");
            left
        })?
    }
}
