//! The messaging client as the services see it. Hop 6, the broker itself, is in [`amqp`].
//!
//! The names are those of the series: `connect`, `publish`, `publish_on_queue`, `subscribe`,
//! `subscribe_to_queue`, `close`. What it did not have: every publish is confirmed, every delivery is
//! acknowledged by hand, `broadcast` reaches whoever listens, and `append` and `replay` are there for streams.
//! Operators' tools, which look after a queue, have an interface of their own: [`QueueBrowser`].
//!
//! Nothing here knows AMQP's library: its types stay inside [`amqp`].

mod message;
mod browse;
pub mod ladder;
pub mod topology;
pub mod amqp;
pub mod metrics;
pub mod failpoint;
#[cfg(any(test, feature = "mock"))]
mod mock;

use std::{any::Any, fmt, future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use hops_config::Live;
use jiff::Timestamp;
use serde::Serializer;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::ladder::Ladder;
#[cfg(any(test, feature = "mock"))]
pub use self::mock::{MockBrowseSession, MockMessagingClient, MockQueueBrowser};
pub use self::{
    browse::{BrowseError, BrowseSession, QueueBrowser},
    message::{Delivery, JSON, Message, header},
};

/// A messaging client, as a role: what a service needs of a broker.
#[async_trait]
pub trait MessagingClient: Send + Sync {
    /// Starts connecting, once, and stays at it until [`close`](Self::close). It comes back at once, since a
    /// service starts and answers whether or not its broker is there.
    fn connect(&self);

    /// Publishes to an exchange. `Ok` means: the broker has confirmed the message and put it into at
    /// least one queue. While there is no connection it waits; drop it to give up.
    ///
    /// # Errors
    /// [`PublishError`], one variant per decision.
    async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<(), PublishError>;

    /// Publishes to an exchange, as [`publish`](Self::publish) does, whoever listens: `Ok` when the broker has
    /// confirmed it, even if no queue took it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), without [`PublishError::Unroutable`].
    async fn broadcast(
        &self,
        exchange: &str,
        routing_key: &str,
        message: Message,
    ) -> Result<(), PublishError>;

    /// Publishes to one queue, as [`publish`](Self::publish) does.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    async fn publish_on_queue(&self, queue: &str, message: Message) -> Result<(), PublishError> {
        self.publish("", queue, message).await
    }

    /// Appends to a stream, as [`publish`](Self::publish) does.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    async fn append(&self, stream: &str, message: Message) -> Result<(), PublishError> {
        self.publish("", stream, message).await
    }

    /// Consumes what is published to an exchange from now on, through a queue of this client's own
    /// that goes away with the connection.
    fn subscribe(
        &self,
        exchange: &str,
        binding_key: &str,
        options: ConsumeOptions,
        handler: Handler,
    ) -> Subscription;

    /// Consumes a work queue in competition with all who do the same.
    fn subscribe_to_queue(&self, queue: &str, options: ConsumeOptions, handler: Handler) -> Subscription;

    /// Reads a stream from its first entry on, each entry once and in order, and goes on for ever.
    fn replay(&self, stream: &str, reader: StreamReader) -> Subscription;

    /// How the client stands with its broker.
    fn status(&self) -> BrokerStatus;

    /// Closes the connections, each within the operation time-out. Waiting publishers get
    /// [`PublishError::Closed`].
    async fn close(&self);
}

/// Why a message is not confirmed. Each variant is one decision of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It will never be accepted: do not try again.
    #[error("the message cannot be published: {0}")]
    Invalid(String),
    /// No queue was there to take it. The topology is declared again; try again.
    #[error("no queue took the message: {0}")]
    Unroutable(String),
    /// The broker refused it (a full queue with `reject-publish`): try again later.
    #[error("the broker refused the message, its queue may be full")]
    Nacked,
    /// It may or may not have arrived: publish it again with the same id.
    #[error("the broker did not confirm the message: {0}")]
    Unconfirmed(String),
    /// The client is closed: nothing was sent.
    #[error("the messaging client is closed")]
    Closed,
}

/// What becomes of a delivery. Every handler turns every error of its own into one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or nothing to do.
    Ack,
    /// Not now: the reason. A copy waits on the next rung of the ladder, and after the last with the dead.
    Retry(String),
    /// Never: the reason. A copy goes to the dead-letter queue at once.
    DeadLetter(String),
}

/// A function that is called with each delivery; [`handler`] makes one.
pub type Handler = Arc<dyn Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Makes a [`Handler`] of an async closure. One that needs something of its own clones it for each delivery:
/// `handler(move |delivery| Arc::clone(&consumer).on_message(delivery))`.
pub fn handler<F>(handle: impl Fn(Delivery) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(move |delivery| Box::pin(handle(delivery)))
}

/// What is done with each step of a replay.
pub type StreamReader = Box<dyn FnMut(Replay) + Send>;

/// A step of a replay.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are entries, and one is held at a time")]
pub enum Replay {
    /// The stream is read from its first entry: whatever was read before belongs to another stream.
    Restarted,
    /// The next entry. Offsets grow, not always by one.
    Entry(u64, Message),
    /// All that was in the stream when reading began has been read.
    CaughtUp,
}

/// How a work queue is consumed.
#[derive(Debug, Clone)]
pub struct ConsumeOptions {
    /// How many deliveries are handled at a time; the broker sends no more than that (`basic.qos`).
    pub prefetch: u16,
    /// How long a handler may take before its delivery counts as failed. Time spent waiting for the
    /// broker does not count: an outage is not the message's fault.
    pub handler_timeout: Live<Duration>,
    /// Where deliveries go that failed; `None` drops them with a warning.
    pub ladder: Option<Ladder>,
}

/// A consumer that was started. Dropping it lets it run.
#[derive(Debug, Clone)]
pub struct Subscription {
    stop: CancellationToken,
    tasks: TaskTracker,
    state: watch::Receiver<Doing>,
}

/// What a consumer does at the moment.
#[derive(Debug, Default)]
struct Doing {
    active: bool,
    in_hand: usize,
    /// How often the broker has begun to deliver.
    starts: u64,
}

impl Subscription {
    /// A consumer that ends after `stop` and is tracked by `tasks`; the adapter that runs it says through the
    /// [`Activity`] how it is doing.
    #[must_use]
    pub fn new(stop: CancellationToken, tasks: TaskTracker) -> (Self, Activity) {
        let (sender, state) = watch::channel(Doing::default());
        (Self { stop, tasks, state }, Activity(sender))
    }

    /// Whether the broker delivers to it at the moment.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state.borrow().active
    }

    /// How often the broker has begun to deliver to it: what was published to a queue of its own between two
    /// such times is lost.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.state.borrow().starts
    }

    /// Waits until that is more than `seen`.
    pub async fn started_after(&self, seen: u64) {
        if self.state.clone().wait_for(|doing| doing.starts > seen).await.is_err() {
            // It is over.
            pending().await
        }
    }

    /// How many deliveries its handler works on at the moment.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.state.borrow().in_hand
    }

    /// Takes no more deliveries; those in hand go on.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Waits until, after [`cancel`](Self::cancel), what was in hand is finished and settled.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The other end of a [`Subscription`]. Dropping it means: not active, nothing in hand.
#[derive(Debug)]
pub struct Activity(watch::Sender<Doing>);

impl Activity {
    /// Says whether the broker delivers.
    pub fn set_active(&self, active: bool) {
        self.0.send_modify(|doing| {
            doing.starts += u64::from(active && !doing.active);
            doing.active = active;
        });
    }

    /// Says how many deliveries are worked on.
    pub fn set_in_hand(&self, in_hand: usize) {
        self.0.send_modify(|doing| doing.in_hand = in_hand);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.0.send_modify(|doing| (doing.active, doing.in_hand) = (false, 0));
    }
}

/// How a client stands with its broker: a state for each of its two connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerStatus {
    /// The connection that publishes.
    pub publishing: LinkStatus,
    /// The connection that consumes.
    pub consuming: LinkStatus,
}

impl BrokerStatus {
    /// Whether both connections are up; `Err` says what is wrong and, where known, what to do.
    ///
    /// # Errors
    /// The sentence for `/readyz`.
    pub fn check(&self) -> Result<String, String> {
        match (&self.publishing, &self.consuming) {
            (LinkStatus::Up, LinkStatus::Up) => Ok("connected".into()),
            (LinkStatus::Up, other) | (other, _) => Err(other.to_string()),
        }
    }
}

/// The state of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// Not there yet, or not any more; it is tried again. The last error, if there was one.
    Connecting(Option<String>),
    /// Working.
    Up,
    /// The broker is short of memory or disk and takes no messages: they wait here.
    Blocked(String),
    /// The broker is there and refuses us: credentials, vhost, permissions, or a queue that differs from
    /// what we declare. A person has to act; it is tried again slowly.
    Refused(String),
    /// Closed by us.
    Closed,
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting(None) => f.write_str("connecting"),
            Self::Connecting(Some(why)) => write!(f, "connecting: {why}"),
            Self::Up => f.write_str("connected"),
            Self::Blocked(why) => write!(f, "the broker takes no messages: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// Writes an instant as every body and header of ours has it: RFC 3339, UTC, three digits of a second.
///
/// # Errors
/// Only the serializer's own.
pub fn millis<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{instant:.3}"))
}

/// Returns the text of a caught panic.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}
