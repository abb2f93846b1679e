//! The queues of a virtual host over AMQP: a test declares, fills, counts, reads and deletes them.

use lapin::{
    BasicProperties, Queue,
    message::Delivery,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use super::{OPERATION, Vhost};

/// A message as it lies in a queue.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// The body.
    pub body: Vec<u8>,
    /// All properties.
    pub properties: BasicProperties,
}

impl StoredMessage {
    /// A header that holds text.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// The request id that the message carries as its correlation id.
    pub fn request_id(&self) -> String {
        self.properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

impl From<Delivery> for StoredMessage {
    fn from(delivery: Delivery) -> Self {
        Self { body: delivery.data, properties: delivery.properties }
    }
}

impl Vhost {
    /// Declares a durable queue with these arguments, which is how a test makes drift.
    pub async fn declare(&self, queue: &str, arguments: FieldTable) {
        let (_connection, channel) = self.channel().await;
        channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
            .await
            .unwrap_or_else(|e| panic!("cannot declare {queue}: {e}"));
    }

    /// Deletes a queue with all that is in it.
    pub async fn delete(&self, queue: &str) {
        let (_connection, channel) = self.channel().await;
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        deleted.await.unwrap_or_else(|e| panic!("cannot delete {queue}: {e}"));
    }

    /// Puts a message of the test's own making into a queue, as any producer might.
    pub async fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        assert!(self.try_publish(queue, properties, body).await, "{queue} takes no message");
    }

    /// The same; whether the queue has taken it.
    pub async fn try_publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) -> bool {
        let (_connection, channel) = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await;
        let confirmation = confirm.expect("published").await.expect("confirmed");
        confirmation.is_ack() && confirmation.take_message().is_none()
    }

    /// Counts the ready messages of a queue, as the queue itself does; `None` if there is no such queue.
    pub async fn ready(&self, queue: &str) -> Option<u32> {
        Some(self.passive(queue).await?.message_count())
    }

    /// Counts the consumers of a queue, likewise.
    pub async fn consumers(&self, queue: &str) -> Option<u32> {
        Some(self.passive(queue).await?.consumer_count())
    }

    /// A passive declaration: exact where the management API's counters lag by seconds.
    async fn passive(&self, queue: &str) -> Option<Queue> {
        let (_connection, channel) = self.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
        timeout(OPERATION, declared).await.ok()?.ok()
    }

    /// The messages of a queue, which go back to it; empty where there is no such queue.
    /// Each look counts as a delivery.
    pub async fn messages(&self, queue: &str) -> Vec<StoredMessage> {
        let (connection, channel) = self.channel().await;
        let mut messages = vec![];
        loop {
            let get = channel.basic_get(queue.into(), BasicGetOptions::default());
            match timeout(OPERATION, get).await.expect("the broker answers in time") {
                Ok(Some(message)) => messages.push(message.delivery.into()),
                Ok(None) => break,
                Err(error) if error.to_string().contains("NOT_FOUND - no queue") => break,
                Err(error) => panic!("cannot look into {queue}: {error}"),
            }
        }
        let _ = timeout(OPERATION, connection.close(200, "looked".into())).await;
        messages
    }
}
