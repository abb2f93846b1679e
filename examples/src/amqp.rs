//! Shorter forms of AMQP operations, for the programs that use lapin directly.

use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use tokio::time::timeout;

use crate::{BROKER_TIMEOUT, Failure, Result, Terminal, failure::address, within};

impl Terminal {
    /// Opens a channel to the broker in confirm mode, in which the broker answers each publish.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses the login; the error says what to do.
    pub async fn channel(&self) -> Result<Channel> {
        open_channel(self.connection.get_or_try_init(|| connect(&self.amqp)).await?).await
    }

    /// Calls the handler for each delivery, one after the other, and then acknowledges it. After Ctrl-C it
    /// finishes the delivery in flight and cancels the consumer; deliveries that were prefetched return to the
    /// queue.
    ///
    /// # Errors
    /// The handler fails, or the consumer loses its queue or its connection.
    pub async fn each(
        &self,
        channel: &Channel,
        mut consumer: Consumer,
        mut handler: impl AsyncFnMut(&Delivery) -> Result,
    ) -> Result {
        self.listens.store(true, Ordering::Relaxed);
        while let Some(next) = self.stop.run_until_cancelled(consumer.next()).await {
            let delivery =
                next.ok_or_else(|| Failure::new("the queue was deleted, and its consumer with it"))??;
            handler(&delivery).await?;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        Ok(())
    }
}

/// Connects to a broker, for a program that has several connections and closes them itself.
///
/// # Errors
/// The broker cannot be reached or refuses the login; the error says what to do.
pub async fn connect(amqp: &str) -> Result<Connection> {
    let shown = address(amqp)?;
    let properties = ConnectionProperties::default().with_connection_name("examples".into());
    let connection = timeout(BROKER_TIMEOUT, Connection::connect(amqp, properties)).await;
    let connection = connection.map_err(|_| Failure::connecting(&shown, "it does not answer"))?;
    connection.map_err(|error| Failure::connecting(&shown, &error.to_string()))
}

/// Opens a channel in confirm mode, in which the broker answers each publish.
///
/// # Errors
/// The connection is lost.
pub async fn open_channel(connection: &Connection) -> Result<Channel> {
    let channel = within(connection.create_channel()).await?;
    within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// Consumes a queue with manual acknowledgments; at most `prefetch` messages are unacknowledged at a time.
///
/// # Errors
/// There is no such queue, or another connection has exclusive access to it.
pub async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    Ok(channel.basic_consume(short(queue)?, tag, options, FieldTable::default()).await?)
}

/// Publishes a text as a persistent message, and waits until the broker has confirmed it. A confirm does not
/// mean that a queue has taken it.
///
/// # Errors
/// The broker refuses the message, or there is no such exchange.
pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    properties: BasicProperties,
    text: &str,
) -> Result {
    let properties = properties.with_delivery_mode(2).with_content_type("text/plain".into());
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish(short(exchange)?, short(key)?, options, text.as_bytes(), properties);
    let confirm = within(within(publish).await?).await?;
    if confirm.is_ack() { Ok(()) } else { Err(Failure::new("the broker refused the message")) }
}

/// Returns options with `mandatory`: the broker returns a message that no queue takes.
pub fn mandatory() -> BasicPublishOptions {
    BasicPublishOptions { mandatory: true, ..Default::default() }
}

/// Returns a delivery's body as text.
pub fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// Converts a name into AMQP's short string.
///
/// # Errors
/// The name has more than 255 bytes, for which lapin's own `into` would panic.
pub fn short(name: &str) -> Result<ShortString> {
    ShortString::try_new(name).map_err(|_| Failure::new("a name or a key has at most 255 bytes"))
}

/// Returns a table of arguments or headers.
///
/// # Errors
/// A name is too long.
pub fn table<'a>(entries: impl IntoIterator<Item = (&'a str, AMQPValue)>) -> Result<FieldTable> {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(short(name)?, value);
    }
    Ok(table)
}

/// Returns a text as the value of an argument or header.
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Returns the texts of an array, separated by commas.
pub fn joined(array: &FieldArray) -> String {
    let texts = array.as_slice().iter().filter_map(|value| match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(",")
}

/// Returns a number as the value of an argument.
pub fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

/// Returns the arguments of a quorum queue, whose confirmed messages survive a broker crash.
///
/// # Errors
/// Never fails; the result has the type of [`table`].
pub fn quorum() -> Result<FieldTable> {
    table([("x-queue-type", text("quorum"))])
}
