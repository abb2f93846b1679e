//! The firehose: in a vhost where an operator has switched it on, the broker also publishes each message that is published or
//! delivered to the exchange `amq.rabbitmq.trace`, with headers that say what happened to it. After a restart it is off.
//! <https://www.rabbitmq.com/docs/firehose>

use std::{collections::BTreeSet, sync::Arc};

use amq_protocol::{
    protocol::BasicProperties,
    types::{AMQPValue, FieldTable},
};

use super::{
    ChannelId, Core, QueueId,
    message::Message,
    value::{long_string, short_string},
};

/// Exchange of the firehose. It is internal: clients may bind queues to it, but not publish to it.
pub(super) const TRACE: &str = "amq.rabbitmq.trace";

/// Event in the life of a message.
pub(super) enum Event<'a> {
    /// A client has published it, and it is routed to these queues.
    Published(&'a BTreeSet<QueueId>),
    /// It was sent to a client from a queue.
    Delivered(QueueId, bool),
}

impl Core {
    /// Switches the firehose of a vhost, and creates the vhost if it is new. `node` is the name of the broker in its headers; `None`
    /// switches it off.
    pub(crate) fn set_tracing(&mut self, vhost: &str, node: Option<String>) {
        let vhost = Arc::from(vhost);
        self.make_vhost(&vhost);
        match node {
            Some(node) => self.tracing.insert(vhost, node),
            None => self.tracing.remove(&vhost),
        };
    }

    /// Publishes an event on a channel to the firehose, if that is on. The firehose does not trace its own messages.
    pub(super) fn trace(&mut self, at: ChannelId, message: &Message, event: &Event<'_>) {
        let Some(peer) = self.connections.get(&at.connection).map(|connection| &connection.peer) else {
            return;
        };
        let Some(node) = self.tracing.get(&peer.vhost) else { return };
        if message.exchange.as_str() == TRACE {
            return;
        }
        let name = |id: &QueueId| self.queues.get(id).map_or("", |queue| queue.name.name.as_str());
        let (key, about) = match event {
            Event::Published(queues) => {
                let names: Vec<_> = match message.exchange.as_str() {
                    // The default exchange names the queue of the key, whether there is one or not.
                    "" => vec![long_string(message.routing_key.as_str())],
                    _ => queues.iter().map(|id| long_string(name(id))).collect(),
                };
                let key = format!("publish.{}", message.exchange);
                (key, ("routed_queues", AMQPValue::FieldArray(names.into())))
            }
            Event::Delivered(queue, redelivered) => {
                let redelivered = AMQPValue::LongInt((*redelivered).into());
                (format!("deliver.{}", name(queue)), ("redelivered", redelivered))
            }
        };
        let keys = vec![long_string(message.routing_key.as_str())];
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("exchange_name", long_string(message.exchange.as_str())),
            ("routing_keys", AMQPValue::FieldArray(keys.into())),
            ("properties", AMQPValue::FieldTable(as_table(&message.properties))),
            ("node", long_string(node)),
            ("vhost", long_string(&peer.vhost)),
            ("connection", long_string(&peer.address)),
            ("channel", AMQPValue::LongInt(at.channel.into())),
            ("user", long_string(&peer.user)),
            about,
        ] {
            headers.insert(name.into(), value);
        }
        let trace = Message {
            exchange: TRACE.into(),
            routing_key: short_string(&key),
            properties: BasicProperties::default().with_headers(headers),
            body: message.body.clone(),
            dead_lettered: false,
        };
        let queues = self.route(&peer.vhost, &trace);
        self.enqueue(&queues, &Arc::new(trace), 0);
    }
}

/// Returns the properties that are set, as RabbitMQ writes them: only texts and 32-bit numbers, and the table of headers.
fn as_table(properties: &BasicProperties) -> FieldTable {
    let text = |text: &Option<_>| {
        text.as_ref().map(|text: &amq_protocol::types::ShortString| long_string(text.as_str()))
    };
    let number =
        |number: Option<u64>| number.map(|n| AMQPValue::LongInt(i32::try_from(n).unwrap_or(i32::MAX)));
    let mut table = FieldTable::default();
    for (name, value) in [
        ("content_type", text(properties.content_type())),
        ("content_encoding", text(properties.content_encoding())),
        ("headers", properties.headers().clone().map(AMQPValue::FieldTable)),
        ("delivery_mode", number(properties.delivery_mode().map(u64::from))),
        ("priority", number(properties.priority().map(u64::from))),
        ("correlation_id", text(properties.correlation_id())),
        ("reply_to", text(properties.reply_to())),
        ("expiration", text(properties.expiration())),
        ("message_id", text(properties.message_id())),
        ("timestamp", number(*properties.timestamp())),
        ("type", text(properties.kind())),
        ("user_id", text(properties.user_id())),
        ("app_id", text(properties.app_id())),
        ("cluster_id", text(properties.cluster_id())),
    ] {
        if let Some(value) = value {
            table.insert(name.into(), value);
        }
    }
    table
}
