//! Records as bytes: numbers in network order, names with their length, tables and properties as AMQP has them.

use std::sync::Arc;

use amq_protocol::{
    frame::WriteContext,
    protocol::basic::{gen_properties, parse_properties},
    types::{FieldTable, ShortString, generation::gen_field_table, parsing::parse_field_table},
};
use bytes::Bytes;

use crate::core::{
    exchange::{Binding, Destination, ExchangeKind},
    message::{Message, short},
    record::Record,
};

/// Why a held message died, by number.
const REASONS: [&str; 4] = ["rejected", "expired", "maxlen", "delivery_limit"];
const KINDS: [ExchangeKind; 4] =
    [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers];

/// Writes a record.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Ids { next } => {
            out.push(1);
            u64(out, *next);
        }
        Record::Exchange { vhost, name, kind, flags, arguments } => {
            out.push(2);
            text(out, vhost);
            text(out, name);
            let kind = KINDS.iter().position(|other| other == kind).unwrap_or(0);
            out.extend([byte(kind), u8::from(flags.0), u8::from(flags.1)]);
            table(out, arguments);
        }
        Record::ExchangeDeleted { vhost, name } => {
            out.push(3);
            text(out, vhost);
            text(out, name);
        }
        Record::Queue { id, vhost, name, auto_delete, arguments, next } => {
            out.push(4);
            u64(out, *id);
            text(out, vhost);
            text(out, name);
            out.push(u8::from(*auto_delete));
            table(out, arguments);
            u64(out, *next);
        }
        Record::QueueDeleted { queue } => {
            out.push(5);
            u64(out, *queue);
        }
        Record::Bound { vhost, source, binding: it } | Record::Unbound { vhost, source, binding: it } => {
            out.push(if matches!(record, Record::Bound { .. }) { 6 } else { 7 });
            text(out, vhost);
            text(out, source);
            binding(out, it);
        }
        Record::Message { message: it, places } => {
            out.push(8);
            u64(out, places.len() as u64);
            for (queue, place, at) in places {
                u64(out, *queue);
                u64(out, *place);
                u64(out, at.map_or(0, |at| at + 1));
            }
            message(out, it);
        }
        Record::Removed { queue, places } | Record::Delivered { queue, places } => {
            out.push(if matches!(record, Record::Removed { .. }) { 9 } else { 11 });
            u64(out, *queue);
            places.iter().for_each(|place| u64(out, *place));
        }
        Record::Requeued { queue, place, count } => {
            out.push(10);
            u64(out, *queue);
            u64(out, *place);
            u64(out, u64::from(*count));
        }
        Record::Held { queue, place, reason } => {
            out.push(12);
            u64(out, *queue);
            u64(out, *place);
            out.push(byte(REASONS.iter().position(|other| other == reason).unwrap_or(0)));
        }
    }
}

/// Reads a record; `None` for anything else.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let mut from = Reader(bytes);
    let record = match from.byte()? {
        1 => Record::Ids { next: from.u64()? },
        2 => Record::Exchange {
            vhost: from.text()?,
            name: from.text()?,
            kind: *KINDS.get(usize::from(from.byte()?))?,
            flags: (from.byte()? == 1, from.byte()? == 1),
            arguments: from.table()?,
        },
        3 => Record::ExchangeDeleted { vhost: from.text()?, name: from.text()? },
        4 => Record::Queue {
            id: from.u64()?,
            vhost: from.text()?,
            name: from.text()?,
            auto_delete: from.byte()? == 1,
            arguments: from.table()?,
            next: from.u64()?,
        },
        5 => Record::QueueDeleted { queue: from.u64()? },
        kind @ (6 | 7) => {
            let (vhost, source, binding) = (from.text()?, from.text()?, from.binding()?);
            match kind {
                6 => Record::Bound { vhost, source, binding },
                _ => Record::Unbound { vhost, source, binding },
            }
        }
        8 => {
            let count = from.u64()?;
            let mut places = vec![];
            for _ in 0..count {
                places.push((from.u64()?, from.u64()?, from.u64()?.checked_sub(1)));
            }
            Record::Message { places, message: Arc::new(from.message()?) }
        }
        kind @ (9 | 11) => {
            let queue = from.u64()?;
            let mut places = Vec::with_capacity(from.0.len() / 8);
            while !from.0.is_empty() {
                places.push(from.u64()?);
            }
            if kind == 9 { Record::Removed { queue, places } } else { Record::Delivered { queue, places } }
        }
        10 => Record::Requeued {
            queue: from.u64()?,
            place: from.u64()?,
            count: u32::try_from(from.u64()?).ok()?,
        },
        12 => Record::Held {
            queue: from.u64()?,
            place: from.u64()?,
            reason: REASONS.get(usize::from(from.byte()?))?,
        },
        _ => return None,
    };
    from.0.is_empty().then_some(record)
}

fn byte(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(0)
}

fn u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn table(out: &mut Vec<u8>, table: &FieldTable) {
    let context = WriteContext::from(std::mem::take(out));
    *out = gen_field_table(table)(context).expect("BUG: writing to memory cannot fail").into_inner().0;
}

fn binding(out: &mut Vec<u8>, binding: &Binding) {
    let (kind, name) = match &binding.to {
        Destination::Queue(name) => (0, name),
        Destination::Exchange(name) => (1, name),
    };
    out.push(kind);
    text(out, name);
    text(out, &binding.key);
    table(out, &binding.arguments);
}

fn message(out: &mut Vec<u8>, message: &Message) {
    text(out, message.exchange.as_str());
    u64(out, message.keys.len() as u64);
    message.keys.iter().for_each(|key| text(out, key.as_str()));
    out.push(u8::from(message.dead_lettered));
    let context = WriteContext::from(std::mem::take(out));
    let written = gen_properties(&message.properties)(context);
    *out = written.expect("BUG: writing to memory cannot fail").into_inner().0;
    out.extend_from_slice(&message.body);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        String::from_utf8(self.take(length as usize)?.to_vec()).ok()
    }

    fn name(&mut self) -> Option<ShortString> {
        Some(short(&self.text()?))
    }

    fn table(&mut self) -> Option<FieldTable> {
        let (rest, table) = parse_field_table(self.0).ok()?;
        self.0 = rest;
        Some(table)
    }

    fn binding(&mut self) -> Option<Binding> {
        let kind = self.byte()?;
        let name = self.text()?;
        let to = if kind == 0 { Destination::Queue(name) } else { Destination::Exchange(name) };
        Some(Binding { to, key: self.text()?, arguments: self.table()? })
    }

    fn message(&mut self) -> Option<Message> {
        let exchange = self.name()?;
        let keys = (0..self.u64()?).map(|_| self.name()).collect::<Option<Vec<_>>>()?;
        let dead_lettered = self.byte()? == 1;
        let (body, properties) = parse_properties(self.0).ok()?;
        let body = Bytes::copy_from_slice(body);
        self.0 = &[];
        (!keys.is_empty()).then_some(Message { exchange, keys, properties, body, dead_lettered })
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::{protocol::BasicProperties, types::AMQPValue};

    use super::*;

    #[test]
    fn every_record_is_read_as_it_was_written_and_no_part_of_it_is() {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let (vhost, name) = ("/".to_owned(), "q".to_owned());
        let to = Destination::Exchange("e".into());
        let binding = Binding { to, key: "k.#".into(), arguments: arguments.clone() };
        let message = Message {
            exchange: "".into(),
            keys: vec!["q".into(), "cc".into()],
            properties: BasicProperties::default().with_headers(arguments.clone()).with_delivery_mode(2),
            body: Bytes::from_static(b"body"),
            dead_lettered: true,
        };
        let message = Arc::new(message);
        let records = [
            Record::Ids { next: 7 },
            Record::Exchange {
                vhost: vhost.clone(),
                name: name.clone(),
                kind: ExchangeKind::Topic,
                flags: (true, false),
                arguments: arguments.clone(),
            },
            Record::ExchangeDeleted { vhost: vhost.clone(), name: name.clone() },
            Record::Queue { id: 1, vhost: vhost.clone(), name, auto_delete: true, arguments, next: 9 },
            Record::QueueDeleted { queue: 1 },
            Record::Bound { vhost: vhost.clone(), source: "s".into(), binding: binding.clone() },
            Record::Unbound { vhost, source: "s".into(), binding },
            Record::Message { message, places: vec![(1, 2, None), (3, 4, Some(5))] },
            Record::Removed { queue: 1, places: vec![1, 2, 3] },
            Record::Requeued { queue: 1, place: 2, count: 3 },
            Record::Delivered { queue: 1, places: vec![2] },
            Record::Held { queue: 1, place: 2, reason: "expired" },
        ];
        for record in records {
            let mut bytes = vec![];
            encode(&record, &mut bytes);
            assert_eq!(decode(&bytes).as_ref(), Some(&record));
            for end in 0..bytes.len() {
                assert_ne!(decode(&bytes[..end]).as_ref(), Some(&record), "cut at {end}");
            }
        }
    }
}
