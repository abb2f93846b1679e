//! One of the client's two connections, connected again whenever it is lost.
//!
//! A `Link` is the role ("publishing"), a `Session` is one connection of it: when it is lost, the next one is dialed,
//! and its users make their channels and consumers anew.

use std::{sync::Arc, time::Duration};

use backoff::Backoff;
use futures_util::StreamExt;
use lapin::Event;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{AmqpOptions, dial::dial, fault::Fault, session::Session};
use crate::broker::{BrokerUrl, Login};
use crate::{LinkStatus, metrics::Metrics, topology::Queue};

/// Limit of the first wait before another attempt to connect: each wait is drawn from zero to its limit.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// After a connection that lived this long, the next wait is short again.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// Time between two checks of a connection's state.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// One of the client's two connections, as a role.
#[derive(Debug, Clone)]
pub struct Link {
    role: &'static str,
    pub(super) options: Arc<AmqpOptions>,
    pub(super) metrics: Arc<Metrics>,
    state: Arc<watch::Sender<State>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct State {
    session: Option<Arc<Session>>,
    status: LinkStatus,
}

impl Link {
    pub(super) fn new(
        role: &'static str,
        options: &Arc<AmqpOptions>,
        metrics: &Arc<Metrics>,
        stop: &CancellationToken,
    ) -> Self {
        let state = State { session: None, status: LinkStatus::Connecting(None) };
        let state = Arc::new(watch::Sender::new(state));
        Self { role, options: Arc::clone(options), metrics: Arc::clone(metrics), state, stop: stop.clone() }
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.state.borrow().status.clone()
    }

    /// Returns the operation time-out.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.options.settings.amqp_operation_timeout
    }

    /// Waits for a connection; returns `None` once the client is closed.
    pub async fn session(&self) -> Option<Arc<Session>> {
        let mut state = self.state.subscribe();
        let up = state.wait_for(|state| state.session.is_some());
        self.stop.run_until_cancelled(up).await?.ok()?.session.clone()
    }

    /// Waits for a connection, at most for the operation time-out, and not while a person has to act.
    ///
    /// # Errors
    /// The state in which the connection is instead.
    pub async fn session_in_time(&self) -> Result<Arc<Session>, Fault> {
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| {
            state.session.is_some() || matches!(state.status, LinkStatus::Refused(_) | LinkStatus::Closed)
        });
        let _ = timeout(self.limit(), decided).await;
        let session = self.state.borrow().session.clone();
        let why = || match self.status() {
            status @ LinkStatus::Connecting(_) => format!("no broker within {:?}: {status}", self.limit()),
            status => format!("no broker: {status}"),
        };
        session.ok_or_else(|| Fault::Transient(why()))
    }

    /// Connects, and connects again after each loss, until the client is closed.
    pub(super) async fn keep_connected(self) {
        let longest = self.options.settings.amqp_backoff_max;
        let mut backoff = Backoff::new(FIRST_BACKOFF.min(longest), longest);
        // Clients of a cluster begin at different nodes.
        let addresses = self.options.broker.addresses();
        let first = rand::random_range(0..addresses.len());
        for address in addresses.iter().cycle().skip(first) {
            let Some(attempt) = self.stop.run_until_cancelled(self.establish(address)).await else {
                break;
            };
            let wait = match attempt {
                Ok(session) => {
                    let since = Instant::now();
                    let why = self.use_until_lost(session, &address.0).await;
                    if since.elapsed() >= STABLE_AFTER {
                        backoff.reset();
                    }
                    if self.stop.is_cancelled() {
                        break;
                    }
                    tracing::warn!(
                        role = self.role,
                        "lost the connection to the broker at {}: {why}",
                        address.0
                    );
                    backoff.next_wait()
                }
                Err(Fault::Refused(why)) => {
                    self.record_failure(LinkStatus::Refused(format!("{}: {why}", address.0)));
                    longest.mul_f64(rand::random_range(0.5..1.0))
                }
                Err(fault) => {
                    self.record_failure(LinkStatus::Connecting(Some(format!("{}: {fault}", address.0))));
                    backoff.next_wait()
                }
            };
            if self.stop.run_until_cancelled(sleep(wait)).await.is_none() {
                break;
            }
        }
        self.set(LinkStatus::Closed, None);
    }

    /// Dials, and declares the topology.
    async fn establish(&self, address: &(BrokerUrl, Login)) -> Result<Session, Fault> {
        let session = self.dial(address, self.role).await?;
        let declared = session.declare(&self.options.topology).await;
        if declared.is_err() {
            session.close().await;
        }
        declared.map(|()| session)
    }

    /// Dials a connection for one task, with nothing declared; the task closes it.
    ///
    /// # Errors
    /// The fault of the last address.
    pub async fn dial_another(&self, role: &str) -> Result<Session, Fault> {
        let mut failed = Fault::Transient("no address is configured".into());
        for address in self.options.broker.addresses() {
            match self.dial(address, role).await {
                Ok(session) => return Ok(session),
                Err(fault) => failed = fault,
            }
        }
        Err(failed)
    }

    async fn dial(&self, address: &(BrokerUrl, Login), role: &str) -> Result<Session, Fault> {
        let (connection, socket) = dial(&self.options, address, role).await?;
        Ok(Session::new(connection, socket, self.limit()))
    }

    /// Returns the declaration of a queue, if this client declares it.
    #[must_use]
    pub fn declared(&self, queue: &str) -> Option<&Queue> {
        self.options.topology.queues.iter().find(|declared| declared.name == queue)
    }

    /// Lends the session out until it is lost or the client is closed; returns the reason.
    async fn use_until_lost(&self, session: Session, address: &BrokerUrl) -> String {
        // Only one listener: lapin's listeners take events away from each other.
        let mut events = Box::pin(session.connection.events_listener());
        let session = Arc::new(session);
        self.set(LinkStatus::Up, Some(Arc::clone(&session)));
        self.metrics.connected.inc();
        tracing::info!(role = self.role, "connected to the broker at {address}");
        let why = loop {
            tokio::select! {
                () = self.stop.cancelled() => break "closed by this client".to_owned(),
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => self.block(&session, Some(why)),
                    Some(Event::ConnectionUnblocked) => self.block(&session, None),
                    // A soft error closes one channel, whose user is notified.
                    Some(Event::Error(error)) if !error.is_amqp_soft_error() => break error.to_string(),
                    Some(_) => {}
                    None => break "the connection ended".to_owned(),
                },
                // An event may be missing, so the state is polled, too.
                () = sleep(POLL_INTERVAL) => {}
            }
            if !session.connection.status().connected() {
                break "the connection ended".to_owned();
            }
        };
        // It is lent out no more, and its users see that it is lost.
        self.set(LinkStatus::Connecting(Some(why.clone())), None);
        session.lost.cancel();
        self.metrics.connected.dec();
        if session.set_blocked(false) {
            self.metrics.blocked.set(0);
        }
        session.close().await;
        why
    }

    /// Prepares for doing `what` again after it failed. Where the connection is not lost, a part of the topology may be
    /// missing, so it is declared again after a back-off.
    pub async fn recover(&self, session: &Session, what: &str, fault: &Fault, backoff: &mut Backoff) {
        if !session.lost.is_cancelled() {
            tracing::warn!("{what} again: {fault}");
            backoff.wait().await;
            self.redeclare(session).await;
        }
    }

    /// Declares the topology again, after somebody has deleted a part of it.
    pub(super) async fn redeclare(&self, session: &Session) {
        let declared = session.while_up(session.declare(&self.options.topology)).await;
        if let Some(Err(fault)) = declared {
            tracing::warn!(role = self.role, "cannot declare the topology again: {fault}");
        }
    }

    fn block(&self, session: &Arc<Session>, why: Option<String>) {
        if session.set_blocked(why.is_some()) == why.is_some() {
            return;
        }
        self.metrics.blocked.set(why.is_some().into());
        if let Some(why) = why {
            tracing::warn!(role = self.role, "the broker takes no messages: {why}");
            self.set(LinkStatus::Blocked(why), Some(Arc::clone(session)));
        } else {
            tracing::info!(role = self.role, "the broker takes messages again");
            self.set(LinkStatus::Up, Some(Arc::clone(session)));
        }
    }

    fn set(&self, status: LinkStatus, session: Option<Arc<Session>>) {
        self.state.send_replace(State { session, status });
    }

    /// Sets the status after a failure, and logs it unless the attempt before failed in the same way.
    fn record_failure(&self, status: LinkStatus) {
        if self.status() != status {
            tracing::warn!(role = self.role, "no connection to the broker: {status}");
        }
        self.set(status, None);
    }
}
