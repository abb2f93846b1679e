//! An AMQP 0-9-1 broker for development, to be read: the answer to "what does a broker do?".
//!
//! In reading order: `core`, what a broker does, without a wire; `engine`, the task that owns it, with its `clock` and
//! an `outbox` for each client; `store`, its log; `wire` and `connection`, how clients talk with it; `admin`, how
//! operators do. It answers like RabbitMQ 4.0 where it answers, and `NOT_IMPLEMENTED` elsewhere.
//!
//! It is not for production: no cluster, no TLS, no users, everything in memory, and what was confirmed survives the death
//! of the process and not of the machine.

mod core;
mod engine;
mod clock;
mod outbox;
mod store;
mod wire;
mod connection;
mod admin;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    clock::Clock,
    connection::Shared,
    core::{Core, MOST_CONNECTIONS},
    engine::{Engine, Switches},
    store::Store,
};

/// How a broker is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where operators ask, over HTTP; `None` for nowhere.
    pub admin: Option<SocketAddr>,
    /// The folder of the log; without one, nothing survives the process.
    pub data_dir: Option<PathBuf>,
    /// Whether to listen elsewhere than on this machine: there are no users and no TLS.
    pub allow_remote: bool,
    /// The name that clients see.
    pub node_name: String,
    /// The heartbeat that is proposed to clients, in seconds.
    pub heartbeat: u16,
    /// Bytes of a message's body.
    pub max_message: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            admin: Some((Ipv4Addr::LOCALHOST, 0).into()),
            data_dir: None,
            allow_remote: false,
            node_name: "devbroker@localhost".into(),
            heartbeat: 60,
            max_message: 16 * 1024 * 1024,
        }
    }
}

/// A broker that runs; it stops when this is dropped.
#[derive(Debug)]
pub struct DevBroker {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    stop: CancellationToken,
    failed: CancellationToken,
    tasks: TaskTracker,
}

impl DevBroker {
    /// Starts a broker; clients can connect when this returns.
    ///
    /// # Errors
    /// If a port or the folder cannot be used, or the options would open it to the network by accident.
    pub async fn start(options: Options) -> io::Result<Self> {
        let all = options.admin.into_iter().chain([options.listen]);
        if !options.allow_remote
            && let Some(address) = all.into_iter().find(|address| !address.ip().is_loopback())
        {
            let why = format!("{address} is not on this machine alone: say --allow-remote if that is meant");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = bind(options.listen).await?;
        let clock = Clock::start();
        let core = Core::new(rand::random());
        let (store, core) = match &options.data_dir {
            Some(folder) => {
                Store::open(folder, clock.now(), core).map(|(store, core)| (Some(store), core))?
            }
            None => (None, core),
        };
        let (commands, received) = mpsc::channel(engine::MOST_COMMANDS);
        let switches = Switches { alarm: watch::Sender::new(false), paused: watch::Sender::new(false) };
        let engine = Engine {
            core,
            store,
            clock,
            node: options.node_name.clone(),
            switches: switches.clone(),
            outboxes: std::collections::HashMap::new(),
        };
        let (stop, failed, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let engine = engine.run(received, stop.clone());
        // Connections outlive the wish to stop by their goodbye. Nothing outlives the engine, however it ends.
        let gone = CancellationToken::new();
        let ends = (stop.clone().drop_guard(), gone.clone().drop_guard());
        let failure = failed.clone().drop_guard();
        tasks.spawn(async move {
            if engine.await.is_ok() {
                failure.disarm();
            }
            drop(ends);
        });
        let admin = match options.admin {
            Some(address) => {
                let listener = bind(address).await?;
                let bound = listener.local_addr()?;
                tasks.spawn(admin::serve(listener, commands.clone(), switches.clone(), stop.clone()));
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
        tasks.spawn(accept(listener, shared, stop.clone(), gone, tasks.clone()));
        tasks.close();
        Ok(Self { address, admin, stop, failed, tasks })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://{}", self.address)
    }

    /// Where operators ask.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Waits until the broker has stopped by itself: its disk took no more.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops it, and waits until all is closed.
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
    shared: Shared,
    stop: CancellationToken,
    gone: CancellationToken,
    tasks: TaskTracker,
) {
    // Those in a handshake count too: a flood of half-open clients must not take all file descriptors.
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS + 100));
    let forever = async {
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((socket, _)) = listener.accept().await else {
                // Out of file descriptors, most likely: those who leave make room.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (shared, gone) = (shared.clone(), gone.clone());
            let client = async move { gone.run_until_cancelled(connection::serve(socket, shared)).await };
            tasks.spawn(async move {
                client.await;
                drop(place);
            });
        }
    };
    stop.run_until_cancelled(forever).await;
}
