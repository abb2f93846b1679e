//! One connection to the broker, kept up.
//!
//! A `Link` is the role ("publishing"), a `Session` is one connection of it: when it is lost, the next
//! is dialed, and all that hung on it - channels, consumers - is made anew by whoever needs it.
//! Every request to the broker has a time-out, since a broker in trouble answers late or not at all.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Error, ErrorKind, Event, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    types::{AMQPValue, FieldTable},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::AmqpOptions;
use crate::{
    backoff::Backoff,
    messaging::{
        LinkStatus,
        metrics::Metrics,
        topology::{Argument, Exchange, Queue, Topology},
    },
    settings::broker::BrokerUrl,
};

/// The largest frame, in bytes: RabbitMQ's own default. Without it lapin reserves 8 MB per connection.
const FRAME_MAX: u32 = 131_072;
/// A connection that lived this long was a good one: the next wait is short again.
const GOOD: Duration = Duration::from_secs(1);

/// Why there is no connection, or why a request on it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A person has to act: the broker refuses who we are or what we declare.
    Refused(String),
    /// It may work the next time.
    Broken(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Refused(why) | Self::Broken(why)) = self;
        f.write_str(why)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let ErrorKind::ProtocolError(amqp) = error.kind() else {
            return Self::Broken(error.to_string());
        };
        let text = amqp.get_message();
        match amqp.kind() {
            // RabbitMQ answers 403 both to a login and to a missing permission.
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Refused(format!(
                "{text}: check APP_AMQP_USERNAME, APP_AMQP_PASSWORD and the user's permissions"
            )),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Self::Refused(format!(
                "{text}: create the vhost and let the user in, or correct amqp_server_url"
            )),
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
                if text.as_str().contains("inequivalent arg") =>
            {
                Self::Refused(format!(
                    "{text}: it exists with other arguments than this service declares; delete it when it is empty, \
                     or set what it has"
                ))
            }
            _ => Self::Broken(text.to_string()),
        }
    }
}

/// Runs a request to the broker, bounded.
pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Fault> {
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(Fault::from),
        Err(_) => Err(Fault::Broken(format!("no answer to {what} within {limit:?}"))),
    }
}

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
    limit: Duration,
    /// Cancelled when the connection is lost or closed.
    pub(super) lost: CancellationToken,
    blocked: watch::Sender<bool>,
    _hangup: Hangup,
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
        self.options.operation_timeout
    }

    /// Waits for a connection; `None` once the client is closed.
    pub(super) async fn session(&self) -> Option<Arc<Session>> {
        let mut state = self.state.subscribe();
        let up = state.wait_for(|state| state.session.is_some());
        self.stop.run_until_cancelled(up).await?.ok()?.session.clone()
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
                    let why = self.hold(session, address).await;
                    if since.elapsed() >= GOOD {
                        backoff.reset();
                    }
                    if self.stop.is_cancelled() {
                        break;
                    }
                    tracing::warn!(role = self.role, "lost the broker at {address}: {why}");
                    self.set(LinkStatus::Connecting(Some(why)), None);
                    backoff.next_wait()
                }
                Err(Fault::Broken(why)) => {
                    self.tell(LinkStatus::Connecting(Some(format!("{address}: {why}"))));
                    backoff.next_wait()
                }
                Err(Fault::Refused(why)) => {
                    self.tell(LinkStatus::Refused(format!("{address}: {why}")));
                    max.mul_f64(rand::random_range(0.5..1.0))
                }
            };
            if self.stop.run_until_cancelled(sleep(wait)).await.is_none() {
                break;
            }
        }
        self.set(LinkStatus::Closed, None);
    }

    /// A connection with the topology declared on it.
    async fn establish(&self, address: &BrokerUrl) -> Result<Session, Fault> {
        let (connection, hangup) = dial(&self.options, address, self.role).await?;
        let lost = CancellationToken::new();
        let limit = self.options.operation_timeout;
        let session =
            Session { connection, limit, lost, blocked: watch::Sender::new(false), _hangup: hangup };
        session.declare(&self.options.topology).await?;
        Ok(session)
    }

    /// Lends the session out until it is lost (the reason is the answer) or the client is closed.
    async fn hold(&self, session: Session, address: &BrokerUrl) -> String {
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
        self.metrics.connected.dec();
        self.block(&session, None);
        session.lost.cancel();
        // A close hangs while the broker takes no messages: the socket is shut down after it in any case.
        let close = session.connection.close(200, "bye".into());
        let _ = within(self.options.connect_timeout.min(session.limit), "close", close).await;
        why
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
    fn tell(&self, status: LinkStatus) {
        if self.status() != status {
            tracing::warn!(role = self.role, "no broker yet: {status}");
        }
        self.set(status, None);
    }
}

impl Session {
    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel, Fault> {
        within(self.limit, "channel.open", self.connection.create_channel()).await
    }

    /// Waits until the broker takes messages, or the connection is lost.
    pub(super) async fn unblocked(&self) {
        let mut blocked = self.blocked.subscribe();
        let _ = self.lost.run_until_cancelled(blocked.wait_for(|blocked| !blocked)).await;
    }

    /// Declares all of it. What is there already as declared is left as it is.
    pub(super) async fn declare(&self, topology: &Topology) -> Result<(), Fault> {
        let channel = self.channel().await?;
        for Exchange { name, kind } in &topology.exchanges {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let kind = match kind.as_str() {
                "direct" => ExchangeKind::Direct,
                "fanout" => ExchangeKind::Fanout,
                "headers" => ExchangeKind::Headers,
                _ => ExchangeKind::Topic,
            };
            let declare =
                channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default());
            within(self.limit, &format!("declare of exchange {name}"), declare).await?;
        }
        for Queue { name, arguments } in &topology.queues {
            let mut table = FieldTable::default();
            for (argument, value) in arguments {
                let value = match value {
                    Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                    Argument::Number(number) => AMQPValue::LongLongInt(*number),
                };
                table.insert((*argument).into(), value);
            }
            let declare = channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), table);
            within(self.limit, &format!("declare of queue {name}"), declare).await?;
        }
        within(self.limit, "channel.close", channel.close(200, "declared".into())).await
    }
}

impl Link {
    /// Declares the topology once more: somebody has deleted a part of it.
    pub(super) async fn redeclare(&self, session: &Session) {
        if let Err(fault) = session.declare(&self.options.topology).await {
            tracing::warn!(role = self.role, "cannot declare the topology again: {fault}");
        }
    }
}

/// Shuts the socket down when it is dropped. lapin has no time-out of its own for connecting, and a
/// connection that was given up, or that hangs in its close, keeps a thread and a socket for ever.
#[derive(Debug, Clone, Default)]
struct Hangup(Arc<Mutex<Option<OwnedFd>>>);

impl Drop for Hangup {
    fn drop(&mut self) {
        if let Some(fd) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = TcpStream::from(fd).shutdown(Shutdown::Both);
        }
    }
}

async fn dial(options: &AmqpOptions, address: &BrokerUrl, role: &str) -> Result<(Connection, Hangup), Fault> {
    let runtime = lapin::runtime::default_runtime()?;
    let name = format!("{} ({role})", options.instance);
    let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
    let ca = options.ca_file.as_ref().map(std::fs::read_to_string).transpose().map_err(|e| {
        Fault::Refused(format!(
            "amqp_ca_file: cannot read {}: {e}",
            options.ca_file.clone().unwrap_or_default().display()
        ))
    })?;
    let tls = OwnedTLSConfig { identity: None, cert_chain: ca };
    let socket = Arc::new(Mutex::new(None));
    let hangup = Hangup(Arc::clone(&socket));
    let connector = Connection::connector(
        to_uri(address, options.heartbeat),
        runtime,
        async move |uri: AMQPUri, runtime| {
            let host = (uri.authority.host.clone(), uri.authority.port);
            let stream = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(host)).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                plain.get_ref().set_nodelay(true)?;
                let copy = plain.get_ref().as_fd().try_clone_to_owned()?;
                *socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
            }
            Ok(match uri.scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, tls.as_ref()).await?,
            })
        },
        properties,
    );
    let connection = within(options.connect_timeout, "connecting", connector).await?;
    Ok((connection, hangup))
}

fn to_uri(address: &BrokerUrl, heartbeat: Duration) -> AMQPUri {
    let credentials = &address.credentials;
    AMQPUri {
        scheme: if address.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: credentials.username.clone().unwrap_or_default(),
                password: credentials.password.as_ref().map(|p| p.expose().to_owned()).unwrap_or_default(),
            },
            host: address.host.clone(),
            port: address.port,
        },
        vhost: address.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_MAX),
            heartbeat: Some(u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX)),
            ..Default::default()
        },
    }
}
