//! Spreads the TCP connections of one port over replicas, in turn.
//!
//! It knows bytes and addresses, and no protocol: a connection goes to the replica whose turn it is, a replica
//! that refuses is passed over, and a connection that is open stays where it is, whatever becomes of the list.
//! `cargo hops` sets the list; the binary of this crate asks the name server for it.

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
const CONNECT: Duration = Duration::from_secs(1);
/// Time that a connection waits while no replica accepts it: a replica that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two rounds in which all replicas refused.
const PAUSE: Duration = Duration::from_millis(50);

/// The replicas of one service. Changed at any time, from anywhere.
#[derive(Debug)]
pub struct Replicas {
    addresses: watch::Sender<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { addresses: watch::Sender::new(vec![]), turn: AtomicUsize::default() }
    }
}

impl Replicas {
    /// From now on new connections go to these.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        self.addresses.send_if_modified(|current| {
            let is_new = *current != addresses;
            *current = addresses;
            is_new
        });
    }

    /// All of them, the one whose turn it is first.
    fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.borrow().clone();
        if !addresses.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(turn);
        }
        addresses
    }

    /// A connection to the first that takes it; waits a while where none does.
    async fn connect(&self) -> io::Result<TcpStream> {
        let (deadline, mut changes) = (Instant::now() + PATIENCE, self.addresses.subscribe());
        loop {
            changes.mark_unchanged();
            for address in self.in_turn() {
                if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
                    return Ok(stream);
                }
            }
            let again = async {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = sleep(PAUSE) => {}
                }
            };
            if timeout_at(deadline, again).await.is_err() {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
        }
    }
}

/// Forwards what `listener` accepts until `stop`; then open connections have `finish` to come to their end.
pub async fn forward(
    listener: TcpListener,
    replicas: Arc<Replicas>,
    finish: Duration,
    stop: CancellationToken,
) {
    let mut open = JoinSet::new();
    let accepting = async {
        loop {
            while open.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((client, _)) => drop(open.spawn(one(client, Arc::clone(&replicas)))),
                // Mostly: too many open files. It passes when clients go.
                Err(_) => sleep(PAUSE).await,
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    let _ = timeout(finish, async { while open.join_next().await.is_some() {} }).await;
}

/// One connection from its beginning to its end. Where one side closes, the other learns of it.
async fn one(mut client: TcpStream, replicas: Arc<Replicas>) {
    let Ok(mut replica) = replicas.connect().await else { return };
    let _ = (client.set_nodelay(true), replica.set_nodelay(true));
    let _ = copy_bidirectional(&mut client, &mut replica).await;
}

#[cfg(test)]
mod tests;
