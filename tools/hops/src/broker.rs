//! The broker as a client sees it: queues with what lies in them, and a message with its properties.
//!
//! AMQP tells what is ready and who consumes, and is exact. Names, types and what is unacknowledged come from the
//! management API where there is one; it lags by seconds.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{
    broker_url::{BrokerUrl, encode},
    failure::{Failure, Result},
};

/// No single operation of a healthy broker takes longer.
const OPERATION: Duration = Duration::from_secs(10);
/// A stream has no end to ask for: if its first entry is not there by then, there is none.
const STREAM_IS_EMPTY: Duration = Duration::from_secs(2);
/// The queues of the contract, for a broker that cannot be asked for names.
const CONTRACT: [&str; 6] = [
    "vip_queue",
    "vip_queue.retry.1000",
    "vip_queue.retry.5000",
    "vip_queue.retry.30000",
    "vip_queue.dead",
    "offers",
];

/// A queue, in RabbitMQ's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// classic, quorum or stream, if it is known.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Messages that wait.
    pub ready: u32,
    /// Messages that a consumer has in hand, if it is known.
    pub unacked: Option<u64>,
    /// Who has subscribed.
    pub consumers: u32,
}

/// A connection for one command.
#[expect(missing_debug_implementations, reason = "its parts print nothing that helps")]
pub struct Broker {
    connection: Connection,
    url: BrokerUrl,
    admin: String,
    client: reqwest::Client,
}

impl Broker {
    /// Connects. `admin_port` is where the management API would be.
    ///
    /// # Errors
    /// The broker cannot be reached, or does not let us in.
    pub async fn connect(url: &BrokerUrl, admin_port: u16) -> Result<Self> {
        let admin = format!("http://{}:{admin_port}", url.host);
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build();
        Ok(Self { connection: dial(url).await?, url: url.clone(), admin, client: client.unwrap_or_default() })
    }

    async fn channel(&self) -> Result<Channel> {
        let channel = timeout(OPERATION, self.connection.create_channel()).await;
        channel.ok().and_then(Result::ok).ok_or_else(|| "the broker opens no channel".into())
    }

    /// Ready messages and consumers of a queue; `None` where there is no such queue.
    ///
    /// # Errors
    /// The broker is gone.
    pub async fn counts(&self, queue: &str) -> Result<Option<(u32, u32)>> {
        // A channel each: asking for what is not there closes it.
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default());
        let declared = timeout(OPERATION, declared).await.ok().and_then(Result::ok);
        Ok(declared.map(|queue| (queue.message_count(), queue.consumer_count())))
    }

    /// All queues that can be known of.
    ///
    /// # Errors
    /// The broker is gone.
    pub async fn queues(&self) -> Result<Vec<Queue>> {
        let known = self.managed().await;
        let names: Vec<_> = match &known {
            Some(known) => known.keys().cloned().collect(),
            None => CONTRACT.map(str::to_owned).into(),
        };
        let mut queues = vec![];
        for name in names {
            if let Some((ready, consumers)) = self.counts(&name).await? {
                let managed = known.as_ref().and_then(|known| known.get(&name));
                let kind = managed.and_then(|queue| queue["type"].as_str()).map(str::to_owned);
                let unacked = managed.and_then(|queue| queue["messages_unacknowledged"].as_u64());
                queues.push(Queue { name, kind, ready, unacked, consumers });
            }
        }
        Ok(queues)
    }

    /// What the management API says, by name.
    async fn managed(&self) -> Option<BTreeMap<String, Value>> {
        // RabbitMQ's, and the development broker's, which has all virtual hosts in one list.
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

    /// The first message of a queue, or the first entry of a stream; it stays where it is. The development broker
    /// shows it without touching it; RabbitMQ has to deliver it, and a quorum queue counts that.
    ///
    /// # Errors
    /// There is no such queue, or the broker is gone.
    pub async fn peek(&mut self, queue: &str) -> Result<Option<Value>> {
        if self.counts(queue).await?.is_none() {
            return Err(Failure::Why(format!("there is no queue {queue}: `cargo hops queues` lists them")));
        }
        if let Some(messages) =
            self.admin(&format!("queues/{}/{}/messages", self.vhost(), encode(queue))).await
        {
            return Ok(messages.get(0).map(flat));
        }
        let channel = self.channel().await?;
        let got = channel.basic_get(queue.into(), BasicGetOptions::default());
        let message = match timeout(OPERATION, got).await {
            Ok(Ok(got)) => got.map(|message| message.delivery),
            // A stream is consumed, never got: the broker closes the whole connection.
            _ => {
                self.connection = dial(&self.url).await?;
                self.first_of_stream(queue).await?
            }
        };
        Ok(message.map(|message| shown(&message.properties, &message.data, message.redelivered)))
    }

    async fn first_of_stream(&self, queue: &str) -> Result<Option<lapin::message::Delivery>> {
        let consumed = async {
            let channel = self.connection.create_channel().await?;
            channel.basic_qos(1, BasicQosOptions::default()).await?;
            let mut arguments = FieldTable::default();
            arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), "".into(), options, arguments).await
        };
        let consumer =
            timeout(OPERATION, consumed).await.map_err(|_| Failure::from("the broker does not answer"))?;
        let mut consumer = consumer.map_err(|e| Failure::Why(format!("{queue} cannot be read: {e}")))?;
        let first = timeout(STREAM_IS_EMPTY, futures_util::StreamExt::next(&mut consumer)).await;
        Ok(first.ok().flatten().and_then(Result::ok))
    }

    /// Closes the connection; what was looked at goes back to where it was.
    pub async fn close(self) {
        let _ = timeout(OPERATION, self.connection.close(200, "looked".into())).await;
    }
}

async fn dial(url: &BrokerUrl) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("cargo hops".into());
    let connection = timeout(OPERATION, Connection::connect(&url.with_login(), properties)).await;
    let why = |why: String| {
        Failure::Why(format!("cannot reach the broker at {url}: {why}; `cargo hops status` shows how it is"))
    };
    connection.map_err(|_| why("no answer".into()))?.map_err(|e| why(e.to_string()))
}

/// The development broker's answer with its properties beside the rest, as [`shown`] has them.
fn flat(message: &Value) -> Value {
    let Value::Object(message) = message else { return message.clone() };
    let mut message = message.clone();
    if let Some(Value::Object(mut properties)) = message.remove("properties") {
        // It has the library's name for this one.
        if let Some(kind) = properties.remove("kind") {
            properties.insert("type".into(), kind);
        }
        message.extend(properties);
    }
    Value::Object(message)
}

/// A message as JSON: every property that is set, and the body, as text where it is text.
fn shown(properties: &BasicProperties, body: &[u8], redelivered: bool) -> Value {
    let mut map = Map::new();
    let texts = [
        ("message_id", properties.message_id()),
        ("correlation_id", properties.correlation_id()),
        ("type", properties.kind()),
        ("app_id", properties.app_id()),
        ("content_type", properties.content_type()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
    ];
    for (name, value) in texts {
        map.extend(value.as_ref().map(|value| (name.to_owned(), json!(value.as_str()))));
    }
    map.extend(properties.delivery_mode().map(|mode| ("delivery_mode".to_owned(), json!(mode))));
    map.extend(properties.priority().map(|priority| ("priority".to_owned(), json!(priority))));
    map.extend(properties.timestamp().map(|at| ("timestamp".to_owned(), json!(at))));
    if let Some(headers) = properties.headers() {
        map.insert("headers".into(), table(headers));
    }
    map.insert("redelivered".into(), json!(redelivered));
    map.insert("body".into(), json!(String::from_utf8_lossy(body)));
    Value::Object(map)
}

fn table(table: &FieldTable) -> Value {
    Value::Object(table.inner().iter().map(|(name, value)| (name.to_string(), field(value))).collect())
}

fn field(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => json!(text.to_string()),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::Boolean(flag) => json!(flag),
        AMQPValue::ShortShortInt(number) => json!(number),
        AMQPValue::ShortShortUInt(number) => json!(number),
        AMQPValue::ShortInt(number) => json!(number),
        AMQPValue::ShortUInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::Timestamp(seconds) => json!(seconds),
        AMQPValue::Double(number) => json!(number),
        AMQPValue::FieldArray(array) => array.as_slice().iter().map(field).collect(),
        AMQPValue::FieldTable(inner) => table(inner),
        other => json!(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_alike_whoever_shows_it() {
        let mut headers = FieldTable::default();
        headers.insert("n".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default().with_type("k".into()).with_headers(headers);
        let expected = json!({"type": "k", "headers": {"n": 1}, "redelivered": false, "body": "{}"});
        assert_eq!(shown(&properties, b"{}", false), expected);
        let theirs =
            json!({"properties": {"kind": "k"}, "headers": {"n": 1}, "redelivered": false, "body": "{}"});
        assert_eq!(flat(&theirs), expected);
    }
}
