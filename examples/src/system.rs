//! The system's own client, for the patterns that the system has too.

use hops_config::{SharedSettings, broker::BrokerUrls};
use messaging::{
    Delivery, LinkStatus, Message, MessagingClient as _, Subscription,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
    topology::{Argument, Queue, Topology},
};
use prometheus_client::registry::Registry;
use tokio::time::{Duration, Instant, sleep};
use uuid::Uuid;

use crate::{Failure, LIMIT, Result, Terminal, failure::address};

/// Between two looks at a state.
const PAUSE: Duration = Duration::from_millis(20);

impl Terminal {
    /// The client, connected, with these queues and exchanges declared. When the broker goes away later, it
    /// connects again by itself.
    ///
    /// # Errors
    /// The broker is not there, does not let us in, or has one of the queues with other arguments.
    pub async fn client(&self, topology: Topology) -> Result<&AmqpClient> {
        self.client.get_or_try_init(|| self.connected(topology)).await
    }

    async fn connected(&self, topology: Topology) -> Result<AmqpClient> {
        let shown = address(&self.amqp)?;
        let amqp_server_url = BrokerUrls::parse(&self.amqp).map_err(|why| Failure::new(&why))?;
        // A service would try again after it; here `within` gives up before.
        let amqp_operation_timeout = 2 * LIMIT;
        let settings =
            SharedSettings { amqp_server_url, amqp_operation_timeout, ..SharedSettings::default() };
        let options = AmqpOptions::new(&settings, "examples", topology).map_err(|why| Failure::new(&why))?;
        let client = AmqpClient::new(options, Metrics::registered(&mut Registry::default()));
        client.connect();
        let deadline = Instant::now() + LIMIT;
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
            sleep(PAUSE).await;
        }
    }

    /// Waits until all of them get deliveries.
    pub async fn until_active(&self, subscriptions: &[Subscription]) {
        while !subscriptions.iter().all(Subscription::is_active) && !self.stop.is_cancelled() {
            sleep(PAUSE).await;
        }
    }
}

/// Takes no more deliveries, and waits until those in hand are handled and acknowledged.
pub async fn finish(subscriptions: &[Subscription]) {
    for subscription in subscriptions {
        subscription.cancel();
    }
    for subscription in subscriptions {
        subscription.finished().await;
    }
}

/// A text as a message with an id.
pub fn message(text: &str) -> Message {
    let (id, content_type) = (Uuid::now_v7().to_string(), "text/plain".to_owned());
    Message {
        id: Some(id),
        content_type: Some(content_type),
        body: text.to_owned().into(),
        ..Message::default()
    }
}

/// A body as text.
pub fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.body).into_owned()
}

/// One durable queue; its type is `quorum` or `stream`. Both ends declare it with the same function, so that
/// they agree.
pub fn queue(name: &str, kind: &str) -> Topology {
    let arguments = vec![("x-queue-type", Argument::Text(kind.into()))];
    Topology { queues: vec![Queue { name: name.into(), arguments }], ..Topology::default() }
}
