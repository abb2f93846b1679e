//! The messaging client as the services see it. Hop 6, the broker itself, is in [`amqp`].
//!
//! The names are those of the series: `connect`, `publish`, `publish_on_queue`, `subscribe`,
//! `subscribe_to_queue`, `close`. What the series does not have: every publish is confirmed, every delivery is
//! acknowledged by hand, `broadcast` reaches whoever listens, and `append` is for streams, which the crate `streams` reads.
//! In reading order:
//! - this file: the interface, its errors, and the outcome of a delivery
//! - [`Message`] and [`Delivery`]: what is published, and what arrives
//! - [`Subscription`]: a consumer that was started
//! - [`BrokerStatus`]: the state of the connections
//! - [`retry`]: where a message goes that failed
//! - [`topology`]: queues and exchanges, as they are declared
//! - [`amqp`]: the adapter
//!
//! Nothing here knows AMQP's library: its types stay inside [`amqp`].

mod message;
mod subscription;
mod status;
pub mod retry;
pub mod topology;
pub mod broker;
pub mod amqp;
pub mod metrics;
#[cfg(any(test, feature = "mock"))]
mod mock;

use std::{any::Any, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use hops_config::Live;
use jiff::Timestamp;
use serde::Serializer;

#[cfg(any(test, feature = "mock"))]
pub use self::mock::MockMessagingClient;
use self::retry::RetryPolicy;
pub use self::{
    message::{Delivery, JSON, Message, header},
    status::{BrokerStatus, LinkStatus},
    subscription::{ConsumerStateSender, Subscription},
};

/// A service's access to a broker.
#[async_trait]
pub trait MessagingClient: Send + Sync {
    /// Starts connecting, once, and keeps connecting until [`close`](Self::close). It returns at once, since a
    /// service starts and answers whether or not its broker is there.
    fn connect(&self);

    /// Publishes to an exchange. `Ok` means that the broker has confirmed the message and put it into at least one
    /// queue. Without a connection it waits; drop the future to give up.
    ///
    /// # Errors
    /// [`PublishError`], one variant per decision.
    async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<(), PublishError>;

    /// Publishes to an exchange, whether or not anybody listens. `Ok` means that the broker has confirmed the
    /// message, even if no queue took it.
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

    /// Consumes what is published to an exchange from now on, through a queue of this client's own that is deleted
    /// with the connection.
    fn subscribe(
        &self,
        exchange: &str,
        binding_key: &str,
        options: ConsumeOptions,
        handler: Handler,
    ) -> Subscription;

    /// Consumes a work queue, in competition with its other consumers.
    fn subscribe_to_queue(&self, queue: &str, options: ConsumeOptions, handler: Handler) -> Subscription;

    /// Returns the state of the client's connections.
    fn status(&self) -> BrokerStatus;

    /// Closes the connections, each within the operation time-out. Waiting publishers get
    /// [`PublishError::Closed`].
    async fn close(&self);
}

/// Why a message is not confirmed. Each variant is one decision of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No broker will ever accept it: do not publish it again.
    #[error("the message cannot be published: {0}")]
    Invalid(String),
    /// No queue took it. The topology is declared again; publish it again.
    #[error("no queue took the message: {0}")]
    Unroutable(String),
    /// The broker refused it (a full queue with `reject-publish`): publish it again later.
    #[error("the broker refused the message, its queue may be full")]
    Nacked,
    /// It may or may not have arrived: publish it again with the same id.
    #[error("the broker did not confirm the message: {0}")]
    Unconfirmed(String),
    /// The client is closed, and nothing was sent.
    #[error("the messaging client is closed")]
    Closed,
}

/// The outcome of a delivery. Every handler turns each of its errors into one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is handled, or there was nothing to do.
    Ack,
    /// It failed for this reason and may succeed later: a copy waits in the next retry queue, or is dead-lettered
    /// after the last one.
    Retry(String),
    /// It failed for this reason and never succeeds: a copy goes to the dead-letter queue at once.
    DeadLetter(String),
}

/// A function that is called with each delivery; [`handler`] makes one.
pub type Handler = Arc<dyn Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// Makes a [`Handler`] of an async closure. A closure that needs something of its own clones it for each delivery:
/// `handler(move |delivery| Arc::clone(&consumer).on_message(delivery))`.
pub fn handler<F>(handle: impl Fn(Delivery) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Outcome> + Send + 'static,
{
    Arc::new(move |delivery| Box::pin(handle(delivery)))
}

/// How a queue is consumed.
#[derive(Debug, Clone)]
pub struct ConsumeOptions {
    /// Most deliveries in flight; the broker sends no more before one is acknowledged (`basic.qos`).
    pub prefetch: u16,
    /// Time limit for handling a delivery, after which it has failed. Time spent waiting for the broker does not
    /// count: an outage is not the message's failure.
    pub handler_timeout: Live<Duration>,
    /// Where failed deliveries go; with `None` they are dropped with a warning.
    pub retry_policy: Option<RetryPolicy>,
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
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the panic has no message")
}
