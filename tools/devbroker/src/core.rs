//! What a broker does, and nothing else: commands in, frames and records out.
//!
//! Pure: no I/O, no clock, no task. Time is an argument (Unix milliseconds); what is to be sent, what has to be
//! in the log before, and when to call again come out as values. So every rule here can be tested by a table.
//!
//! In reading order:
//! - what there is: `refusal`, the words of a no; `value`; `message`; `exchange`, which says where a message goes;
//!   `arguments` of queues; `queue` and `stream`, which keep it,
//! - the way in and out: `client`, what is said; `method`; `channel`, where a client's methods arrive,
//! - what clients ask for: `equivalent`, what may be asked for twice; `bind`, `declare`, `publish`, `confirm`,
//!   `reply_to`, `consume`, `deliver`, `settle`,
//! - what happens by itself: `death` of messages, and `time`,
//! - what survives: `record`, a line of the log, and `recover`, the way there and back,
//! - what an operator sees: `view`.

pub(crate) mod refusal;
pub(crate) mod value;
pub(crate) mod message;
pub(crate) mod exchange;
pub(crate) mod arguments;
mod queue;
mod stream;
mod client;
pub(crate) mod method;
mod channel;
mod equivalent;
mod bind;
mod declare;
mod publish;
mod confirm;
mod reply_to;
mod consume;
mod deliver;
mod settle;
pub(crate) mod death;
mod time;
pub(crate) mod record;
pub(crate) mod recover;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use amq_protocol::{
    protocol::{AMQPClass, connection},
    types::FieldTable,
};

pub(crate) use self::{
    client::{At, Extra, Input, Out, Peer, Publication},
    value::{ConnectionId, QueueId},
};
use self::{
    client::{Connection, Consumer},
    exchange::Exchange,
    message::Entry,
    method::Say,
    queue::Queue,
    record::Record,
    refusal::Refusal,
    value::{ConsumerId, Name},
};

/// Above this, who connects is refused.
pub(crate) const MOST_CONNECTIONS: usize = 1_000;
/// A connection with more bytes than this on their way to it gets no deliveries until it reads.
pub(crate) const MOST_OUTPUT: usize = 512 * 1024;

/// What comes out of a turn, each in its order. The records have to be in the log before a frame is sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) frames: Vec<(ConnectionId, Out)>,
    pub(crate) records: Vec<Record>,
}

/// The broker without its wires.
#[derive(Debug, Default)]
pub(crate) struct Core {
    now: u64,
    /// Makes the names that it gives unlike those that it gave before a restart.
    nonce: u64,
    next_id: u64,
    vhosts: BTreeSet<Arc<str>>,
    exchanges: BTreeMap<Name, Exchange>,
    queue_ids: BTreeMap<Name, QueueId>,
    queues: BTreeMap<QueueId, Queue>,
    connections: BTreeMap<ConnectionId, Connection>,
    consumers: HashMap<ConsumerId, Consumer>,
    /// Reply addresses of direct reply-to, and whose they are.
    replies: HashMap<String, At>,
    timers: BTreeSet<(u64, QueueId)>,
    /// Queues in which something has changed.
    dirty: BTreeSet<QueueId>,
    /// Channels whose confirms wait for the end of the turn.
    confirming: BTreeSet<At>,
    drop_confirms: u64,
    output: Output,
}

impl Core {
    pub(crate) fn new(nonce: u64) -> Self {
        Self { nonce, ..Self::default() }
    }

    /// A client has logged in. Its vhost is made if it is new.
    pub(crate) fn connect(&mut self, now: u64, peer: Peer) -> Result<ConnectionId, Refusal> {
        self.now = now;
        if self.connections.len() >= MOST_CONNECTIONS {
            let why = format!("connection refused: node connection limit ({MOST_CONNECTIONS}) is reached");
            return Err(Refusal::not_allowed(why));
        }
        self.make_vhost(&peer.vhost);
        let id = self.id();
        self.connections.insert(id, Connection::new(peer));
        Ok(id)
    }

    /// A client is gone, with or without a goodbye.
    pub(crate) fn disconnect(&mut self, now: u64, id: ConnectionId) {
        self.now = now;
        self.release_connection(id);
        self.tend_all();
        self.connections.remove(&id);
    }

    /// Does what a client wants.
    pub(crate) fn handle(&mut self, now: u64, id: ConnectionId, input: Input) {
        self.now = now;
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.closing {
            if let Input::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) = input {
                self.send(id, Out::Hangup);
            }
            return;
        }
        let at = |channel| At { connection: id, channel };
        let (at, about, result) = match input {
            Input::Method(channel, method) => {
                let about = (method.get_amqp_class_id(), method.get_amqp_method_id());
                (at(channel), about, self.method(at(channel), method))
            }
            Input::Publish(channel, publication) => {
                (at(channel), (60, 40), self.publish(at(channel), *publication))
            }
            Input::Wrong(channel, refusal, about) => {
                let deaf = self.channel(at(channel)).is_ok_and(|channel| channel.closing);
                (at(channel), about, if deaf && !refusal.is_hard() { Ok(()) } else { Err(refusal) })
            }
        };
        if let Err(refusal) = result {
            // So many channels are RabbitMQ's refusal of the connection, not of its `channel.open`.
            let about = if refusal.code == 530 && about == (20, 10) { (0, 0) } else { about };
            self.refuse(at, &refusal, about);
        }
        self.tend_all();
    }

    /// Closes a connection from this side: an operator's wish.
    pub(crate) fn close_connection(&mut self, now: u64, id: ConnectionId, refusal: &Refusal) -> bool {
        self.now = now;
        let known = self.connections.get(&id).is_some_and(|connection| !connection.closing);
        if known {
            self.refuse(At { connection: id, channel: 0 }, refusal, (0, 0));
            self.tend_all();
        }
        known
    }

    /// How many bytes are still on their way to a connection; with few, it gets deliveries again.
    pub(crate) fn drained(&mut self, now: u64, id: ConnectionId, pending: usize) {
        self.now = now;
        let was_stalled = self.is_stalled(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.output = pending;
        if was_stalled && pending < MOST_OUTPUT {
            let consumers = connection.channels.values().flat_map(|channel| channel.consumers.values());
            let queues = consumers.filter_map(|id| self.consumers.get(id)).map(|consumer| consumer.queue);
            self.dirty.extend(queues);
            self.tend_all();
        }
    }

    /// Whether a connection gets no deliveries since it does not read them.
    pub(crate) fn is_stalled(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.output >= MOST_OUTPUT)
    }

    /// Swallows the next confirms.
    pub(crate) fn drop_confirms(&mut self, count: u64) {
        self.drop_confirms = count;
    }

    /// Ends a turn: what is to be written, and then sent.
    pub(crate) fn take_output(&mut self) -> Output {
        for at in std::mem::take(&mut self.confirming) {
            self.flush_confirms(at);
        }
        std::mem::take(&mut self.output)
    }

    fn make_vhost(&mut self, name: &Arc<str>) {
        if self.vhosts.insert(Arc::clone(name)) {
            for (exchange, kind) in exchange::PREDECLARED {
                let name = Name { vhost: Arc::clone(name), name: exchange.into() };
                self.exchanges.insert(name, Exchange::new(kind, FieldTable::default()));
            }
        }
    }

    /// A name in a connection's vhost.
    fn name_at(&self, at: At, name: &str) -> Name {
        let vhost = self.connections.get(&at.connection).map(|connection| &connection.peer.vhost);
        Name { vhost: vhost.map_or_else(|| "".into(), Arc::clone), name: name.to_owned() }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A name that the broker gives.
    fn given_name(&mut self, prefix: &str) -> String {
        let number = self.id();
        format!("{prefix}{:016x}{number:06x}", self.nonce)
    }

    fn send(&mut self, id: ConnectionId, out: Out) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output += out.cost();
            self.output.frames.push((id, out));
        }
    }

    fn send_method(&mut self, at: At, method: impl Say) {
        self.send(at.connection, Out::Method(at.channel, method.class()));
    }

    fn log(&mut self, record: Record) {
        self.output.records.push(record);
    }

    /// A message is done with.
    fn remove(&mut self, queue: QueueId, entry: &Entry) {
        if entry.persisted && self.queues.contains_key(&queue) {
            self.log(Record::Removed { queue, place: entry.place });
        }
    }
}

#[cfg(test)]
mod tests;
