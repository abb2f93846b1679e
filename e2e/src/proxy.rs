//! A TCP proxy inside the test, between a service and its broker: it cuts, freezes, delays, refuses and accepts-and-closes.
//!
//! It knows nothing of AMQP: "in mid-frame" is after a number of bytes that no frame's end falls on.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use accept::Incoming;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::free_port,
    wait::{PATIENCE, until_true},
};

/// Treatment of bytes and new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Forward,
    /// Forwards everything, each piece later by this much.
    Delay(Duration),
    /// Keeps connections open and accepts new ones, but forwards nothing: a half-open link, a silent server.
    Freeze,
    /// Accepts new connections and closes them at once: a load balancer without a back end.
    AcceptAndClose,
    /// Does not listen: new connections are refused.
    Refuse,
}

/// A direction, seen from the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the service to the broker.
    ToBroker,
    /// From the broker to the service.
    FromBroker,
}

/// A proxy before one address; everything ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: Arc<Control>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let (port, listener) = loop {
            let port = free_port();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await {
                break (port, listener);
            }
        };
        let control = Arc::new(Control {
            target,
            mode: watch::Sender::new(Mode::Forward),
            alive: Mutex::default(),
            cut_after: Mutex::default(),
            accepted: AtomicUsize::default(),
            cuts: AtomicUsize::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(control.clone(), port, Some(listener)));
        Self { port, control, _tasks: tasks }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does from now on; connections that are open stay open, except that a refusing proxy has none.
    pub fn set(&self, mode: Mode) {
        self.control.mode.send_replace(mode);
        if mode == Mode::Refuse {
            self.control.cut();
        }
    }

    /// Cuts all connections at once; new ones are taken.
    pub fn cut(&self) {
        self.control.cut();
    }

    /// Lets `bytes` more bytes pass in that direction and then cuts all connections: inside a frame, unless by chance.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        *self.control.cut_after.lock().expect("not poisoned") = Some((direction, bytes));
    }

    /// Counts the connections that it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.control.accepted.load(Ordering::Relaxed)
    }

    /// Waits until it has cut all connections for the `count`-th time.
    pub async fn until_cuts(&self, count: usize) {
        until_true("the proxy cuts the connections", PATIENCE, async || {
            self.control.cuts.load(Ordering::Relaxed) >= count
        })
        .await;
    }
}

#[derive(Debug)]
struct Control {
    target: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Cancelled and replaced by each cut.
    alive: Mutex<CancellationToken>,
    cut_after: Mutex<Option<(Direction, usize)>>,
    accepted: AtomicUsize,
    cuts: AtomicUsize,
}

impl Control {
    fn cut(&self) {
        let old = std::mem::take(&mut *self.alive.lock().expect("not poisoned"));
        old.cancel();
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    fn alive(&self) -> CancellationToken {
        self.alive.lock().expect("not poisoned").clone()
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    async fn until_mode(&self, wanted: impl FnMut(&Mode) -> bool) {
        let mut modes = self.mode.subscribe();
        modes.wait_for(wanted).await.expect("the sender lives as long as this task");
    }

    /// Returns how many of these bytes may pass, and whether the connection is cut after them.
    fn allowed(&self, direction: Direction, bytes: usize) -> (usize, bool) {
        let mut cut_after = self.cut_after.lock().expect("not poisoned");
        match cut_after.as_mut() {
            Some((wanted, left)) if *wanted == direction => {
                let allowed = bytes.min(*left);
                *left -= allowed;
                let is_cut = *left == 0;
                if is_cut {
                    *cut_after = None;
                }
                (allowed, is_cut)
            }
            _ => (bytes, false),
        }
    }
}

async fn accept(control: Arc<Control>, port: u16, mut listener: Option<TcpListener>) {
    let mut connections = JoinSet::new();
    loop {
        if control.mode() == Mode::Refuse {
            listener = None;
            control.until_mode(|mode| *mode != Mode::Refuse).await;
        }
        let Some(listening) = &listener else {
            let again = TcpListener::bind(("127.0.0.1", port)).await;
            listener = Some(again.expect("nobody else takes a port outside the ephemeral range"));
            continue;
        };
        let mut incoming = Incoming::new(listening);
        let client = tokio::select! {
            (client, _) = incoming.next() => client,
            () = control.until_mode(|mode| *mode == Mode::Refuse) => continue,
        };
        control.accepted.fetch_add(1, Ordering::Relaxed);
        // In this order: `set(Refuse)` changes the mode and then cuts, so one of the two stops this connection.
        let alive = control.alive();
        if !matches!(control.mode(), Mode::AcceptAndClose | Mode::Refuse) {
            connections.spawn(forward(control.clone(), alive, client));
        }
    }
}

async fn forward(control: Arc<Control>, alive: CancellationToken, client: TcpStream) {
    let Ok(broker) = TcpStream::connect(control.target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    // Whichever ends first ends both: AMQP has no use for a half-closed connection.
    tokio::select! {
        _ = pump(&control, Direction::ToBroker, from_client, to_broker) => {}
        _ = pump(&control, Direction::FromBroker, from_broker, to_client) => {}
        () = alive.cancelled() => {}
    }
}

async fn pump(
    control: &Control,
    direction: Direction,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok(());
        }
        if let Mode::Delay(delay) = control.mode() {
            tokio::time::sleep(delay).await;
        }
        control.until_mode(|mode| *mode != Mode::Freeze).await;
        let (allowed, is_cut) = control.allowed(direction, bytes);
        to.write_all(&buffer[..allowed]).await?;
        if is_cut {
            control.cut();
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
