//! The JSON that operators see.

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::{
    Core,
    queue::Queue,
    queue_options::QueueKind,
    value::{Name, number, text, text_of},
};

impl Core {
    /// Returns the counts of the broker.
    pub(crate) fn status(&self) -> Value {
        json!({
            "connections": self.connections.len(),
            "channels": self.connections.values().map(|connection| connection.channels.len()).sum::<usize>(),
            "consumers": self.consumers.len(),
            "queues": self.queues.len(),
            "messages_ready": self.queues.values().map(Queue::ready_count).sum::<usize>(),
            "messages_unacknowledged": self.queues.values().map(|queue| queue.unacked).sum::<usize>(),
            "vhosts": self.vhosts.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        })
    }

    /// Returns the queues of one vhost or of all, with RabbitMQ's columns.
    pub(crate) fn queues_view(&self, vhost: Option<&str>) -> Value {
        let queues = self.queue_ids.values().filter_map(|id| self.queues.get(id));
        let queues = queues.filter(|queue| vhost.is_none_or(|vhost| *queue.name.vhost == *vhost));
        let view = queues.map(|queue| {
            let (ready, unacked) = (queue.ready_count(), queue.unacked);
            let held = queue.held.len();
            json!({
                "vhost": *queue.name.vhost,
                "name": queue.name.name,
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
                "first_offset": (queue.kind() == QueueKind::Stream).then(|| queue.stream.first()),
            })
        });
        view.collect()
    }

    /// Returns the first `count` waiting messages of a queue without taking them; `null` if there is no such queue.
    pub(crate) fn peek(&self, vhost: &str, queue: &str, count: usize) -> Value {
        let name = Name { vhost: vhost.into(), name: queue.into() };
        let Some(queue) = self.queue_ids.get(&name).and_then(|id| self.queues.get(id)) else {
            return Value::Null;
        };
        let waiting = queue.entries().map(|entry| (&entry.message, entry.is_redelivered(), entry.failed));
        let logged = queue.stream.iter().map(|(_, message)| (message, false, 0));
        let view = waiting.chain(logged).take(count).map(|(message, redelivered, delivery_count)| {
            let mut properties = serde_json::to_value(&message.properties).unwrap_or_default();
            if let Some(properties) = properties.as_object_mut() {
                properties.retain(|_, value| !value.is_null());
                properties.remove("headers");
            }
            json!({
                "exchange": message.exchange.as_str(),
                "routing_key": message.routing_key.as_str(),
                "redelivered": redelivered,
                "delivery_count": delivery_count,
                "properties": properties,
                "headers": table(&message.headers()),
                "body": String::from_utf8_lossy(&message.body),
            })
        });
        view.collect()
    }

    /// Returns the connections, the oldest first.
    pub(crate) fn connections_view(&self) -> Value {
        let view = self.connections.iter().map(|(id, connection)| {
            let channels = connection.channels.values();
            let name = text_of(&connection.peer.properties, "connection_name");
            json!({
                "id": id,
                "address": connection.peer.address,
                "name": name,
                "vhost": *connection.peer.vhost,
                "user": connection.peer.user,
                "channels": connection.channels.len(),
                "consumers": channels.clone().map(|channel| channel.consumers.len()).sum::<usize>(),
                "unacknowledged": channels.map(|channel| channel.unacked.len()).sum::<usize>(),
                "closing": connection.closing,
            })
        });
        view.collect()
    }
}

fn table(table: &FieldTable) -> Value {
    Value::Object(table.into_iter().map(|(name, value)| (name.to_string(), plain(value))).collect())
}

/// Converts an AMQP value to JSON, without its type.
fn plain(value: &AMQPValue) -> Value {
    use AMQPValue as V;
    if let Some(text) = text(value) {
        return json!(text);
    }
    if let Some(number) = number(value) {
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
