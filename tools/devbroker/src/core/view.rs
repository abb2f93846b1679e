//! What an operator may see.

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::{Core, arguments::Kind, message::text};

impl Core {
    /// Counts of everything.
    #[must_use]
    pub fn status(&self) -> Value {
        json!({
            "connections": self.connections.len(),
            "channels": self.connections.values().map(|connection| connection.channels.len()).sum::<usize>(),
            "consumers": self.consumers.len(),
            "queues": self.queues.len(),
            "messages_ready": self.queues.values().map(super::Queue::ready_count).sum::<usize>(),
            "messages_unacknowledged": self.queues.values().map(|queue| queue.unacked).sum::<usize>(),
            "memory_bytes": self.memory,
            "vhosts": self.vhosts.keys().collect::<Vec<_>>(),
        })
    }

    /// The queues, of one vhost or of all, with RabbitMQ's columns.
    #[must_use]
    pub fn queues_view(&self, vhost: Option<&str>) -> Value {
        let mut queues: Vec<_> = self.queues.values().collect();
        queues.retain(|queue| vhost.is_none_or(|vhost| queue.vhost == vhost));
        queues.sort_by_key(|queue| (&queue.vhost, &queue.name));
        let view = queues.into_iter().map(|queue| {
            let (ready, unacked) = (queue.ready_count(), queue.unacked);
            let held = queue.held.len();
            json!({
                "vhost": queue.vhost,
                "name": queue.name,
                "type": queue.kind().name(),
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "exclusive": queue.owner.is_some(),
                "arguments": table(&queue.arguments),
                "messages": ready + unacked + held,
                "messages_ready": ready,
                "messages_unacknowledged": unacked,
                "messages_dead_letters_held": held,
                "consumers": queue.consumers.len(),
                "first_offset": (queue.kind() == Kind::Stream).then(|| queue.log.first()),
            })
        });
        view.collect()
    }

    /// The first waiting messages of a queue, left where they are.
    #[must_use]
    pub fn peek(&self, vhost: &str, queue: &str, count: usize) -> Value {
        let id = self.vhosts.get(vhost).and_then(|vhost| vhost.queues.get(queue));
        let Some(queue) = id.and_then(|id| self.queues.get(id)) else { return Value::Null };
        let waiting = queue.entries().map(|entry| (&entry.message, entry.redelivered, entry.delivery_count));
        let logged = queue.log.iter().map(|(_, _, message)| (message, false, 0));
        let view = waiting.chain(logged).take(count).map(|(message, redelivered, delivery_count)| {
            let mut properties = serde_json::to_value(&message.properties).unwrap_or_default();
            if let Some(properties) = properties.as_object_mut() {
                properties.retain(|_, value| !value.is_null());
                properties.remove("headers");
            }
            json!({
                "exchange": message.exchange.as_str(),
                "routing_key": message.routing_key().as_str(),
                "redelivered": redelivered,
                "delivery_count": delivery_count,
                "properties": properties,
                "headers": table(&message.headers()),
                "body": String::from_utf8_lossy(&message.body),
            })
        });
        view.collect()
    }

    /// The connections, oldest first.
    #[must_use]
    pub fn connections_view(&self) -> Value {
        let mut connections: Vec<_> = self.connections.iter().collect();
        connections.sort_by_key(|(id, _)| **id);
        let view = connections.into_iter().map(|(id, connection)| {
            let name = connection.peer.properties.inner().get("connection_name").and_then(text);
            json!({
                "id": id,
                "address": connection.peer.address,
                "name": name,
                "vhost": connection.peer.vhost,
                "user": connection.peer.user,
                "channels": connection.channels.len(),
                "consumers": connection.channels.values().map(|channel| channel.consumers.len()).sum::<usize>(),
                "unacknowledged": connection.channels.values().map(|channel| channel.unacked.len()).sum::<usize>(),
                "closing": connection.closing,
            })
        });
        view.collect()
    }
}

fn table(table: &FieldTable) -> Value {
    Value::Object(table.into_iter().map(|(name, value)| (name.to_string(), plain(value))).collect())
}

/// An AMQP value as JSON without the names of the types.
fn plain(value: &AMQPValue) -> Value {
    use AMQPValue as V;
    if let Some(text) = text(value) {
        return json!(text);
    }
    if let Some(number) = super::message::number(value) {
        return json!(number);
    }
    match value {
        V::Boolean(flag) => json!(flag),
        V::Timestamp(seconds) => json!(seconds),
        V::Double(number) => json!(number),
        V::Float(number) => json!(number),
        V::FieldArray(values) => values.as_slice().iter().map(plain).collect(),
        V::FieldTable(inner) => table(inner),
        _ => Value::Null,
    }
}
