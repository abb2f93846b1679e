//! The entries of the log, and their bytes in the format of [postcard](https://postcard.jamesmunns.com).

use std::sync::Arc;

use amq_protocol::types::FieldTable;
use serde::{Deserialize, Serialize};

use super::{
    exchange::{Binding, Exchange, ExchangeKind},
    message::{Entry, Message, Reason},
    queue::Queue,
    value::{Name, QueueId},
};

/// One entry of the log. Postcard writes the index of the variant and then its fields in order: whoever changes either has to raise
/// the version of the log's format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// Ids up to this one are taken.
    Ids { last: u64 },
    /// An exchange was declared.
    Exchange { name: Name, kind: ExchangeKind, auto_delete: bool, arguments: FieldTable },
    /// An exchange was deleted.
    ExchangeDeleted { name: Name },
    /// A queue was declared; `next` is its first free position, or the first offset of a stream.
    Queue { id: QueueId, name: Name, auto_delete: bool, arguments: FieldTable, next: u64 },
    /// A queue was deleted, with its bindings and its messages.
    QueueDeleted { queue: QueueId },
    /// A binding was made.
    Bound { source: Name, binding: Binding },
    /// A binding was removed.
    Unbound { source: Name, binding: Binding },
    /// A message came into queues.
    Message { positions: Vec<Position>, message: Arc<Message> },
    /// A message was delivered from a queue.
    Delivered { queue: QueueId, position: u64 },
    /// A message was requeued, with the counters that it has now.
    Returned { queue: QueueId, position: u64, acquired: u32, failed: u32 },
    /// A message is dead, and waits until another queue takes it.
    Held { queue: QueueId, position: u64, reason: Reason },
    /// A message left a queue.
    Removed { queue: QueueId, position: u64 },
}

/// The position of a message in a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) queue: QueueId,
    pub(crate) position: u64,
    pub(crate) expires_at: Option<u64>,
    /// The entry's counter of that name.
    pub(crate) acquired: u32,
    /// The entry's counter of that name.
    pub(crate) failed: u32,
}

impl Position {
    pub(super) fn of(queue: QueueId, entry: &Entry) -> Self {
        let Entry { position, expires_at, acquired, failed, .. } = *entry;
        Self { queue, position, expires_at, acquired, failed }
    }
}

impl Record {
    /// Appends the encoded record.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let written = postcard::to_extend(self, std::mem::take(out));
        *out = written.expect("BUG: writing to memory cannot fail");
    }

    /// Decodes a record; `None` if the bytes are not exactly one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (record, rest) = postcard::take_from_bytes(bytes).ok()?;
        rest.is_empty().then_some(record)
    }

    pub(super) fn of_exchange(name: &Name, exchange: &Exchange) -> Self {
        let Exchange { kind, auto_delete, ref arguments, .. } = *exchange;
        Self::Exchange { name: name.clone(), kind, auto_delete, arguments: arguments.clone() }
    }

    pub(super) fn of_queue(id: QueueId, queue: &Queue) -> Self {
        let (name, arguments, next) = (queue.name.clone(), queue.arguments.clone(), queue.next_position());
        Self::Queue { id, name, auto_delete: queue.auto_delete, arguments, next }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::{protocol::BasicProperties, types::AMQPValue};
    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_record_is_read_as_it_was_written_and_no_part_of_it_is() {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let name = Name { vhost: "/".into(), name: "q".into() };
        let source = Name { vhost: "/".into(), name: "e".into() };
        let binding = Binding { queue: name.clone(), key: "k.#".into(), arguments: arguments.clone() };
        let message = Message {
            exchange: "".into(),
            routing_key: "q".into(),
            properties: BasicProperties::default().with_headers(arguments.clone()).with_delivery_mode(2),
            body: Bytes::from_static(b"body"),
            dead_lettered: true,
        };
        let positions = vec![
            Position { queue: 1, position: 2, expires_at: None, acquired: 3, failed: 1 },
            Position { queue: 3, position: 4, expires_at: Some(5), acquired: 0, failed: 0 },
        ];
        let records = [
            Record::Ids { last: 7 },
            Record::Exchange {
                name: source.clone(),
                kind: ExchangeKind::Topic,
                auto_delete: true,
                arguments: arguments.clone(),
            },
            Record::ExchangeDeleted { name: source.clone() },
            Record::Queue { id: 1, name, auto_delete: true, arguments, next: 9 },
            Record::QueueDeleted { queue: 1 },
            Record::Bound { source: source.clone(), binding: binding.clone() },
            Record::Unbound { source, binding },
            Record::Message { message: Arc::new(message), positions },
            Record::Delivered { queue: 1, position: 2 },
            Record::Returned { queue: 1, position: 2, acquired: 3, failed: 1 },
            Record::Held { queue: 1, position: 2, reason: Reason::Expired },
            Record::Removed { queue: 1, position: 3 },
        ];
        for record in records {
            let mut bytes = vec![];
            record.write(&mut bytes);
            assert_eq!(Record::read(&bytes).as_ref(), Some(&record));
            for end in 0..bytes.len() {
                assert_ne!(Record::read(&bytes[..end]).as_ref(), Some(&record), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_record_that_claims_more_than_it_has_is_refused() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        for kind in [2, 3, 7] {
            assert_eq!(Record::read(&[&[kind], &huge[..], &[1; 8]].concat()), None, "kind {kind}");
        }
        assert_eq!(Record::read(&[200, 1, 2, 3]), None, "no such kind");
        assert_eq!(Record::read(&[0, 7, 0]), None, "more than the record");
    }
}
