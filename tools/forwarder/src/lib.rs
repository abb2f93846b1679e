//! Forwards the TCP connections of one port to replicas, in turn.
//!
//! It forwards bytes, and knows no protocol. A new connection goes to the next replica that accepts it; an open connection
//! stays with its replica, even if the list of replicas changes. `cargo hops` sets the list; the binary of this crate
//! takes it from the name server.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Time limit for one replica to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that a connection waits while no replica accepts it, in which a replica can restart.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(3);
/// Delay after all replicas have refused a connection, or the listener has failed to accept one.
const RETRY_DELAY: Duration = Duration::from_millis(50);

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

/// Forwards the connections of `listener` until `stop` is cancelled. Then waits up to `close_timeout` for open connections
/// to close.
pub async fn forward(
    listener: TcpListener,
    replicas: Arc<Replicas>,
    close_timeout: Duration,
    stop: CancellationToken,
) {
    let mut open = JoinSet::new();
    let accepting = async {
        loop {
            while open.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((client, _)) => drop(open.spawn(forward_one(client, Arc::clone(&replicas)))),
                // Mostly because too many files are open, until clients disconnect.
                Err(_) => sleep(RETRY_DELAY).await,
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    let _ = timeout(close_timeout, async { while open.join_next().await.is_some() {} }).await;
}

/// Forwards one connection in both directions, including the end of each.
async fn forward_one(mut client: TcpStream, replicas: Arc<Replicas>) {
    let Ok(mut replica) = replicas.connect().await else { return };
    let _ = (client.set_nodelay(true), replica.set_nodelay(true));
    let _ = copy_bidirectional(&mut client, &mut replica).await;
}

#[cfg(test)]
mod tests;
