//! What has to survive, one line of the log at a time, and its bytes: a number for its kind, then its fields.

use std::sync::Arc;

use amq_protocol::types::FieldTable;

use super::{
    QueueId,
    codec::{Stored, stored_struct},
    death::Reason,
    exchange::{Binding, Exchange, ExchangeKind},
    message::{Entry, Message},
    queue::Queue,
    value::Name,
};

/// The enum, with its writing and its reading.
macro_rules! records {
    ($($(#[$doc:meta])* $number:literal $kind:ident { $($field:ident: $type:ty),* })*) => {
        /// One line of the log.
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) enum Record { $($(#[$doc])* $kind { $($field: $type),* },)* }

        impl Record {
            /// Appends its bytes.
            pub(crate) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$kind { $($field),* } => { out.push($number); $($field.write(out);)* })*
                }
            }

            /// Reads it back; `None` for anything else.
            pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
                let (number, mut rest) = bytes.split_first()?;
                let record = match *number {
                    $($number => Self::$kind { $($field: Stored::read(&mut rest)?),* },)*
                    _ => return None,
                };
                rest.is_empty().then_some(record)
            }
        }
    };
}

records! {
    /// Ids up to this one are taken.
    1 Ids { last: u64 }
    /// An exchange was made.
    2 Exchange { name: Name, kind: ExchangeKind, auto_delete: bool, arguments: FieldTable }
    /// It was deleted.
    3 ExchangeDeleted { name: Name }
    /// A queue was made; `next` is the first place that is free, or the first offset.
    4 Queue { id: QueueId, name: Name, auto_delete: bool, arguments: FieldTable, next: u64 }
    /// It was deleted, with its bindings and all that was in it.
    5 QueueDeleted { queue: QueueId }
    /// A binding was made.
    6 Bound { source: Name, binding: Binding }
    /// It was undone.
    7 Unbound { source: Name, binding: Binding }
    /// A message came into queues.
    8 Message { places: Vec<Place>, message: Arc<Message> }
    /// It was delivered from one of them.
    9 Delivered { queue: QueueId, place: u64 }
    /// It came back, so often.
    10 Returned { queue: QueueId, place: u64, count: u32 }
    /// It died, and waits for somebody to take it.
    11 Held { queue: QueueId, place: u64, reason: Reason }
    /// It is done with.
    12 Removed { queue: QueueId, place: u64 }
}

/// Where a message is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) queue: QueueId,
    pub(crate) place: u64,
    pub(crate) expires_at: Option<u64>,
    /// How often it came back, if somebody may have seen it before.
    pub(crate) returned: Option<u32>,
}

stored_struct! { Place { queue, place, expires_at, returned } }

impl Place {
    pub(super) fn of(queue: QueueId, entry: &Entry) -> Self {
        let returned = entry.redelivered.then_some(entry.delivery_count);
        Self { queue, place: entry.place, expires_at: entry.expires_at, returned }
    }
}

impl Record {
    pub(super) fn of_exchange(name: &Name, exchange: &Exchange) -> Self {
        let Exchange { kind, auto_delete, ref arguments, .. } = *exchange;
        Self::Exchange { name: name.clone(), kind, auto_delete, arguments: arguments.clone() }
    }

    pub(super) fn of_queue(id: QueueId, queue: &Queue) -> Self {
        let (name, arguments, next) = (queue.name.clone(), queue.arguments.clone(), queue.next_place());
        Self::Queue { id, name, auto_delete: queue.auto_delete, arguments, next }
    }
}
