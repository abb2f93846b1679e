//! AMQP in fewer words, for the programs that use lapin plainly.

use std::sync::atomic::Ordering;

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use crate::{Failure, LIMIT, Result, Terminal, failure::address, within};

impl Terminal {
    /// A channel on a connection to the broker, in confirm mode: the broker answers each publish.
    ///
    /// # Errors
    /// The broker is not there or does not let us in, with what to do.
    pub async fn channel(&self) -> Result<Channel> {
        let connect = async {
            let shown = address(&self.amqp)?;
            let properties = ConnectionProperties::default().with_connection_name("examples".into());
            let connection = timeout(LIMIT, Connection::connect(&self.amqp, properties)).await;
            let connection = connection.map_err(|_| Failure::connecting(&shown, "it does not answer"))?;
            connection.map_err(|error| Failure::connecting(&shown, &error.to_string()))
        };
        let connection = self.connection.get_or_try_init(|| connect).await?;
        let channel = within(connection.create_channel()).await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Hands each delivery over, and acknowledges it when that is done; one after the other, until Ctrl-C.
    /// Then the consumer is cancelled, and what is in hand is finished. What the broker has sent ahead goes
    /// back to the queue.
    ///
    /// # Errors
    /// The handler's own, or the consumer has lost its queue or its connection.
    pub async fn each(
        &self,
        channel: &Channel,
        mut consumer: Consumer,
        mut handler: impl AsyncFnMut(&Delivery) -> Result,
    ) -> Result {
        self.listens.store(true, Ordering::Relaxed);
        while let Some(next) = self.stop.run_until_cancelled(consumer.next()).await {
            let delivery =
                next.ok_or_else(|| Failure::new("the queue is gone, and its consumer with it"))??;
            handler(&delivery).await?;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        Ok(())
    }
}

/// Consumes a queue with acknowledgments by hand; at most `prefetch` messages are sent ahead of them.
///
/// # Errors
/// There is no such queue, or somebody has it alone.
pub async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
    Ok(channel.basic_consume(short(queue)?, tag, options, FieldTable::default()).await?)
}

/// Publishes a text, persistent, and waits until the broker has confirmed it; whether a queue took it is
/// another question.
///
/// # Errors
/// The broker refused it, or there is no such exchange.
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

/// The broker is to send a message back that no queue takes.
pub fn mandatory() -> BasicPublishOptions {
    BasicPublishOptions { mandatory: true, ..Default::default() }
}

/// A body as text.
pub fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// A name in AMQP's form.
///
/// # Errors
/// It has over 255 bytes; lapin's own `into` would panic.
pub fn short(name: &str) -> Result<ShortString> {
    ShortString::try_new(name).map_err(|_| Failure::new("a name or a key has at most 255 bytes"))
}

/// Arguments or headers.
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

/// A text as an argument's value.
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A number as an argument's value.
pub fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

/// The arguments of a quorum queue, which keeps what it has confirmed when its broker dies.
///
/// # Errors
/// None: as [`table`].
pub fn quorum() -> Result<FieldTable> {
    table([("x-queue-type", text("quorum"))])
}
