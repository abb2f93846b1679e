//! Values as the log has them: numbers in network order, texts with their length, tables and properties as AMQP has
//! them. Reading takes bytes off the front, and answers `None` to what nobody has written.

use std::sync::Arc;

use amq_protocol::{
    frame::WriteContext,
    protocol::{
        BasicProperties,
        basic::{gen_properties, parse_properties},
    },
    types::{FieldTable, ShortString, generation::gen_field_table, parsing::parse_field_table},
};
use bytes::Bytes;

use super::{
    death::{REASONS, Reason},
    exchange::{Binding, ExchangeKind, KINDS},
    message::Message,
    value::{Name, short},
};

/// Can be a field of a record.
pub(super) trait Stored: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// A struct is its fields.
macro_rules! stored_struct {
    ($name:ident { $($field:ident),* }) => {
        impl $crate::core::codec::Stored for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $($crate::core::codec::Stored::write(&self.$field, out);)*
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::core::codec::Stored::read(from)?),* })
            }
        }
    };
}
pub(super) use stored_struct;

stored_struct! { Name { vhost, name } }
stored_struct! { Binding { queue, key, arguments } }
stored_struct! { Message { exchange, routing_key, dead_lettered, properties, body } }

macro_rules! stored_number {
    ($($number:ident)*) => {$(
        impl Stored for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let (number, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_be_bytes(*number))
            }
        }
    )*};
}

stored_number! { u8 u32 u64 }

/// What is written as something else: its type, that type, the way there, and the way back.
macro_rules! stored_as {
    ($($name:ty: $other:ty, $to:expr, $back:expr;)*) => {$(
        impl Stored for $name {
            fn write(&self, out: &mut Vec<u8>) {
                let to: fn(&Self) -> $other = $to;
                to(self).write(out);
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                let back: fn($other) -> Option<Self> = $back;
                back(Stored::read(from)?)
            }
        }
    )*};
}

stored_as! {
    bool: u8, |flag| u8::from(*flag), |byte| Some(byte == 1);
    String: Bytes, |text| Bytes::copy_from_slice(text.as_bytes()), |bytes| Self::from_utf8(bytes.to_vec()).ok();
    Arc<str>: String, |text| text.to_string(), |text| Some(text.into());
    ShortString: String, |text| text.to_string(), |text| Some(short(&text));
    ExchangeKind: u8, |kind| *kind as u8, |number| KINDS.get(usize::from(number)).map(|(_, kind)| *kind);
    Reason: u8, |reason| *reason as u8, |number| REASONS.get(usize::from(number)).map(|(reason, _)| *reason);
}

impl Stored for Bytes {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        out.extend_from_slice(self);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::read(from)?).ok()?;
        let (bytes, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(Self::copy_from_slice(bytes))
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        self.iter().for_each(|item| item.write(out));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        (0..u64::read(from)?).map(|_| T::read(from)).collect()
    }
}

impl<T: Stored> Stored for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        self.iter().for_each(|item| item.write(out));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        if bool::read(from)? { T::read(from).map(Some) } else { Some(None) }
    }
}

impl<T: Stored> Stored for Arc<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_ref().write(out);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        T::read(from).map(Self::new)
    }
}

impl Stored for FieldTable {
    fn write(&self, out: &mut Vec<u8>) {
        let written = gen_field_table(self)(WriteContext::from(std::mem::take(out)));
        *out = written.expect("BUG: writing to memory cannot fail").into_inner().0;
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (rest, table) = parse_field_table(*from).ok()?;
        *from = rest;
        Some(table)
    }
}

impl Stored for BasicProperties {
    fn write(&self, out: &mut Vec<u8>) {
        let written = gen_properties(self)(WriteContext::from(std::mem::take(out)));
        *out = written.expect("BUG: writing to memory cannot fail").into_inner().0;
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let (rest, properties) = parse_properties(*from).ok()?;
        *from = rest;
        Some(properties)
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;

    use crate::core::record::{Place, Record};

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
        let places = vec![
            Place { queue: 1, place: 2, expires_at: None, returned: Some(3) },
            Place { queue: 3, place: 4, expires_at: Some(5), returned: None },
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
            Record::Message { message: Arc::new(message), places },
            Record::Delivered { queue: 1, place: 2 },
            Record::Returned { queue: 1, place: 2, count: 3 },
            Record::Held { queue: 1, place: 2, reason: Reason::Expired },
            Record::Removed { queue: 1, place: 3 },
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
}
