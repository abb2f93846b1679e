//! What has to survive, one line of the log at a time.

use std::sync::Arc;

use amq_protocol::types::FieldTable;

use super::{
    QueueId,
    arguments::Kind,
    exchange::{Binding, Exchange, ExchangeKind},
    message::Message,
    queue::Queue,
};

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Ids below this one are taken.
    Ids {
        /// The next one.
        next: u64,
    },
    /// An exchange was made.
    Exchange {
        /// Its vhost.
        vhost: String,
        /// Its name.
        name: String,
        /// Its type.
        kind: ExchangeKind,
        /// `auto_delete` and `internal`.
        flags: (bool, bool),
        /// Its arguments.
        arguments: FieldTable,
    },
    /// It was deleted.
    ExchangeDeleted {
        /// Its vhost.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// A queue was made.
    Queue {
        /// Its id.
        id: QueueId,
        /// Its vhost.
        vhost: String,
        /// Its name.
        name: String,
        /// Whether it goes with its last consumer.
        auto_delete: bool,
        /// Its arguments.
        arguments: FieldTable,
        /// The first place that is free, or the first offset.
        next: u64,
    },
    /// It was deleted.
    QueueDeleted {
        /// Its id.
        queue: QueueId,
    },
    /// A binding was made.
    Bound {
        /// Its vhost.
        vhost: String,
        /// From.
        source: String,
        /// To, with which key.
        binding: Binding,
    },
    /// It was undone.
    Unbound {
        /// Its vhost.
        vhost: String,
        /// From.
        source: String,
        /// To, with which key.
        binding: Binding,
    },
    /// A message came into queues: queue, place, and when it expires there (for a stream: when it came).
    Message {
        /// The message.
        message: Arc<Message>,
        /// Where it is.
        places: Vec<(QueueId, u64, Option<u64>)>,
    },
    /// Messages are done with.
    Removed {
        /// Their queue.
        queue: QueueId,
        /// Their places.
        places: Vec<u64>,
    },
    /// A message came back.
    Requeued {
        /// Its queue.
        queue: QueueId,
        /// Its place.
        place: u64,
        /// How often it has.
        count: u32,
    },
    /// Messages were delivered.
    Delivered {
        /// Their queue.
        queue: QueueId,
        /// Their places.
        places: Vec<u64>,
    },
    /// A dead letter waits for somebody to take it.
    Held {
        /// Its queue.
        queue: QueueId,
        /// Its place.
        place: u64,
        /// Why it died.
        reason: &'static str,
    },
}

impl Record {
    pub(super) fn exchange(vhost: &str, name: &str, exchange: &Exchange) -> Self {
        Self::Exchange {
            vhost: vhost.into(),
            name: name.into(),
            kind: exchange.kind,
            flags: (exchange.auto_delete, exchange.internal),
            arguments: exchange.arguments.clone(),
        }
    }

    pub(super) fn queue(id: QueueId, queue: &Queue) -> Self {
        let next = if queue.kind() == Kind::Stream { queue.log.first() } else { queue.next_seq() };
        Self::Queue {
            id,
            vhost: queue.vhost.clone(),
            name: queue.name.clone(),
            auto_delete: queue.auto_delete,
            arguments: queue.arguments.clone(),
            next,
        }
    }
}
