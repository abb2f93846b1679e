//! Queues and messages of the broker, from a client's view.
//!
//! Numbers of ready messages and consumers come from AMQP, and are exact. Names, types and numbers of unacknowledged
//! messages come from the management API if there is one; they lag by seconds. So do all numbers of queues that are
//! exclusive to a service's connection, about which AMQP tells nobody else anything.
//!
//! - `json`: messages as JSON

mod json;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use self::json::{flatten, to_json};
use crate::{
    broker_url::{BrokerUrl, encode},
    failure::Result,
};

/// Time limit for one AMQP operation, which no healthy broker exceeds.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which a stream counts as empty: AMQP cannot ask for a stream's length.
const FIRST_ENTRY_TIMEOUT: Duration = Duration::from_secs(2);
/// Queue from which the vipservices take their work.
pub(crate) const WORK_QUEUE: &str = "vip_queue";
/// Queues of the system, for a broker without a management API, which alone can list names.
const SYSTEM_QUEUES: [&str; 6] = [
    WORK_QUEUE,
    "vip_queue.retry.1000",
    "vip_queue.retry.5000",
    "vip_queue.retry.30000",
    "vip_queue.dead",
    "offers",
];

/// Queue in RabbitMQ's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Name of the queue.
    pub name: String,
    /// Type: classic, quorum or stream, if it is known.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Number of messages that wait for delivery.
    pub ready: u32,
    /// Number of messages that are delivered but not acknowledged, if it is known.
    pub unacked: Option<u64>,
    /// Number of consumers.
    pub consumers: u32,
    /// True for a queue of one connection, which nobody else can use.
    #[serde(skip)]
    pub exclusive: bool,
}

impl Queue {
    /// Returns the queue of a row of RabbitMQ's management API. A queue that was declared just now has no numbers yet.
    pub(crate) fn of_row(row: &Value) -> Option<Self> {
        let number = |key: &str| u32::try_from(row[key].as_u64().unwrap_or_default()).unwrap_or(u32::MAX);
        Some(Self {
            name: row["name"].as_str()?.to_owned(),
            kind: row["type"].as_str().map(str::to_owned),
            ready: number("messages_ready"),
            unacked: row["messages_unacknowledged"].as_u64(),
            consumers: number("consumers"),
            exclusive: row["exclusive"] == true,
        })
    }
}

/// Connection of one command.
#[expect(missing_debug_implementations, reason = "lapin's connection prints nothing helpful")]
pub struct Broker {
    connection: Connection,
    url: BrokerUrl,
    admin: String,
    client: reqwest::Client,
}

impl Broker {
    /// Connects. `admin_port` is the port of the management API, if the broker has one.
    ///
    /// # Errors
    /// The broker cannot be reached, or refuses the login.
    pub async fn connect(url: &BrokerUrl, admin_port: u16) -> Result<Self> {
        let admin = format!("http://{}:{admin_port}", url.host);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build();
        Ok(Self {
            connection: connect(url).await?,
            url: url.clone(),
            admin,
            client: client.unwrap_or_default(),
        })
    }

    async fn channel(&self) -> Result<Channel> {
        let channel = timeout(OPERATION_TIMEOUT, self.connection.create_channel()).await;
        channel.context("the broker does not answer")?.context("the broker opens no channel")
    }

    /// Returns the numbers of ready messages and consumers of a queue, or `None` if there is no such queue.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn counts(&self, queue: &str) -> Result<Option<(u32, u32)>> {
        // The broker closes the channel if there is no such queue, so each call needs its own.
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
        let declared = timeout(OPERATION_TIMEOUT, declared).await.ok().and_then(Result::ok);
        Ok(declared.map(|queue| (queue.message_count(), queue.consumer_count())))
    }

    /// Returns all queues; without a management API, those of the system.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn queues(&self) -> Result<Vec<Queue>> {
        let managed = self.managed_queues().await;
        let names: Vec<_> = match &managed {
            Some(managed) => managed.keys().cloned().collect(),
            None => SYSTEM_QUEUES.map(str::to_owned).into(),
        };
        let mut queues = vec![];
        for name in names {
            let row = managed.as_ref().and_then(|managed| managed.get(&name)).and_then(Queue::of_row);
            let counts = self.counts(&name).await?;
            if let (None, Some(queue)) = (counts, row.as_ref().filter(|queue| queue.exclusive)) {
                queues.push(queue.clone());
            }
            let Some((ready, consumers)) = counts else { continue };
            let (kind, unacked, exclusive) =
                row.map(|row| (row.kind, row.unacked, row.exclusive)).unwrap_or_default();
            queues.push(Queue { name, kind, ready, unacked, consumers, exclusive });
        }
        Ok(queues)
    }

    /// Returns the queues of the management API by name.
    async fn managed_queues(&self) -> Option<BTreeMap<String, Value>> {
        // RabbitMQ has a list per virtual host, the development broker one for all.
        let queues = match self.admin(&format!("api/queues/{}", self.vhost())).await {
            Some(queues) => queues,
            None => self.admin("queues").await?,
        };
        let queues = queues.as_array()?.iter().filter(|queue| queue["vhost"] == self.url.vhost.as_str());
        Some(queues.filter_map(|queue| Some((queue["name"].as_str()?.to_owned(), queue.clone()))).collect())
    }

    async fn admin(&self, path: &str) -> Option<Value> {
        let request = self.client.get(format!("{}/{path}", self.admin));
        let answer = request.basic_auth(&self.url.username, Some(&self.url.password)).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    fn vhost(&self) -> String {
        encode(&self.url.vhost)
    }

    /// Returns the first message of a queue, or the first entry of a stream, which stays there. The development broker shows
    /// it without a delivery; RabbitMQ has to deliver it, which a quorum queue counts.
    ///
    /// # Errors
    /// There is no such queue, or the connection is lost.
    pub async fn peek(&mut self, queue: &str) -> Result<Option<Value>> {
        Ok(self.browse(queue, 1).await?.into_iter().next())
    }

    /// Returns at most `count` of the first messages of a queue, as [`peek`](Self::peek) returns one. Of a stream, RabbitMQ
    /// delivers only the first entry here.
    ///
    /// # Errors
    /// There is no such queue, or the connection is lost.
    pub async fn browse(&mut self, queue: &str, count: usize) -> Result<Vec<Value>> {
        if self.counts(queue).await?.is_none() {
            bail!("there is no queue {queue}: `cargo hops queues` lists all");
        }
        let path = format!("queues/{}/{}/messages?count={count}", self.vhost(), encode(queue));
        if let Some(messages) = self.admin(&path).await {
            return Ok(messages.as_array().into_iter().flatten().map(flatten).collect());
        }
        // When the channel closes, the messages return to the queue.
        let channel = self.channel().await?;
        let mut messages = vec![];
        while messages.len() < count {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default());
            match timeout(OPERATION_TIMEOUT, got).await {
                Ok(Ok(Some(got))) => messages.push(got.delivery),
                Ok(Ok(None)) => break,
                // A stream does not support `basic.get`: the broker closes the whole connection.
                _ => {
                    self.connection = connect(&self.url).await?;
                    messages.extend(self.first_of_stream(queue).await?);
                    break;
                }
            }
        }
        let json = |message: &Delivery| to_json(&message.properties, &message.data, message.redelivered);
        let listed = messages.iter().map(json).collect();
        let _ = timeout(OPERATION_TIMEOUT, channel.close(200, "done".into())).await;
        Ok(listed)
    }

    /// Returns the name of the broker's product, with RabbitMQ's version, if it has a management API.
    pub async fn product(&self) -> Option<String> {
        if let Some(overview) = self.admin("api/overview").await {
            return Some(format!("RabbitMQ {}", overview["rabbitmq_version"].as_str()?));
        }
        self.admin("status").await.map(|_| "devbroker".to_owned())
    }

    /// Closes the connections of these services, as an operator does, and returns how many there were.
    ///
    /// # Errors
    /// The broker has no management API.
    pub async fn close_connections_of(&self, services: &[String]) -> Result<usize> {
        let of_devbroker = self.admin("connections").await;
        let connections = match &of_devbroker {
            Some(connections) => Some(connections.clone()),
            None => self.admin("api/connections").await,
        };
        let connections = connections
            .context("only the broker's management API can close connections, and there is none")?;
        let mut closed = 0;
        for row in connections.as_array().into_iter().flatten() {
            let names = [&row["client_properties"]["connection_name"], &row["name"]];
            let name = names.iter().find_map(|name| name.as_str()).unwrap_or_default();
            if row["vhost"] != self.url.vhost.as_str() || !is_of_a_service(name, services) {
                continue;
            }
            let (method, path) = match (&of_devbroker, row["id"].as_u64()) {
                (Some(_), Some(id)) => (Method::POST, format!("connections/{id}/close")),
                _ => (
                    Method::DELETE,
                    format!("api/connections/{}", encode(row["name"].as_str().unwrap_or_default())),
                ),
            };
            let request = self.client.request(method, format!("{}/{path}", self.admin));
            let answer = request.basic_auth(&self.url.username, Some(&self.url.password)).send().await;
            closed += usize::from(answer.is_ok_and(|answer| answer.status().is_success()));
        }
        Ok(closed)
    }

    async fn first_of_stream(&self, queue: &str) -> Result<Option<Delivery>> {
        let consumed = async {
            let channel = self.connection.create_channel().await?;
            channel.basic_qos(1, BasicQosOptions::default()).await?;
            let mut arguments = FieldTable::default();
            arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), "".into(), options, arguments).await
        };
        let consumer = timeout(OPERATION_TIMEOUT, consumed).await.context("the broker does not answer")?;
        let mut consumer = consumer.with_context(|| format!("cannot read {queue}"))?;
        let first = timeout(FIRST_ENTRY_TIMEOUT, futures_util::StreamExt::next(&mut consumer)).await;
        Ok(first.ok().flatten().and_then(Result::ok))
    }

    /// Publishes a message that nobody can read: its body is no notification. Returns its id when the broker has confirmed
    /// it.
    ///
    /// # Errors
    /// The broker does not confirm it.
    pub async fn publish_poison(&self, queue: &str) -> Result<String> {
        let id = &poison_id();
        let published = async {
            let channel = self.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(id.as_str().into())
                .with_correlation_id(id.as_str().into())
                .with_content_type("application/json".into());
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), queue.into(), options, b"poison", properties).await?.await
        };
        let confirmed = timeout(OPERATION_TIMEOUT, published).await.context("the broker does not answer")?;
        match confirmed.with_context(|| format!("cannot publish to {queue}"))? {
            Confirmation::Ack(_) => Ok(id.clone()),
            _ => bail!("the broker has not taken the message: {queue} may be full"),
        }
    }

    /// Closes the connection; a message that was peeked at returns to its queue.
    pub async fn close(self) {
        let _ = timeout(OPERATION_TIMEOUT, self.connection.close(200, "done".into())).await;
    }
}

/// Returns an id for a message that nobody can read.
pub(crate) fn poison_id() -> String {
    format!("poison-{:08x}", rand::random::<u32>())
}

/// Returns true if a connection of this name is a service's, as in `vipservice.1 (consuming)`, and not a person's.
pub(crate) fn is_of_a_service(connection: &str, services: &[String]) -> bool {
    services.iter().any(|service| {
        connection.strip_prefix(service.as_str()).and_then(|rest| rest.strip_prefix('.')).is_some()
    })
}

async fn connect(url: &BrokerUrl) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("cargo hops".into());
    let connection = timeout(OPERATION_TIMEOUT, Connection::connect(&url.with_login(), properties)).await;
    let failed = |why: &str| {
        anyhow!("cannot connect to the broker at {url}: {why}; `cargo hops status` shows whether it runs")
    };
    connection.map_err(|_| failed("it does not answer"))?.map_err(|error| failed(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_services_are_told_from_others() {
        let services = ["vipservice".to_owned()];
        for (name, expected) in [
            ("vipservice.1 (consuming)", true),
            ("vipservice", false),
            ("cargo hops", false),
            ("vipservices.1", false),
        ] {
            assert_eq!(is_of_a_service(name, &services), expected, "{name}");
        }
    }
}
