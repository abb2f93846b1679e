//! Numbers of queues, and of listed messages, in the form that both systems have.

use serde_json::Value;

use live::event::Queue;

use crate::broker;

/// Most messages of a queue that are listed: RabbitMQ delivers each of them to list it.
pub(super) const LISTED: usize = 20;

/// Returns a queue from the row of RabbitMQ's management API.
pub(super) fn queue(row: &Value) -> Option<Queue> {
    let broker::Queue { name, kind, ready, unacked, consumers, .. } = broker::Queue::of_row(row)?;
    Some(Queue::new(&name, kind.as_deref(), ready.into(), unacked, consumers.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_of_the_management_api_are_queues() {
        let row = json!({"name": "vip_queue", "type": "quorum", "messages_ready": 2, "messages_unacknowledged": 1, "consumers": 3});
        assert_eq!(queue(&row), Some(Queue::new("vip_queue", Some("quorum"), 2, Some(1), 3)));
        // A queue that was declared just now has no numbers yet.
        assert_eq!(queue(&json!({"name": "q"})), Some(Queue::new("q", None, 0, None, 0)));
    }
}
