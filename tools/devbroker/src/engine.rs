//! The one task that owns the core: it takes commands in batches, lets the core decide, writes what has to survive
//! with one write, and only then hands out what is to be sent.
//!
//! Nothing here waits for a client. What goes to one waits in its [`Outbox`]; who does not read gets no more
//! deliveries, and who lets even answers pile up is dropped.

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
    core::{ConnectionId, Core, Input, MOST_OUTPUT, Out, Peer, refusal::Refusal},
    outbox::Outbox,
    store::Store,
};

/// Commands that may wait for the engine.
pub(crate) const MOST_COMMANDS: usize = 256;
/// Commands of one turn.
const BATCH: usize = 64;
/// What may wait for a client that does not read, above what deliveries may take.
const HARD_BOUND: usize = 64 * 1024 * 1024;

/// How long clients have for their goodbye when the broker stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the engine is asked to do.
pub(crate) enum Command {
    /// A client has logged in.
    Connect(Peer, Arc<Outbox>, oneshot::Sender<Result<ConnectionId, Refusal>>),
    /// What it wants, and the memory that this takes.
    Inputs(ConnectionId, Vec<Input>, OwnedSemaphorePermit),
    /// It reads again.
    Drained(ConnectionId),
    /// It is gone.
    Disconnect(ConnectionId),
    /// An operator's question or wish.
    Ask(Question, oneshot::Sender<Value>),
}

/// What an operator asks or wishes, with the time: the engine's task does it between two turns.
pub(crate) type Question = Box<dyn FnOnce(&mut Engine, u64) -> Value + Send>;

/// What connections look at by themselves.
#[derive(Debug, Clone)]
pub(crate) struct Switches {
    /// Publishers are not read from.
    pub(crate) alarm: watch::Sender<bool>,
    /// Nobody is read from or written to.
    pub(crate) paused: watch::Sender<bool>,
}

/// The core with its log and its clients.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) core: Core,
    pub(crate) store: Option<Store>,
    pub(crate) clock: Clock,
    pub(crate) node: String,
    pub(crate) switches: Switches,
    pub(crate) outboxes: HashMap<ConnectionId, Arc<Outbox>>,
}

impl Engine {
    /// Works until it is stopped, or the disk does not take the log.
    ///
    /// # Errors
    /// The disk's; what was not written was confirmed to nobody.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
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
                _ = commands.recv_many(&mut batch, BATCH) => {}
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
            again = self.hand_out()?;
        }
        // Who does not answer in time is cut off.
        match timeout(GOODBYE, self.say_goodbye(&mut commands)).await {
            Ok(result) => result,
            Err(_) => Ok(()),
        }
    }

    /// Closes all connections as RabbitMQ does, and waits until they are gone.
    async fn say_goodbye(&mut self, commands: &mut mpsc::Receiver<Command>) -> std::io::Result<()> {
        let refusal = Refusal::forced("broker forced connection closure with reason 'shutdown'");
        for id in self.outboxes.keys() {
            self.core.close_connection(self.clock.now(), *id, &refusal);
        }
        self.hand_out()?;
        while !self.outboxes.is_empty()
            && let Some(command) = commands.recv().await
        {
            self.apply(self.clock.now(), command);
            self.hand_out()?;
        }
        Ok(())
    }

    fn apply(&mut self, now: u64, command: Command) {
        match command {
            Command::Connect(peer, outbox, answer) => {
                let connected = self.core.connect(now, peer);
                if let Ok(id) = &connected {
                    self.outboxes.insert(*id, outbox);
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
            Command::Ask(question, answer) => {
                let value = question(self, now);
                // Who asked may have hung up.
                let _ = answer.send(value);
            }
        }
    }

    fn drained(&mut self, now: u64, id: ConnectionId) {
        if let Some(outbox) = self.outboxes.get(&id) {
            self.core.drained(now, id, outbox.pending.load(Ordering::Acquire));
        }
    }

    fn disconnect(&mut self, now: u64, id: ConnectionId) {
        self.core.disconnect(now, id);
        self.outboxes.remove(&id);
    }

    /// Writes, then sends. Returns the connections that can take more already.
    fn hand_out(&mut self) -> std::io::Result<BTreeSet<ConnectionId>> {
        let output = self.core.take_output();
        if let Some(store) = &mut self.store
            && !output.records.is_empty()
        {
            store.append(&output.records)?;
            if store.is_bloated() {
                store.compact(&self.core);
            }
        }
        let mut by_connection: HashMap<ConnectionId, Vec<Out>> = HashMap::new();
        for (id, out) in output.frames {
            by_connection.entry(id).or_default().push(out);
        }
        let mut again = BTreeSet::new();
        for (id, mut outs) in by_connection {
            let Some(outbox) = self.outboxes.get(&id) else { continue };
            outbox.push(&mut outs);
            let pending = outbox.pending.load(Ordering::Acquire);
            if pending > HARD_BOUND {
                outbox.dropped.cancel();
            }
            if self.core.is_stalled(id) {
                outbox.stalled.store(true, Ordering::Release);
                if outbox.pending.load(Ordering::Acquire) < MOST_OUTPUT / 2 {
                    outbox.stalled.store(false, Ordering::Release);
                    again.insert(id);
                }
            } else {
                self.core.drained(self.clock.now(), id, pending);
            }
        }
        Ok(again)
    }

    /// Counts of everything.
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
