//! Messages and numbers in the form that both systems have.

use serde_json::{Value, json};

use live::event::Queue;

use crate::broker;

/// Most messages of a queue that are listed: RabbitMQ delivers each of them to list it.
pub(super) const LISTED: usize = 20;

/// Returns a queue from the row of RabbitMQ's management API.
pub(super) fn queue(row: &Value) -> Option<Queue> {
    let broker::Queue { name, kind, ready, unacked, consumers, .. } = broker::Queue::of_row(row)?;
    Some(Queue::new(&name, kind.as_deref(), ready.into(), unacked, consumers.into()))
}

/// Returns a message as `queues peek --json` prints it, from the answer of RabbitMQ's management API.
pub(super) fn message(got: &Value) -> Value {
    let mut message = got["properties"].clone();
    // A message without properties has an empty array here.
    if !message.is_object() {
        message = json!({});
    }
    message["redelivered"] = got["redelivered"].clone();
    message["body"] = got["payload"].clone();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_management_api_are_queues_and_messages() {
        let row = json!({"name": "vip_queue", "type": "quorum", "messages_ready": 2, "messages_unacknowledged": 1, "consumers": 3});
        assert_eq!(queue(&row), Some(Queue::new("vip_queue", Some("quorum"), 2, Some(1), 3)));
        // A queue that was declared just now has no numbers yet.
        assert_eq!(queue(&json!({"name": "q"})), Some(Queue::new("q", None, 0, None, 0)));
        let got = json!({"payload": "{}", "redelivered": false, "properties": {"message_id": "m", "headers": {"a": 1}}});
        let expected = json!({"message_id": "m", "headers": {"a": 1}, "redelivered": false, "body": "{}"});
        assert_eq!(message(&got), expected);
        let got = json!({"payload": "x", "redelivered": true, "properties": []});
        assert_eq!(message(&got), json!({"redelivered": true, "body": "x"}));
    }
}
