//! The task that owns the core. In each turn it takes a batch of commands, lets the core decide, appends the records to the log
//! with one write, and only then hands the frames to the connections.
//!
//! The engine never waits for a client: frames go into the client's [`SendBuffer`]. A client that does not read gets no more
//! deliveries, and is disconnected when even the answers to its methods pile up.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    core::{ConnectionId, Core, Input, Outgoing, Peer, STALL_BYTES, error::AmqpError},
    send_buffer::SendBuffer,
    store::Store,
};

/// Commands that can wait for the engine; senders wait when the queue is full.
pub(crate) const COMMAND_QUEUE_LENGTH: usize = 256;
/// Most commands that one turn handles.
const COMMANDS_PER_TURN: usize = 64;
/// Size of a send buffer at which its client is disconnected. Deliveries stop at [`STALL_BYTES`], so only answers get it there.
const DROP_BYTES: usize = 64 * 1024 * 1024;

/// Time limit for clients to answer `connection.close` when the broker stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A request to the engine.
pub(crate) enum Command {
    /// A client has logged in: who it is, its send buffer, and where the answer goes.
    Connect(Peer, Arc<SendBuffer>, oneshot::Sender<Result<ConnectionId, AmqpError>>),
    /// Input of a client, and the permit for the memory that it takes.
    Inputs(ConnectionId, Vec<Input>, OwnedSemaphorePermit),
    /// A client that was too slow has room in its send buffer again.
    Drained(ConnectionId),
    /// A client has disconnected.
    Disconnect(ConnectionId),
    /// An operator's request, and where the answer goes.
    Query(Query, oneshot::Sender<Value>),
}

/// An operator's request: a function of the engine and the current time, which runs between two commands.
pub(crate) type Query = Box<dyn FnOnce(&mut Engine, u64) -> Value + Send>;

/// Switches of an operator that connections watch without asking the engine.
#[derive(Debug, Clone)]
pub(crate) struct Switches {
    /// Memory alarm: publishing clients are blocked.
    pub(crate) alarm: watch::Sender<bool>,
    /// Nothing is read from any client or written to it.
    pub(crate) paused: watch::Sender<bool>,
}

/// The core with its log and the send buffers of its clients.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) core: Core,
    pub(crate) store: Option<Store>,
    pub(crate) clock: Clock,
    pub(crate) node: String,
    pub(crate) switches: Switches,
    pub(crate) send_buffers: HashMap<ConnectionId, Arc<SendBuffer>>,
}

impl Engine {
    /// Runs until the broker stops, or the log cannot be written.
    ///
    /// # Errors
    /// The error of the write to the log. Nothing that depends on it was confirmed.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let mut batch = Vec::with_capacity(COMMANDS_PER_TURN);
        let mut again = BTreeSet::new();
        loop {
            let timer = self.core.next_timer().map(|at| self.clock.at(at));
            let timer = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = std::future::ready(()), if !again.is_empty() => {}
                _ = commands.recv_many(&mut batch, COMMANDS_PER_TURN) => {}
                () = timer => {}
            }
            let now = self.clock.now();
            for id in std::mem::take(&mut again) {
                self.drained(now, id);
            }
            for command in batch.drain(..) {
                self.apply(now, command);
            }
            self.core.tick(now);
            again = self.write_and_send()?;
        }
        // Clients that do not answer in time are disconnected.
        match timeout(CLOSE_TIMEOUT, self.close_connections(&mut commands)).await {
            Ok(result) => result,
            Err(_) => Ok(()),
        }
    }

    /// Closes all connections as RabbitMQ does, and waits until the clients have disconnected.
    async fn close_connections(&mut self, commands: &mut mpsc::Receiver<Command>) -> std::io::Result<()> {
        let error = AmqpError::forced("broker forced connection closure with reason 'shutdown'");
        for id in self.send_buffers.keys() {
            self.core.close_connection(self.clock.now(), *id, &error);
        }
        self.write_and_send()?;
        while !self.send_buffers.is_empty()
            && let Some(command) = commands.recv().await
        {
            self.apply(self.clock.now(), command);
            self.write_and_send()?;
        }
        Ok(())
    }

    fn apply(&mut self, now: u64, command: Command) {
        match command {
            Command::Connect(peer, send_buffer, answer) => {
                let connected = self.core.connect(now, peer);
                if let Ok(id) = &connected {
                    self.send_buffers.insert(*id, send_buffer);
                }
                if let Err(Ok(id)) = answer.send(connected) {
                    self.disconnect(now, id);
                }
            }
            Command::Inputs(id, inputs, _memory) => {
                for input in inputs {
                    self.core.handle(now, id, input);
                }
            }
            Command::Drained(id) => self.drained(now, id),
            Command::Disconnect(id) => self.disconnect(now, id),
            Command::Query(query, answer) => {
                let value = query(self, now);
                // The operator may have disconnected.
                let _ = answer.send(value);
            }
        }
    }

    fn drained(&mut self, now: u64, id: ConnectionId) {
        if let Some(send_buffer) = self.send_buffers.get(&id) {
            self.core.drained(now, id, send_buffer.pending.load(Ordering::Acquire));
        }
    }

    fn disconnect(&mut self, now: u64, id: ConnectionId) {
        self.core.disconnect(now, id);
        self.send_buffers.remove(&id);
    }

    /// Writes the records of a turn, then hands out its frames. Returns the connections that have room for more deliveries already.
    fn write_and_send(&mut self) -> std::io::Result<BTreeSet<ConnectionId>> {
        let output = self.core.take_output();
        if let Some(store) = &mut self.store
            && !output.records.is_empty()
        {
            store.append(&output.records)?;
            if store.needs_compaction() {
                store.compact(&self.core);
            }
        }
        let mut by_connection: HashMap<ConnectionId, Vec<Outgoing>> = HashMap::new();
        for (id, out) in output.frames {
            by_connection.entry(id).or_default().push(out);
        }
        let mut again = BTreeSet::new();
        for (id, mut frames) in by_connection {
            let Some(send_buffer) = self.send_buffers.get(&id) else { continue };
            send_buffer.push(&mut frames);
            let pending = send_buffer.pending.load(Ordering::Acquire);
            if pending > DROP_BYTES {
                send_buffer.dropped.cancel();
            }
            if self.core.is_stalled(id) {
                send_buffer.stalled.store(true, Ordering::Release);
                if send_buffer.pending.load(Ordering::Acquire) < STALL_BYTES / 2 {
                    send_buffer.stalled.store(false, Ordering::Release);
                    again.insert(id);
                }
            } else {
                self.core.drained(self.clock.now(), id, pending);
            }
        }
        Ok(again)
    }

    /// Returns what `GET /status` shows.
    pub(crate) fn status(&self) -> Value {
        let mut status = self.core.status();
        status["node"] = json!(self.node);
        status["version"] = json!(env!("CARGO_PKG_VERSION"));
        status["alarm"] = json!(*self.switches.alarm.borrow());
        status["paused"] = json!(*self.switches.paused.borrow());
        status["log_bytes"] = json!(self.store.as_ref().map(Store::size));
        status["uptime_ms"] = json!(self.clock.uptime());
        status
    }
}
