//! One connection to the broker, kept up.
//!
//! A `Link` is the role ("publishing"), a `Session` is one connection of it: when it is lost, the next
//! is dialed, and all that hung on it - channels, consumers - is made anew by whoever needs it.
//! Every request to the broker has a time-out, since a broker in trouble answers late or not at all.

use std::{sync::Arc, time::Duration};

use backoff::Backoff;
use futures_util::StreamExt;
use hops_config::{
    Live,
    broker::{BrokerUrl, Login},
};
use lapin::{
    Channel, Connection, ErrorKind, Event, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AmqpOptions,
    dial::{SocketGuard, dial},
    fault::{CLOSE_TIMEOUT, Fault, close_channel, short, within},
};
use crate::{
    LinkStatus,
    metrics::Metrics,
    topology::{Argument, Queue, Topology},
};

/// A connection that lived this long was a good one: the next wait is short again.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// One of the client's two connections, as a role.
#[derive(Debug, Clone)]
pub(super) struct Link {
    role: &'static str,
    options: Arc<AmqpOptions>,
    metrics: Arc<Metrics>,
    state: Arc<watch::Sender<State>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct State {
    session: Option<Arc<Session>>,
    status: LinkStatus,
}

/// One connection, from its handshake to its loss.
#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    limit: Live<Duration>,
    /// Cancelled when the connection is lost or closed.
    pub(super) lost: CancellationToken,
    blocked: watch::Sender<bool>,
    socket: SocketGuard,
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

    pub(super) fn limit(&self) -> Duration {
        self.options.operation_timeout.get()
    }

    /// Waits for a connection; `None` once the client is closed.
    pub(super) async fn session(&self) -> Option<Arc<Session>> {
        let mut state = self.state.subscribe();
        let up = state.wait_for(|state| state.session.is_some());
        self.stop.run_until_cancelled(up).await?.ok()?.session.clone()
    }

    /// Waits for a connection for the operation time-out, and for none that a person has to help. `Err` is the
    /// state that it is in instead.
    pub(super) async fn session_in_time(&self) -> Result<Arc<Session>, String> {
        let mut state = self.state.subscribe();
        let decided = state.wait_for(|state| {
            state.session.is_some() || matches!(state.status, LinkStatus::Refused(_) | LinkStatus::Closed)
        });
        let _ = timeout(self.limit(), decided).await;
        let session = self.state.borrow().session.clone();
        session.ok_or_else(|| match self.status() {
            status @ LinkStatus::Connecting(_) => format!("no broker within {:?}: {status}", self.limit()),
            status => format!("no broker: {status}"),
        })
    }

    /// Connects, watches the connection, and connects again, until the client is closed.
    pub(super) async fn keep_up(self) {
        let (min, max) = self.options.backoff;
        let mut backoff = Backoff::new(min, max);
        // Clients of a cluster spread over its nodes.
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
                    tracing::warn!(role = self.role, "lost the broker at {}: {why}", address.0);
                    backoff.next_wait()
                }
                Err(Fault::Refused(why)) => {
                    self.record_failure(LinkStatus::Refused(format!("{}: {why}", address.0)));
                    max.mul_f64(rand::random_range(0.5..1.0))
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

    /// A connection with the topology declared on it.
    async fn establish(&self, address: &(BrokerUrl, Login)) -> Result<Session, Fault> {
        let session = self.dial(address, self.role).await?;
        let declared = session.declare(&self.options.topology).await;
        if declared.is_err() {
            session.close().await;
        }
        declared.map(|()| session)
    }

    /// A connection for a short work of its own, with nothing declared, whose user closes it.
    pub(super) async fn dial_another(&self, role: &str) -> Result<Session, Fault> {
        let mut failed = Fault::Transient("there is no address".into());
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
        let (lost, limit) = (CancellationToken::new(), self.options.operation_timeout.clone());
        Ok(Session { connection, limit, lost, blocked: watch::Sender::new(false), socket })
    }

    /// What this client declares a queue to be, if it declares it.
    pub(super) fn declared(&self, queue: &str) -> Option<&Queue> {
        self.options.topology.queues.iter().find(|declared| declared.name == queue)
    }

    /// Lends the session out until it is lost (the reason is the answer) or the client is closed.
    async fn use_until_lost(&self, session: Session, address: &BrokerUrl) -> String {
        // One listener only: lapin's listeners take events away from each other.
        let mut events = Box::pin(session.connection.events_listener());
        let session = Arc::new(session);
        self.set(LinkStatus::Up, Some(Arc::clone(&session)));
        self.metrics.connected.inc();
        tracing::info!(role = self.role, "connected to the broker at {address}");
        let why = loop {
            tokio::select! {
                () = self.stop.cancelled() => break "closed by us".to_owned(),
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => self.block(&session, Some(why)),
                    Some(Event::ConnectionUnblocked) => self.block(&session, None),
                    // A soft error closes one channel; its user knows.
                    Some(Event::Error(error)) if !error.is_amqp_soft_error() => break error.to_string(),
                    Some(_) => {}
                    None => break "the connection ended".to_owned(),
                },
                // The state is the truth; an event may be missing.
                () = sleep(Duration::from_millis(500)) => {}
            }
            if !session.connection.status().connected() {
                break "the connection ended".to_owned();
            }
        };
        // Nobody is lent it any more, and whoever has it sees that it is over.
        self.set(LinkStatus::Connecting(Some(why.clone())), None);
        session.lost.cancel();
        self.metrics.connected.dec();
        if session.blocked.send_replace(false) {
            self.metrics.blocked.set(0);
        }
        session.close().await;
        why
    }

    /// Declares the topology once more: somebody has deleted a part of it.
    pub(super) async fn redeclare(&self, session: &Session) {
        let declared = session.lost.run_until_cancelled(session.declare(&self.options.topology)).await;
        if let Some(Err(fault)) = declared {
            tracing::warn!(role = self.role, "cannot declare the topology again: {fault}");
        }
    }

    fn block(&self, session: &Arc<Session>, why: Option<String>) {
        if session.blocked.send_replace(why.is_some()) == why.is_some() {
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

    /// Shows a failure, and logs it when it is not the one of the attempt before.
    fn record_failure(&self, status: LinkStatus) {
        if self.status() != status {
            tracing::warn!(role = self.role, "no broker yet: {status}");
        }
        self.set(status, None);
    }
}

impl Session {
    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Fault> {
        let create = async {
            let created = self.connection.create_channel().await;
            // lapin never uses the number of a channel again that the broker has closed. When all are used up the connection is
            // closed, and the next one has them all.
            if created.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::ChannelsLimitReached)) {
                self.close().await;
            }
            created
        };
        within(self.limit.get(), "channel.open", create).await
    }

    /// Says goodbye, and hangs up whether or not there was an answer.
    pub(super) async fn close(&self) {
        let _ = within(CLOSE_TIMEOUT, "connection.close", self.connection.close(200, "bye".into())).await;
        self.socket.shutdown();
    }

    /// Waits until the broker takes messages, or the connection is lost.
    pub(super) async fn unblocked(&self) {
        let mut blocked = self.blocked.subscribe();
        let _ = self.lost.run_until_cancelled(blocked.wait_for(|blocked| !blocked)).await;
    }

    /// Declares all of it. What is there already as declared is left as it is.
    pub(super) async fn declare(&self, topology: &Topology) -> Result<(), Fault> {
        let channel = self.channel().await?;
        for name in &topology.exchanges {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let declare =
                channel.exchange_declare(short(name)?, ExchangeKind::Topic, options, FieldTable::default());
            let declared = within(self.limit.get(), &format!("declare of exchange {name}"), declare).await;
            declared.map_err(Fault::of_declaration)?;
        }
        for queue in &topology.queues {
            self.declare_queue(&channel, queue).await?;
        }
        close_channel(&channel).await;
        Ok(())
    }

    /// Declares a queue; the answer is how many messages are ready in it.
    pub(super) async fn declare_queue(&self, channel: &Channel, queue: &Queue) -> Result<u32, Fault> {
        let Queue { name, arguments } = queue;
        let mut table = FieldTable::default();
        for (argument, value) in arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Argument::Number(number) => AMQPValue::LongLongInt(*number),
            };
            table.insert((*argument).into(), value);
        }
        let declare = channel.queue_declare(short(name)?, QueueDeclareOptions::durable(), table);
        let declared = within(self.limit.get(), &format!("declare of queue {name}"), declare).await;
        Ok(declared.map_err(Fault::of_declaration)?.message_count())
    }
}
