//! An AMQP 0-9-1 broker for development, written to be read: it shows what a broker does.
//!
//! In reading order: `core`, the rules of a broker, without I/O; `engine`, the task that owns the core, with its `clock` and
//! a `send_buffer` per client; `store`, its log; `wire` and `connection`, the clients' side; `admin`, the operators' side.
//! It answers like RabbitMQ 4.0; what it does not implement it refuses with `NOT_IMPLEMENTED`.
//!
//! It is not for production: it has no cluster, no TLS and no users, keeps everything in memory, and loses confirmed messages
//! when the machine crashes (not when the process does), unless each write waits for the disk.

mod core;
mod engine;
mod clock;
mod send_buffer;
mod store;
mod wire;
mod connection;
mod admin;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use accept::Incoming;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    clock::Clock,
    connection::Shared,
    core::{Core, MAX_CONNECTIONS},
    engine::{Engine, Switches},
    store::Store,
};

/// Options of a broker. The defaults suit tests: free ports on this machine, and nothing on disk.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address for clients; port 0 picks a free port.
    pub listen: SocketAddr,
    /// Address of the HTTP interface for operators; `None` for no such interface.
    pub admin: Option<SocketAddr>,
    /// Folder of the log; `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Lets each write to the log wait for the disk, so that confirmed messages survive a power loss.
    pub fsync: bool,
    /// Allows addresses beyond loopback. Think twice: there are no users and no TLS.
    pub allow_remote: bool,
    /// Name of the broker, which clients see as `cluster_name`.
    pub node_name: String,
    /// Heartbeat interval that the broker proposes to clients, in seconds.
    pub heartbeat: u16,
    /// Largest body of a message, in bytes.
    pub max_message: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            admin: Some((Ipv4Addr::LOCALHOST, 0).into()),
            data_dir: None,
            fsync: false,
            allow_remote: false,
            node_name: "devbroker@localhost".into(),
            heartbeat: 60,
            max_message: 16 * 1024 * 1024,
        }
    }
}

/// Most connections at a time, by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// Clients that are logged in.
    clients: usize,
    /// Clients in a handshake, while as many are logged in as may be.
    handshakes: usize,
    /// Connections of operators, over HTTP.
    admin: usize,
}

impl Limits {
    /// The sum of the limits, with enough open files.
    const ALL: usize = MAX_CONNECTIONS + 2 * 100;

    /// Divides `connections` so that no kind of them takes the places of another.
    fn within(connections: usize) -> Self {
        let share = (connections / 4).clamp(1, 100);
        let clients = connections.saturating_sub(2 * share).clamp(1, MAX_CONNECTIONS);
        Self { clients, handshakes: share, admin: share }
    }
}

/// A running broker; dropping it stops the broker.
#[derive(Debug)]
pub struct DevBroker {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    damage: Vec<String>,
    stop: CancellationToken,
    failed: CancellationToken,
    /// Error for which the broker has stopped by itself.
    failure: Arc<OnceLock<io::Error>>,
    tasks: TaskTracker,
}

impl DevBroker {
    /// Starts a broker. Clients can connect as soon as this returns.
    ///
    /// # Errors
    /// If a port or the folder cannot be used, or an address is not loopback and [`Options::allow_remote`] is not set.
    pub async fn start(options: Options) -> io::Result<Self> {
        let all = options.admin.into_iter().chain([options.listen]);
        if !options.allow_remote
            && let Some(address) = all.into_iter().find(|address| !address.ip().is_loopback())
        {
            let why =
                format!("{address} is reachable from other machines: pass --allow-remote if you want that");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = bind(options.listen).await?;
        let clock = Clock::start();
        let limits = Limits::within(accept::affordable_connections(Limits::ALL));
        let core = Core::new(rand::random(), limits.clients);
        let (store, core, damage) = match &options.data_dir {
            Some(folder) => {
                let (store, core, damage) = Store::open(folder, clock.now(), core, options.fsync)?;
                (Some(store), core, damage)
            }
            None => (None, core, vec![]),
        };
        let (commands, received) = mpsc::channel(engine::COMMAND_QUEUE_LENGTH);
        let switches = Switches { alarm: watch::Sender::new(false), paused: watch::Sender::new(false) };
        let engine = Engine {
            core,
            store,
            clock,
            node: options.node_name.clone(),
            switches: switches.clone(),
            send_buffers: std::collections::HashMap::new(),
        };
        let (stop, failed, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let engine = engine.run(received, stop.clone());
        // Connections run on after the stop signal until they are closed; when the engine ends, for whatever reason, all tasks end.
        let ended = CancellationToken::new();
        let end_guards = (stop.clone().drop_guard(), ended.clone().drop_guard());
        let (failure, failed_guard) = (Arc::<OnceLock<_>>::default(), failed.clone().drop_guard());
        let reason = Arc::clone(&failure);
        tasks.spawn(async move {
            match engine.await {
                Ok(()) => drop(failed_guard.disarm()),
                Err(error) => drop(reason.set(error)),
            }
            drop(end_guards);
        });
        let admin = match options.admin {
            Some(address) => {
                let listener = bind(address).await?;
                let bound = listener.local_addr()?;
                let (commands, switches) = (commands.clone(), switches.clone());
                tasks.spawn(admin::serve(listener, limits.admin, commands, switches, stop.clone()));
                Some(bound)
            }
            None => None,
        };
        let address = listener.local_addr()?;
        let shared = Shared {
            commands,
            switches,
            inputs: Arc::new(Semaphore::new(connection::reader::INPUT_KIB)),
            node: options.node_name.into(),
            heartbeat: options.heartbeat,
            max_message: options.max_message,
        };
        // Clients in a handshake count too: a flood of half-open connections must not take all file descriptors.
        let slots = Arc::new(Semaphore::new(limits.clients + limits.handshakes));
        tasks.spawn(accept(listener, slots, shared, stop.clone(), ended, tasks.clone()));
        tasks.close();
        Ok(Self { address, admin, damage, stop, failed, failure, tasks })
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address for clients as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://{}", self.address)
    }

    /// Returns the address of the HTTP interface for operators.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns a sentence for each damage of the log that was found at the start.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Waits until the broker has stopped by itself, because its log could not be written, and returns why.
    pub async fn failed(&self) -> String {
        self.failed.cancelled().await;
        self.failure.get().map(ToString::to_string).unwrap_or_default()
    }

    /// Stops the broker, and waits until its connections are closed and its tasks have ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for DevBroker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

async fn accept(
    listener: TcpListener,
    free_slots: Arc<Semaphore>,
    shared: Shared,
    stop: CancellationToken,
    ended: CancellationToken,
    tasks: TaskTracker,
) {
    let mut incoming = Incoming::new(&listener);
    let accept_all = async {
        loop {
            let Ok(slot) = Arc::clone(&free_slots).acquire_owned().await else { return };
            let (socket, _) = incoming.next().await;
            let (shared, ended) = (shared.clone(), ended.clone());
            let client = async move { ended.run_until_cancelled(connection::serve(socket, shared)).await };
            tasks.spawn(async move {
                client.await;
                drop(slot);
            });
        }
    };
    stop.run_until_cancelled(accept_all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_connection_has_places_of_its_own_however_few_there_are() {
        for (connections, clients, handshakes, admin) in
            [(1_200, 1_000, 100, 100), (5_000, 1_000, 100, 100), (236, 118, 59, 59), (1, 1, 1, 1)]
        {
            let expected = Limits { clients, handshakes, admin };
            assert_eq!(Limits::within(connections), expected, "{connections}");
        }
    }
}
