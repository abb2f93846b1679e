//! The rules of the core, without a wire: commands in, frames out, time as it is said.

mod delivery;
mod expiry;
mod deaths;
mod closing;
mod errors;
mod fuzz;

use amq_protocol::{
    protocol::{
        BasicProperties, basic, basic::AMQPMethod as Basic, channel, confirm, exchange as ex, queue as q,
        queue::AMQPMethod as Queue,
    },
    types::{AMQPValue, ShortString},
};
use bytes::Bytes;

use super::{
    message::{Message, Reason},
    *,
};

/// A broker with one client on one channel that confirms.
struct Bench {
    core: Core,
    client: ConnectionId,
    now: u64,
    log: Vec<Record>,
}

/// The frames that a client got, in short: `deliver 1 body`, `ack 1`, `nack 2`, `return body`, `close 404`.
type Seen = Vec<String>;

impl Bench {
    fn new() -> Self {
        let mut core = Core::new(1, MAX_CONNECTIONS);
        let client = connect(&mut core);
        let mut bench = Self { core, client, now: 1_000, log: vec![] };
        bench.seen();
        bench
    }

    fn method(&mut self, method: AMQPClass) -> Seen {
        self.core.handle(self.now, self.client, Input::Method(1, method));
        self.seen()
    }

    fn queue(&mut self, name: &str, arguments: &[(&str, AMQPValue)]) -> Seen {
        let declare = q::Declare {
            queue: name.into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: table(arguments),
        };
        self.method(AMQPClass::Queue(Queue::Declare(declare)))
    }

    fn publish(&mut self, queue: &str, body: &str, properties: BasicProperties) -> Seen {
        self.publish_to("", queue, body, properties)
    }

    fn publish_to(&mut self, exchange: &str, key: &str, body: &str, properties: BasicProperties) -> Seen {
        let method = basic::Publish {
            exchange: exchange.into(),
            routing_key: key.into(),
            mandatory: true,
            immediate: false,
        };
        let publication = Publication { method, properties, body: Bytes::copy_from_slice(body.as_bytes()) };
        self.core.handle(self.now, self.client, Input::Publish(1, Box::new(publication)));
        self.seen()
    }

    fn consume(&mut self, queue: &str, tag: &str) -> Seen {
        self.consume_with(queue, tag, false)
    }

    fn consume_with(&mut self, queue: &str, tag: &str, exclusive: bool) -> Seen {
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: tag.into(),
            no_local: false,
            no_ack: false,
            exclusive,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.method(AMQPClass::Basic(Basic::Consume(consume)))
    }

    fn cancel(&mut self, tag: &str) -> Seen {
        let cancel = basic::Cancel { consumer_tag: tag.into(), nowait: false };
        self.method(AMQPClass::Basic(Basic::Cancel(cancel)))
    }

    fn prefetch(&mut self, prefetch_count: u16) {
        self.method(AMQPClass::Basic(Basic::Qos(basic::Qos { prefetch_count, global: false })));
    }

    fn get(&mut self, queue: &str) -> Seen {
        let get = basic::Get { queue: queue.into(), no_ack: false };
        self.method(AMQPClass::Basic(Basic::Get(get)))
    }

    fn ack(&mut self, delivery_tag: u64) -> Seen {
        self.method(AMQPClass::Basic(Basic::Ack(basic::Ack { delivery_tag, multiple: false })))
    }

    fn reject(&mut self, delivery_tag: u64, requeue: bool) -> Seen {
        self.method(AMQPClass::Basic(Basic::Reject(basic::Reject { delivery_tag, requeue })))
    }

    /// Time passes, as the engine would let it.
    fn wait(&mut self, millis: u64) -> Seen {
        let end = self.now + millis;
        while let Some(at) = self.core.next_timer().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.core.tick(self.now);
        }
        self.now = end;
        self.seen()
    }

    fn seen(&mut self) -> Seen {
        let output = self.core.take_output();
        self.log.extend(output.records);
        output.frames.into_iter().filter_map(|(_, out)| shown(&out)).collect()
    }

    /// The broker after `kill -9`: what the log says, and the same client again.
    fn restarted(self) -> Self {
        let mut core = recovered(2, self.now, &self.log);
        core.take_output();
        // The snapshot says the same as the long log.
        let short_string = recovered(2, self.now, &core.snapshot());
        let view = |core: &Core| core.queues_view(None);
        assert_eq!(view(&short_string), view(&core));
        let client = connect(&mut core);
        core.take_output();
        Self { core, client, now: self.now, log: self.log }
    }

    fn messages(&self, queue: &str) -> u64 {
        let view = self.core.queues_view(None);
        let queue = view.as_array().unwrap().iter().find(|view| view["name"] == queue);
        queue.map_or(u64::MAX, |queue| queue["messages"].as_u64().unwrap())
    }
}

fn recovered(nonce: u64, now: u64, log: &[Record]) -> Core {
    let mut recovery = recover::Recovery::new(Core::new(nonce, MAX_CONNECTIONS));
    log.iter().for_each(|record| recovery.take(record.clone()));
    recovery.finish(now)
}

fn connect(core: &mut Core) -> ConnectionId {
    let mut capabilities = FieldTable::default();
    capabilities.insert("consumer_cancel_notify".into(), AMQPValue::Boolean(true));
    let properties = table(&[("capabilities", AMQPValue::FieldTable(capabilities))]);
    let peer =
        Peer { vhost: "/".into(), user: "guest".into(), address: String::new(), channel_max: 10, properties };
    let client = core.connect(1_000, peer).unwrap();
    let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
    core.handle(1_000, client, Input::Method(1, open));
    let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }));
    core.handle(1_000, client, Input::Method(1, select));
    client
}

fn shown(out: &Outgoing) -> Option<String> {
    match out {
        Outgoing::Content(_, AMQPClass::Basic(method), message, extra) => {
            let body = String::from_utf8_lossy(&message.body);
            let again = |redelivered: bool| if redelivered { " again" } else { "" };
            let extra = match extra {
                DeliveryHeader::None => String::new(),
                DeliveryHeader::Counts { acquired: 0, failed: 0 } => String::new(),
                DeliveryHeader::Counts { acquired, failed } => {
                    format!(" acquired {acquired} failed {failed}")
                }
                DeliveryHeader::StreamOffset(offset) => format!(" offset {offset}"),
            };
            Some(match method {
                Basic::Deliver(it) => {
                    let (tag, to) = (it.delivery_tag, &it.consumer_tag);
                    format!("{to} gets {tag} {body}{}{extra}", again(it.redelivered))
                }
                Basic::GetOk(it) => format!("got {} {body}{}{extra}", it.delivery_tag, again(it.redelivered)),
                _ => format!("returned {body}"),
            })
        }
        Outgoing::Method(_, AMQPClass::Basic(Basic::Ack(ack))) => {
            Some(format!("ack {}{}", ack.delivery_tag, if ack.multiple { " and before" } else { "" }))
        }
        Outgoing::Method(_, AMQPClass::Basic(Basic::Nack(nack))) => {
            Some(format!("nack {}", nack.delivery_tag))
        }
        Outgoing::Method(_, AMQPClass::Basic(Basic::GetEmpty(_))) => Some("nothing".into()),
        Outgoing::Method(_, AMQPClass::Basic(Basic::Cancel(it))) => {
            Some(format!("{} is cancelled", it.consumer_tag))
        }
        Outgoing::Method(_, AMQPClass::Channel(channel::AMQPMethod::Close(it))) => {
            Some(format!("close {}", it.reply_code))
        }
        Outgoing::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(it))) => {
            Some(format!("hang up {} {}", it.reply_code, it.reply_text))
        }
        _ => None,
    }
}

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn count(n: i64) -> AMQPValue {
    AMQPValue::LongLongInt(n)
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

fn expiring(milliseconds: &str) -> BasicProperties {
    plain().with_expiration(milliseconds.into())
}

fn quorum() -> (&'static str, AMQPValue) {
    of_type("quorum")
}

fn of_type(name: &str) -> (&'static str, AMQPValue) {
    ("x-queue-type", word(name))
}
