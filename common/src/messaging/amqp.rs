//! Hop 6, broker: the messaging client over AMQP 0-9-1, with lapin.
//!
//! It keeps two connections, one to publish and one to consume, since a broker short of memory stops
//! reading from whoever publishes, and acknowledgments must go on. In reading order:
//! - `connection`: one connection, kept up: dialing, time-outs, back-off, topology, what is fatal
//! - `publisher`: batches of confirmed, mandatory publishes
//! - `consumer`: deliveries to a handler, settled by hand
//! - `stream`: a stream, read from its first entry on
//!
//! lapin's own recovery (`enable_auto_recover`) is not used: with the connection cut in the middle of a
//! burst it deadlocks. Here each connection is new, and so are its channels and consumers.

mod connection;
mod publisher;
mod consumer;
mod stream;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{connection::Link, publisher::Publisher};
use super::{
    BrokerStatus, ConsumeOptions, Handler, Message, MessagingClient, PublishError, StreamReader,
    Subscription, metrics::Metrics, topology::Topology,
};
use crate::settings::{SharedSettings, broker::Broker};

/// The largest body that is published, in bytes. RabbitMQ 4 takes 16 MiB, 3.x more; a message that large
/// belongs elsewhere.
const BODY_LIMIT: usize = 1024 * 1024;

/// What the client needs to know.
#[derive(Debug, Clone)]
pub struct AmqpOptions {
    /// This instance's name: how the broker's own tools show the connection and the consumer.
    pub instance: String,
    /// What is declared on each new connection.
    pub topology: Topology,
    /// Where the broker is.
    pub broker: Broker,
    /// The authority that signed its certificate.
    pub ca_file: Option<PathBuf>,
    /// For dialing and the handshake together.
    pub connect_timeout: Duration,
    /// For any other request.
    pub operation_timeout: Duration,
    /// The interval; a dead link is found after two.
    pub heartbeat: Duration,
    /// The first and the longest wait before connecting again.
    pub backoff: (Duration, Duration),
}

impl AmqpOptions {
    /// From the settings.
    ///
    /// # Errors
    /// As [`SharedSettings::broker`], or an `amqps://` address in a build without feature `tls`.
    pub fn new(settings: &SharedSettings, instance: &str, topology: Topology) -> Result<Self, String> {
        let broker = settings.broker()?;
        if broker.addresses().iter().any(|address| address.tls) && !cfg!(feature = "tls") {
            return Err("amqp_server_url: this build speaks no TLS: build it with `--features tls`".into());
        }
        Ok(Self {
            instance: instance.into(),
            topology,
            broker,
            ca_file: settings.amqp_ca_file.clone(),
            connect_timeout: settings.amqp_connect_timeout,
            operation_timeout: settings.amqp_operation_timeout,
            heartbeat: settings.amqp_heartbeat,
            backoff: (settings.amqp_backoff_min, settings.amqp_backoff_max),
        })
    }
}

/// The messaging client over AMQP.
#[derive(Debug)]
pub struct AmqpClient {
    options: Arc<AmqpOptions>,
    metrics: Arc<Metrics>,
    publishing: Link,
    consuming: Link,
    publisher: Publisher,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl AmqpClient {
    /// A client that is not connected yet: see [`MessagingClient::connect`].
    #[must_use]
    pub fn new(options: AmqpOptions, metrics: Metrics) -> Self {
        let (options, metrics, stop) = (Arc::new(options), Arc::new(metrics), CancellationToken::new());
        let publishing = Link::new("publishing", &options, &metrics, &stop);
        let consuming = Link::new("consuming", &options, &metrics, &stop);
        let publisher = Publisher::new(publishing.clone(), Arc::clone(&metrics));
        Self { options, metrics, publishing, consuming, publisher, stop, tasks: TaskTracker::new() }
    }

    /// Runs a consumer in the background until it is cancelled or the client is closed.
    fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        run: impl FnOnce(CancellationToken, consumer::Activity) -> F,
    ) -> Subscription {
        let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
        let (activity, active) = consumer::Activity::new();
        tasks.spawn(self.tasks.track_future(run(stop.clone(), activity)));
        Subscription::new(stop, tasks, active)
    }
}

#[async_trait]
impl MessagingClient for AmqpClient {
    fn connect(&self) {
        self.tasks.spawn(self.publishing.clone().keep_up());
        self.tasks.spawn(self.consuming.clone().keep_up());
        for channel in self.publisher.channels() {
            self.tasks.spawn(channel.run());
        }
    }

    async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<(), PublishError> {
        message.validate(BODY_LIMIT)?;
        self.publisher.publish(short(exchange)?, short(routing_key)?, message).await
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
        self.start(|stop, activity| self.consumer(source, options, handler).run(stop, activity))
    }

    fn subscribe_to_queue(&self, queue: &str, options: ConsumeOptions, handler: Handler) -> Subscription {
        let source = consumer::Source::Queue(queue.to_owned());
        self.start(|stop, activity| self.consumer(source, options, handler).run(stop, activity))
    }

    fn replay(&self, stream: &str, reader: StreamReader) -> Subscription {
        self.start(|stop, activity| {
            stream::replay(self.consuming.clone(), stream.to_owned(), reader, stop, activity)
        })
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

impl AmqpClient {
    fn consumer(
        &self,
        source: consumer::Source,
        options: ConsumeOptions,
        handler: Handler,
    ) -> consumer::Consumer {
        consumer::Consumer {
            link: self.consuming.clone(),
            publisher: self.publisher.clone(),
            metrics: Arc::clone(&self.metrics),
            name: self.options.instance.clone(),
            source,
            options,
            handler,
        }
    }
}

/// A name as AMQP's short string; lapin's own conversion panics above 255 bytes.
fn short(text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text)
        .map_err(|_| PublishError::Invalid(format!("the name {text:.20}... is over 255 bytes")))
}

fn to_properties(message: &Message) -> Result<BasicProperties, PublishError> {
    /// Persistent: <https://www.rabbitmq.com/docs/publishers#message-properties>.
    const PERSISTENT: u8 = 2;
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(short(name)?, AMQPValue::LongString(LongString::from(value.as_str())));
    }
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    if let Some(id) = &message.id {
        properties = properties.with_message_id(short(id)?);
    }
    if let Some(kind) = &message.kind {
        properties = properties.with_type(short(kind)?);
    }
    if let Some(content_type) = &message.content_type {
        properties = properties.with_content_type(short(content_type)?);
    }
    if let Some(correlation_id) = &message.correlation_id {
        properties = properties.with_correlation_id(short(correlation_id)?);
    }
    if let Some(app_id) = &message.app_id {
        properties = properties.with_app_id(short(app_id)?);
    }
    if let Some(timestamp) = message.timestamp {
        properties = properties.with_timestamp(timestamp);
    }
    Ok(properties)
}

fn to_message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let headers = properties.headers().iter().flat_map(|table| table.inner());
    Message {
        id: text(properties.message_id()),
        kind: text(properties.kind()),
        content_type: text(properties.content_type()),
        correlation_id: text(properties.correlation_id()),
        app_id: text(properties.app_id()),
        timestamp: *properties.timestamp(),
        headers: headers.filter_map(|(name, value)| Some((name.to_string(), to_text(value)?))).collect(),
        body: body.into(),
    }
}

fn to_text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        other => to_number(other)?.to_string(),
    })
}

/// RabbitMQ writes one and the same header as different integer types, by version.
fn to_number(value: &AMQPValue) -> Option<i64> {
    Some(match value {
        AMQPValue::ShortShortInt(n) => (*n).into(),
        AMQPValue::ShortShortUInt(n) => (*n).into(),
        AMQPValue::ShortInt(n) => (*n).into(),
        AMQPValue::ShortUInt(n) => (*n).into(),
        AMQPValue::LongInt(n) => (*n).into(),
        AMQPValue::LongUInt(n) => (*n).into(),
        AMQPValue::LongLongInt(n) => *n,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::RequestContext;

    #[test]
    fn a_message_comes_out_of_its_properties_as_it_went_in() {
        let context = RequestContext::continued(Some("7f3a"), None, None);
        let message = Message::event("vip.notification.v1", "accountservice", "10000", &context, &1).unwrap();
        let properties = to_properties(&message).unwrap();
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(to_message(&properties, message.body.to_vec()), message);
    }

    #[test]
    fn numbers_of_every_width_are_read_and_tables_are_left_out() {
        let mut headers = FieldTable::default();
        headers.insert("count".into(), AMQPValue::LongLongInt(3));
        headers.insert("small".into(), AMQPValue::ShortShortUInt(4));
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![].into()));
        let message = to_message(&BasicProperties::default().with_headers(headers), vec![]);
        assert_eq!(message.headers["count"], "3");
        assert_eq!(message.headers["small"], "4");
        assert!(!message.headers.contains_key("x-death"));
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error_and_no_panic() {
        assert!(matches!(short(&"n".repeat(256)), Err(PublishError::Invalid(_))));
    }
}
