//! Hop 6, broker: the messaging client over AMQP 0-9-1, with lapin.
//!
//! It keeps two connections, one to publish and one to consume: a broker that is short of memory stops reading from
//! connections that publish, and acknowledgments must go on. In reading order:
//! - [`Settings`]: the broker's address and who connects to it
//! - `fault`: failures of requests, by what has to happen next; and a time limit for each request
//! - `dial`: from an address to a connection
//! - `session`: one connection, until it is lost
//! - `connection`: one after the other, with back-off, and their state
//! - `wire`: a message as AMQP's properties
//! - `publisher`: batches of confirmed publishes
//! - `consumer`: deliveries to a handler, settled by hand
//!
//! A crate above that has requests of its own for the broker finds what it needs in [`Link`] and [`Session`].
//!
//! lapin's own recovery (`enable_auto_recover`) is not used: with the connection cut in the middle of a
//! burst it deadlocks. Here each connection is new, and so are its channels and consumers.

mod settings;
mod fault;
mod dial;
mod session;
mod connection;
mod wire;
mod publisher;
mod consumer;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::publisher::Publisher;
pub use self::{
    connection::Link,
    fault::{Fault, close_channel, short},
    session::Session,
    settings::Settings,
    wire::to_message,
};
use super::{
    BrokerStatus, ConsumeOptions, ConsumerStateSender, Handler, Message, MessagingClient, PublishError,
    Subscription, broker::Broker, metrics::Metrics, topology::Topology,
};

/// Largest body that is published, in bytes. RabbitMQ 4 accepts 16 MiB, 3.x more; content of that size belongs
/// elsewhere.
const BODY_LIMIT: usize = 1024 * 1024;

/// The client's configuration.
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// This instance's name: the broker's own tools show it for the connection and the consumer.
    pub instance: String,
    /// Declared on each new connection.
    pub topology: Topology,
    /// The broker's addresses.
    pub broker: Broker,
    /// Authority that signed the broker's certificate, in PEM; without it, those of the system count.
    pub ca: Option<String>,
    /// Settings of which the broker and the authority were read: the rest are time limits and the heartbeat.
    pub settings: Settings,
}

impl AmqpOptions {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// As [`Settings::broker`]; an `amqps://` address in a build without feature `tls`; a file that cannot be read.
    pub fn new(settings: &Settings, instance: &str, topology: Topology) -> Result<Self, String> {
        let broker = settings.broker()?;
        if broker.addresses().iter().any(|(address, _)| address.tls) && !cfg!(feature = "tls") {
            return Err(
                "amqp_server_url: this build does not support TLS: build it with `--features tls`".into()
            );
        }
        Ok(Self {
            instance: instance.into(),
            topology,
            broker,
            ca: settings.ca()?,
            settings: settings.clone(),
        })
    }
}

/// The messaging client over AMQP.
#[derive(Debug)]
pub struct AmqpClient {
    publishing: Link,
    consuming: Link,
    publisher: Publisher,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl AmqpClient {
    /// Returns a client that is not connected yet: see [`MessagingClient::connect`].
    #[must_use]
    pub fn new(options: AmqpOptions, metrics: Metrics) -> Self {
        let (options, metrics, stop) = (Arc::new(options), Arc::new(metrics), CancellationToken::new());
        let publishing = Link::new("publishing", &options, &metrics, &stop);
        let consuming = Link::new("consuming", &options, &metrics, &stop);
        let publisher = Publisher::new(publishing.clone());
        Self { publishing, consuming, publisher, stop, tasks: TaskTracker::new() }
    }

    /// Returns the connection that consumes, for requests that have no place in [`MessagingClient`].
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.consuming
    }

    /// Returns the tasks for which [`MessagingClient::close`] waits.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn consume(&self, source: consumer::Source, options: ConsumeOptions, handler: Handler) -> Subscription {
        let consumer = consumer::Consumer {
            link: self.consuming.clone(),
            publisher: self.publisher.clone(),
            source,
            options,
            handler,
        };
        self.start_consumer(|stop, state| consumer.run(stop, state))
    }

    /// Runs a consumer in the background. It gets a token that is cancelled with the subscription or when the client is
    /// closed, and the sender of its state.
    pub fn start_consumer<F: Future<Output = ()> + Send + 'static>(
        &self,
        run: impl FnOnce(CancellationToken, ConsumerStateSender) -> F,
    ) -> Subscription {
        let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
        let (subscription, state) = Subscription::new(stop.clone(), tasks.clone());
        tasks.spawn(self.tasks.track_future(run(stop, state)));
        subscription
    }
}

#[async_trait]
impl MessagingClient for AmqpClient {
    fn connect(&self) {
        self.tasks.spawn(self.publishing.clone().keep_connected());
        self.tasks.spawn(self.consuming.clone().keep_connected());
        for _ in 0..publisher::CHANNEL_COUNT {
            self.tasks.spawn(self.publisher.clone().run_channel());
        }
    }

    async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<(), PublishError> {
        self.publisher.publish(exchange, routing_key, message, BODY_LIMIT, true).await
    }

    async fn broadcast(
        &self,
        exchange: &str,
        routing_key: &str,
        message: Message,
    ) -> Result<(), PublishError> {
        self.publisher.publish(exchange, routing_key, message, BODY_LIMIT, false).await
    }

    async fn publish_on_queue(&self, queue: &str, message: Message) -> Result<(), PublishError> {
        let id = message.shown_id().to_owned();
        self.publish("", queue, message).await?;
        tracing::info!(
            hop = 6,
            name = "broker",
            message.id = id,
            "{queue} has {id}: the broker has confirmed it"
        );
        Ok(())
    }

    fn subscribe(
        &self,
        exchange: &str,
        binding_key: &str,
        options: ConsumeOptions,
        handler: Handler,
    ) -> Subscription {
        let source = consumer::Source::Exchange(exchange.to_owned(), binding_key.to_owned());
        self.consume(source, options, handler)
    }

    fn subscribe_to_queue(&self, queue: &str, options: ConsumeOptions, handler: Handler) -> Subscription {
        self.consume(consumer::Source::Queue(queue.to_owned()), options, handler)
    }

    fn status(&self) -> BrokerStatus {
        BrokerStatus { publishing: self.publishing.status(), consuming: self.consuming.status() }
    }

    async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
