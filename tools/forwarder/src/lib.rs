//! Forwards the TCP connections of one port to replicas, in turn.
//!
//! It forwards bytes, and knows of HTTP only where a request's head ends. A new connection goes to the next replica that accepts it; an open connection
//! stays with its replica, even if the list of replicas changes. `cargo hops` sets the list; the binary of this crate
//! takes it from the name server.
//!
//! The number of connections is limited. A new one beyond the limit takes the place of the one that has been idle longest:
//! its client has not sent the whole head of a request yet, or its replica spoke last. All others may have a request in
//! flight, and are not closed.

mod turns;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use accept::{Connection, Connections};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::turns::Turns;

/// Time limit for one replica to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that a connection waits while no replica accepts it, in which a replica can restart.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(3);
/// Delay after all replicas have refused a connection.
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Most connections of one port, which take about 20 KiB each.
const MAX_CONNECTIONS: usize = 2_000;
/// Open files of one connection: the client's socket and the replica's.
const FILES_PER_CONNECTION: usize = 2;

/// List of a service's replicas, which may be changed at any time.
#[derive(Debug)]
pub struct Replicas {
    addresses: watch::Sender<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { addresses: watch::Sender::new(vec![]), next: AtomicUsize::default() }
    }
}

impl Replicas {
    /// Sets the replicas for new connections.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        self.addresses.send_if_modified(|current| {
            let has_changed = *current != addresses;
            *current = addresses;
            has_changed
        });
    }

    /// Returns all replicas, beginning with the next one in turn.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.borrow().clone();
        if !addresses.is_empty() {
            let first = self.next.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        addresses
    }

    /// Connects to the first replica that accepts; waits for a while if none does.
    async fn connect(&self) -> io::Result<TcpStream> {
        let (deadline, mut changes) = (Instant::now() + REPLICA_TIMEOUT, self.addresses.subscribe());
        loop {
            changes.mark_unchanged();
            for address in self.in_turn() {
                if let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                    return Ok(stream);
                }
            }
            let retry = async {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = sleep(RETRY_DELAY) => {}
                }
            };
            if timeout_at(deadline, retry).await.is_err() {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
        }
    }
}

/// Returns the number of connections that each of `ports` may have at a time, if all together may have `files` open.
#[must_use]
pub fn connections_per_port(ports: usize, files: usize) -> usize {
    (files / FILES_PER_CONNECTION / ports.max(1)).clamp(1, MAX_CONNECTIONS)
}

/// Forwards the connections of `listener`, at most `connections` at a time, until `stop` is cancelled. Then waits up to
/// `close_timeout` for open connections to close.
pub async fn forward(
    listener: TcpListener,
    replicas: Arc<Replicas>,
    connections: usize,
    close_timeout: Duration,
    stop: CancellationToken,
) {
    // A replica closes connections that have been idle for too long; the forwarder only makes room.
    let mut open = Connections::new(connections, || Duration::MAX);
    let accepting = open
        .accept(&listener, |client, _, connection| forward_one(client, Arc::clone(&replicas), connection));
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    open.finish(close_timeout).await;
}

/// Forwards one connection in both directions, including the end of each.
async fn forward_one(
    client: TcpStream,
    replicas: Arc<Replicas>,
    connection: Arc<Connection>,
) -> io::Result<()> {
    // The client may have sent a request already, which nobody reads yet.
    connection.set_busy();
    let mut replica = replicas.connect().await?;
    let _ = replica.set_nodelay(true);
    connection.set_waiting();
    copy_bidirectional(&mut Turns::new(client, connection), &mut replica).await.map(drop)
}

#[cfg(test)]
mod tests;
