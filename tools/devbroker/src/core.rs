//! The rules of a broker: client input goes in, frames and log records come out.
//!
//! The core is pure: it has no I/O, no clock and no task. The time is an argument (Unix milliseconds); the frames to send, the
//! records to write before that, and the time of the next timer are values. So a table can test every rule.
//!
//! In reading order:
//! - data: `error`, RabbitMQ's error codes and texts; `value`; `message`; `exchange`, which routes messages; `queue_options`,
//!   the arguments of queues; `queue` and `stream`, which keep messages; `client`, with its connections, channels and consumers,
//! - methods: `method`, those that a server sends; `channel`, which dispatches those of a client,
//! - operations of clients: `equivalent`, which compares repeated declarations; `bind`, `declare`, `publish`, `confirm`,
//!   `reply_to`, `consume`, `deliver`, `settle`, `firehose`,
//! - events: `dead_letter`, and `time`, which expires messages and queues,
//! - durability: `record`, an entry of the log, and `recover`, which restores the state from records,
//! - `view`: what operators see.

pub(crate) mod error;
pub(crate) mod value;
pub(crate) mod message;
pub(crate) mod exchange;
pub(crate) mod queue_options;
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
mod firehose;
pub(crate) mod dead_letter;
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
    client::{ChannelId, DeliveryHeader, Input, Outgoing, Peer, Publication},
    value::{ConnectionId, QueueId},
};
use self::{
    client::{Connection, Consumer},
    error::AmqpError,
    exchange::Exchange,
    message::Entry,
    method::ServerMethod,
    queue::Queue,
    record::Record,
    value::{ConsumerId, Name},
};

/// Most connections at a time, with enough open files.
pub(crate) const MAX_CONNECTIONS: usize = 1_000;
/// Unsent bytes at which a connection is stalled: it gets no deliveries until it has read some of them.
pub(crate) const STALL_BYTES: usize = 512 * 1024;

/// The output of a turn, in order. The records have to be in the log before a frame is sent.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) frames: Vec<(ConnectionId, Outgoing)>,
    pub(crate) records: Vec<Record>,
}

/// The state of a broker.
#[derive(Debug, Default)]
pub(crate) struct Core {
    now: u64,
    /// Part of generated names, so that they differ from those before a restart.
    nonce: u64,
    next_id: u64,
    vhosts: BTreeSet<Arc<str>>,
    /// Vhosts whose firehose is on, with the name of the broker for its headers.
    tracing: BTreeMap<Arc<str>, String>,
    exchanges: BTreeMap<Name, Exchange>,
    queue_ids: BTreeMap<Name, QueueId>,
    queues: BTreeMap<QueueId, Queue>,
    connections: BTreeMap<ConnectionId, Connection>,
    consumers: HashMap<ConsumerId, Consumer>,
    /// Addresses of direct reply-to, with the channel that waits for the replies.
    replies: HashMap<String, ChannelId>,
    timers: BTreeSet<(u64, QueueId)>,
    /// Queues that have changed since [`Core::update_queues`] ran.
    dirty: BTreeSet<QueueId>,
    /// Channels with confirms to send at the end of the turn.
    confirming: BTreeSet<ChannelId>,
    drop_confirms: u64,
    max_connections: usize,
    output: Output,
}

impl Core {
    pub(crate) fn new(nonce: u64, max_connections: usize) -> Self {
        Self { nonce, max_connections, ..Self::default() }
    }

    /// Registers a client that has logged in, and creates its vhost if it is new.
    pub(crate) fn connect(&mut self, now: u64, peer: Peer) -> Result<ConnectionId, AmqpError> {
        self.now = now;
        let max = self.max_connections;
        if self.connections.len() >= max {
            let why = format!("connection refused: node connection limit ({max}) is reached");
            return Err(AmqpError::not_allowed(why));
        }
        self.make_vhost(&peer.vhost);
        let id = self.id();
        self.connections.insert(id, Connection::new(peer));
        Ok(id)
    }

    /// Removes a client that has disconnected, and requeues its deliveries.
    pub(crate) fn disconnect(&mut self, now: u64, id: ConnectionId) {
        self.now = now;
        self.release_connection(id);
        self.update_queues();
        self.connections.remove(&id);
    }

    /// Handles what a client has sent.
    pub(crate) fn handle(&mut self, now: u64, id: ConnectionId, input: Input) {
        self.now = now;
        let Some(connection) = self.connections.get(&id) else { return };
        let at = |channel| ChannelId { connection: id, channel };
        if connection.closing {
            match input {
                // The client closes the connection, too: it has sent this before it received our close.
                Input::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))) => {
                    self.send_method(at(0), connection::CloseOk {});
                }
                Input::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) => {
                    self.send(id, Outgoing::Shutdown);
                }
                _ => {}
            }
            return;
        }
        let (at, about, result) = match input {
            Input::Method(channel, method) => {
                let about = (method.get_amqp_class_id(), method.get_amqp_method_id());
                (at(channel), about, self.method(at(channel), method))
            }
            Input::Publish(channel, publication) => {
                (at(channel), (60, 40), self.publish(at(channel), *publication))
            }
            Input::Invalid(channel, error, about) => {
                let deaf = self.channel(at(channel)).is_ok_and(|channel| channel.closing);
                (at(channel), about, if deaf && !error.is_hard() { Ok(()) } else { Err(error) })
            }
        };
        if let Err(error) = result {
            // RabbitMQ closes the connection for too many channels without naming `channel.open`.
            let about = if error.code == 530 && about == (20, 10) { (0, 0) } else { about };
            self.refuse(at, &error, about);
        }
        self.update_queues();
    }

    /// Closes a connection for an operator, or because the broker stops. Returns whether the connection was open.
    pub(crate) fn close_connection(&mut self, now: u64, id: ConnectionId, error: &AmqpError) -> bool {
        self.now = now;
        let known = self.connections.get(&id).is_some_and(|connection| !connection.closing);
        if known {
            self.refuse(ChannelId { connection: id, channel: 0 }, error, (0, 0));
            self.update_queues();
        }
        known
    }

    /// Notes how many bytes wait in a connection's send buffer. Below the limit, a stalled connection gets deliveries again.
    pub(crate) fn drained(&mut self, now: u64, id: ConnectionId, pending: usize) {
        self.now = now;
        let was_stalled = self.is_stalled(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.output = pending;
        if was_stalled && pending < STALL_BYTES {
            let consumers = connection.channels.values().flat_map(|channel| channel.consumers.values());
            let queues = consumers.filter_map(|id| self.consumers.get(id)).map(|consumer| consumer.queue);
            self.dirty.extend(queues);
            self.update_queues();
        }
    }

    /// Returns whether a connection gets no deliveries because it does not read.
    pub(crate) fn is_stalled(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.output >= STALL_BYTES)
    }

    /// Drops the next `count` confirms, for tests of publishers.
    pub(crate) fn drop_confirms(&mut self, count: u64) {
        self.drop_confirms = count;
    }

    /// Ends a turn and returns its output.
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

    /// Returns a name in a connection's vhost.
    fn name_at(&self, at: ChannelId, name: &str) -> Name {
        let vhost = self.connections.get(&at.connection).map(|connection| &connection.peer.vhost);
        Name { vhost: vhost.map_or_else(|| "".into(), Arc::clone), name: name.to_owned() }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Generates a name that is unique over restarts.
    fn generated_name(&mut self, prefix: &str) -> String {
        let number = self.id();
        format!("{prefix}{:016x}{number:06x}", self.nonce)
    }

    fn send(&mut self, id: ConnectionId, out: Outgoing) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output += out.cost();
            self.output.frames.push((id, out));
        }
    }

    fn send_method(&mut self, at: ChannelId, method: impl ServerMethod) {
        self.send(at.connection, Outgoing::Method(at.channel, method.class()));
    }

    fn log(&mut self, record: Record) {
        self.output.records.push(record);
    }

    /// Logs that an entry has left its queue for good.
    fn remove(&mut self, queue: QueueId, entry: &Entry) {
        if entry.persisted && self.queues.contains_key(&queue) {
            self.log(Record::Removed { queue, position: entry.position });
        }
    }
}

#[cfg(test)]
mod tests;
