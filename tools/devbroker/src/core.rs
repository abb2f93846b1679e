//! What a broker does, and nothing else: commands in, frames and records out.
//!
//! Pure: no I/O, no clock, no task. Time is an argument (Unix milliseconds); what is to be sent, what has to be
//! in the log before, and when to call again come out as values. So every rule here can be tested by a table.
//!
//! In reading order: [`message`] and its entry in a queue; [`exchange`], which says where it goes;
//! [`arguments`] of queues; [`queue`] and [`stream`], which keep it; `session`, connections and channels; then what clients ask for: `bindings`, [`declare`],
//! [`publish`], `confirms`, `reply_to`, [`consume`] and delivery, [`settle`]; [`death`] of messages; [`expire`], what time does;
//! [`record`] and [`recover`], the way to the log and back; [`refusal`], the words of a no; [`view`], for an operator.

pub mod message;
pub mod exchange;
pub mod arguments;
pub mod queue;
pub mod stream;
mod session;
mod bindings;
pub mod declare;
pub mod publish;
mod confirms;
mod reply_to;
pub mod consume;
pub mod settle;
pub mod death;
pub mod expire;
pub mod record;
pub mod recover;
pub mod refusal;
pub mod view;

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
};

use amq_protocol::{
    protocol::{AMQPClass, BasicProperties, basic, connection},
    types::FieldTable,
};
use bytes::Bytes;

use self::{
    exchange::{Exchange, ExchangeKind},
    message::{Entry, Message},
    queue::Queue,
    record::Record,
    refusal::Refusal,
    session::{Connection, Consumer},
};

/// A connection, as long as the broker runs.
pub type ConnectionId = u64;
/// A queue; never used twice, also over restarts.
pub type QueueId = u64;
/// A consumer.
pub type ConsumerId = u64;

/// What a client wants.
#[derive(Debug)]
pub enum Input {
    /// A method on a channel.
    Method(u16, AMQPClass),
    /// A whole message on a channel.
    Publish(u16, Box<Publication>),
    /// Something that the connection found wrong on a channel, with the class and the method that it was about.
    Wrong(u16, Refusal, (u16, u16)),
}

/// `basic.publish` with its content.
#[derive(Debug)]
pub struct Publication {
    /// The method.
    pub method: basic::Publish,
    /// The properties.
    pub properties: BasicProperties,
    /// The body.
    pub body: Bytes,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    /// A method on a channel.
    Method(u16, AMQPClass),
    /// A method with content.
    Content(u16, AMQPClass, Arc<Message>, Extra),
    /// The end: nothing follows.
    Hangup,
}

impl Out {
    /// What it costs to keep until it is written, in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        match self {
            Self::Content(_, _, message, _) => message.cost(),
            _ => 64,
        }
    }
}

/// A header that the broker adds for one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// None.
    None,
    /// `x-delivery-count`.
    DeliveryCount(u32),
    /// `x-stream-offset`.
    StreamOffset(u64),
}

/// What comes out of a turn. The records have to be in the log before a frame is sent.
#[derive(Debug, Default)]
pub struct Output {
    /// In the order in which they are to be sent.
    pub frames: Vec<(ConnectionId, Out)>,
    /// In the order in which they are to be written.
    pub records: Vec<Record>,
}

/// How much of everything there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Vhosts.
    pub vhosts: usize,
    /// Consumers of a channel.
    pub consumers: usize,
    /// Queues of a vhost, and exchanges.
    pub queues: usize,
    /// Bindings of an exchange.
    pub bindings: usize,
    /// Bytes on their way to one connection before it gets no more deliveries.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            vhosts: 10_000,
            consumers: 10_000,
            queues: 10_000,
            bindings: 50_000,
            output: 512 * 1024,
        }
    }
}

/// Who is on the other end.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its vhost.
    pub vhost: String,
    /// Its user.
    pub user: String,
    /// Its address.
    pub address: String,
    /// How many channels were agreed on.
    pub channel_max: u16,
    /// What it says of itself.
    pub properties: FieldTable,
}

/// The broker without its wires.
#[derive(Debug)]
pub struct Core {
    now: u64,
    nonce: u64,
    next_id: u64,
    limits: Limits,
    vhosts: BTreeMap<String, Vhost>,
    queues: HashMap<QueueId, Queue>,
    connections: HashMap<ConnectionId, Connection>,
    consumers: HashMap<ConsumerId, Consumer>,
    /// Reply addresses of direct reply-to, and whose they are.
    replies: HashMap<String, (ConnectionId, u16)>,
    timers: BinaryHeap<Reverse<(u64, QueueId)>>,
    /// Queues in which something has changed.
    dirty: BTreeSet<QueueId>,
    output: Output,
    /// Places in queues that are free since the last turn, and those from which was delivered.
    removed: BTreeMap<QueueId, Vec<u64>>,
    delivered: BTreeMap<QueueId, Vec<u64>>,
    /// Channels with confirms that wait for the end of the turn.
    confirming: BTreeSet<(ConnectionId, u16)>,
    drop_confirms: u64,
    memory: usize,
}

#[derive(Debug)]
struct Vhost {
    exchanges: BTreeMap<String, Exchange>,
    queues: HashMap<String, QueueId>,
}

impl Vhost {
    fn new() -> Self {
        let predeclared = [
            ("", ExchangeKind::Direct),
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
        ];
        let exchanges = predeclared.map(|(name, kind)| (name.to_owned(), Exchange::predeclared(kind)));
        let mut exchanges = BTreeMap::from(exchanges);
        // Nothing is ever traced; it is there to be found.
        let trace = Exchange { internal: true, ..Exchange::predeclared(ExchangeKind::Topic) };
        exchanges.insert("amq.rabbitmq.trace".into(), trace);
        Self { exchanges, queues: HashMap::new() }
    }

    /// Whether nobody has declared anything in it.
    fn is_new(&self) -> bool {
        let bound = self.exchanges.values().any(|exchange| !exchange.bindings.is_empty());
        self.queues.is_empty() && !bound && self.exchanges.keys().all(|name| predeclared(name))
    }
}

impl Core {
    /// An empty broker. The nonce makes the names that it gives unlike those that it gave before a restart.
    #[must_use]
    pub fn new(limits: Limits, nonce: u64) -> Self {
        Self {
            now: 0,
            nonce,
            next_id: 1,
            limits,
            vhosts: BTreeMap::new(),
            queues: HashMap::new(),
            connections: HashMap::new(),
            consumers: HashMap::new(),
            replies: HashMap::new(),
            timers: BinaryHeap::new(),
            dirty: BTreeSet::new(),
            output: Output::default(),
            removed: BTreeMap::new(),
            delivered: BTreeMap::new(),
            confirming: BTreeSet::new(),
            drop_confirms: 0,
            memory: 0,
        }
    }

    /// A client has logged in. Its vhost is made if it is new.
    ///
    /// # Errors
    /// 530 if there are too many.
    pub fn connect(&mut self, now: u64, peer: Peer) -> Result<ConnectionId, Refusal> {
        self.now = now;
        if self.connections.len() >= self.limits.connections {
            let limit = self.limits.connections;
            return Err(Refusal::not_allowed(format!(
                "connection refused: node connection limit ({limit}) is reached"
            )));
        }
        if self.vhosts.len() >= self.limits.vhosts && !self.vhosts.contains_key(&peer.vhost) {
            let (name, limit) = (&peer.vhost, self.limits.vhosts);
            return Err(Refusal::not_allowed(format!(
                "access to vhost '{name}' refused: vhost limit ({limit}) is reached"
            )));
        }
        self.vhost(&peer.vhost);
        let id = self.id();
        let channels = BTreeMap::new();
        self.connections.insert(id, Connection { peer, channels, closing: false, output: 0 });
        Ok(id)
    }

    /// A client is gone, with or without a goodbye.
    pub fn disconnect(&mut self, now: u64, id: ConnectionId) {
        self.now = now;
        self.release_connection(id);
        self.tend_all();
        let Some(gone) = self.connections.remove(&id) else { return };
        // A vhost that was made on first use, and not used, goes with its last client.
        let name = &gone.peer.vhost;
        let alone = self.connections.values().all(|connection| connection.peer.vhost != *name);
        if alone && self.vhosts.get(name).is_some_and(Vhost::is_new) {
            self.vhosts.remove(name);
        }
    }

    /// Does what a client wants.
    pub fn handle(&mut self, now: u64, id: ConnectionId, input: Input) {
        self.now = now;
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.closing {
            if let Input::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) = input {
                self.send(id, Out::Hangup);
            }
            return;
        }
        let (channel, about, result) = match input {
            Input::Method(channel, method) => {
                let about = (method.get_amqp_class_id(), method.get_amqp_method_id());
                (channel, about, self.method(id, channel, method))
            }
            Input::Publish(channel, publication) => {
                let open = self.channel(id, channel).map(|open| !open.closing);
                let result = match open {
                    Ok(true) => self.publish(id, channel, *publication),
                    Ok(false) => Ok(()),
                    Err(refusal) => Err(refusal),
                };
                (channel, (60, 40), result)
            }
            Input::Wrong(channel, refusal, about) => {
                let deaf = self.channel(id, channel).is_ok_and(|channel| channel.closing);
                (channel, about, if deaf && !refusal.is_hard() { Ok(()) } else { Err(refusal) })
            }
        };
        if let Err(refusal) = result {
            let about = if refusal.code == 530 && about == (20, 10) { (0, 0) } else { about };
            self.refuse(id, channel, &refusal, about);
        }
        self.tend_all();
    }

    /// Closes a connection from this side: an operator's wish.
    pub fn close_connection(&mut self, now: u64, id: ConnectionId, refusal: &Refusal) -> bool {
        self.now = now;
        let known = self.connections.get(&id).is_some_and(|connection| !connection.closing);
        if known {
            self.refuse(id, 0, refusal, (0, 0));
            self.tend_all();
        }
        known
    }

    /// How many bytes are still on their way to a connection; with few, it gets deliveries again.
    pub fn drained(&mut self, now: u64, id: ConnectionId, pending: usize) {
        self.now = now;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let stalled = connection.output >= self.limits.output;
        connection.output = pending;
        if stalled && pending < self.limits.output {
            let tags = connection.channels.values().flat_map(|channel| channel.consumers.values());
            let queues =
                tags.filter_map(|consumer| self.consumers.get(consumer)).map(|consumer| consumer.queue);
            self.dirty.extend(queues);
            self.tend_all();
        }
    }

    /// Swallows the next confirms.
    pub fn drop_confirms(&mut self, count: u64) {
        self.drop_confirms = count;
    }

    /// Bytes of messages that are kept, roughly.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Whether a connection gets no deliveries since it does not read them.
    #[must_use]
    pub fn is_stalled(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.output >= self.limits.output)
    }

    /// Ends a turn: what is to be written, and then sent.
    pub fn take_output(&mut self) -> Output {
        for (id, channel) in std::mem::take(&mut self.confirming) {
            self.flush_confirms(id, channel);
        }
        self.log_deliveries();
        for (queue, places) in std::mem::take(&mut self.removed) {
            self.output.records.push(Record::Removed { queue, places });
        }
        std::mem::take(&mut self.output)
    }

    fn log_deliveries(&mut self) {
        for (queue, places) in std::mem::take(&mut self.delivered) {
            self.output.records.push(Record::Delivered { queue, places });
        }
    }

    fn vhost_of(&self, id: ConnectionId) -> String {
        self.connections.get(&id).map(|connection| connection.peer.vhost.clone()).unwrap_or_default()
    }

    fn vhost(&mut self, name: &str) -> &mut Vhost {
        if !self.vhosts.contains_key(name) {
            self.vhosts.insert(name.to_owned(), Vhost::new());
        }
        self.vhosts.get_mut(name).expect("BUG: it was just made")
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// A name that the broker gives.
    fn name(&mut self, prefix: &str) -> String {
        let number = self.id();
        format!("{prefix}{:016x}{number:06x}", self.nonce)
    }

    fn send(&mut self, id: ConnectionId, out: Out) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output += out.cost();
            self.output.frames.push((id, out));
        }
    }

    /// Frees the place of a message that is done with.
    fn remove(&mut self, queue: QueueId, entry: &Entry) {
        self.memory = self.memory.saturating_sub(entry.message.cost());
        if entry.persisted && self.queues.contains_key(&queue) {
            self.removed.entry(queue).or_default().push(entry.seq);
        }
    }
}

/// Whether every vhost has an exchange of this name from the start.
fn predeclared(exchange: &str) -> bool {
    exchange.is_empty() || exchange.starts_with("amq.")
}
