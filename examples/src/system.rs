//! The system's own messaging client, for the patterns that the system uses, too.

use messaging::{
    Delivery, LinkStatus, Message, MessagingClient as _, Subscription,
    amqp::{AmqpClient, AmqpOptions, Settings},
    broker::BrokerUrls,
    metrics::Metrics,
    topology::{Argument, Queue, Topology},
};
use prometheus_client::registry::Registry;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use crate::{BROKER_TIMEOUT, Failure, Result, Terminal, failure::address};

/// Time between two checks of a state.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Terminal {
    /// Returns the connected client, after it has declared these queues and exchanges. It reconnects by itself
    /// when the connection is lost.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses the login, or has one of the queues with other arguments.
    pub async fn client(&self, topology: Topology) -> Result<&AmqpClient> {
        self.client.get_or_try_init(|| self.connected(topology)).await
    }

    async fn connected(&self, topology: Topology) -> Result<AmqpClient> {
        let shown = address(&self.amqp)?;
        let amqp_server_url = BrokerUrls::parse(&self.amqp).map_err(|why| Failure::new(&why))?;
        // A service retries after this time; here `within` gives up earlier.
        let amqp_operation_timeout = 2 * BROKER_TIMEOUT;
        let settings = Settings { amqp_server_url, amqp_operation_timeout, ..Settings::default() };
        let options = AmqpOptions::new(&settings, "examples", topology).map_err(|why| Failure::new(&why))?;
        let client = AmqpClient::new(options, Metrics::registered(&mut Registry::default()));
        client.connect();
        let deadline = Instant::now() + BROKER_TIMEOUT;
        loop {
            let status = client.status();
            let why = match (status.publishing, status.consuming) {
                (LinkStatus::Up, LinkStatus::Up) => return Ok(client),
                (LinkStatus::Refused(why) | LinkStatus::Connecting(Some(why)), _)
                | (_, LinkStatus::Refused(why) | LinkStatus::Connecting(Some(why))) => Some(why),
                _ if Instant::now() > deadline => Some("it does not answer".to_owned()),
                _ => None,
            };
            if let Some(why) = why {
                client.close().await;
                return Err(Failure::connecting(&shown, &why));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until all subscriptions can receive deliveries.
    pub async fn until_active(&self, subscriptions: &[Subscription]) {
        while !subscriptions.iter().all(Subscription::is_active) && !self.stop.is_cancelled() {
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Stops accepting deliveries, and waits until those in flight are handled and acknowledged.
pub async fn finish(subscriptions: &[Subscription]) {
    for subscription in subscriptions {
        subscription.cancel();
    }
    for subscription in subscriptions {
        subscription.finished().await;
    }
}

/// Returns a message with this text and a new id.
pub fn message(text: &str) -> Message {
    let (id, content_type) = (Uuid::now_v7().to_string(), "text/plain".to_owned());
    Message {
        id: Some(id),
        content_type: Some(content_type),
        body: text.to_owned().into(),
        ..Message::default()
    }
}

/// Returns a delivery's body as text.
pub fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// Returns one durable queue of type `quorum` or `stream`. Sender and receiver both declare it with this
/// function, so that they agree on its arguments.
pub fn queue(name: &str, kind: &str) -> Topology {
    let arguments = vec![("x-queue-type", Argument::Text(kind.into()))];
    Topology { queues: vec![Queue { name: name.into(), arguments }], ..Topology::default() }
}
