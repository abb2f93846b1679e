//! The task of a client: the handshake, then reading and writing frames until one side closes the connection.
//! <https://www.rabbitmq.com/docs/connections>
//!
//! It knows nothing of queues. It assembles publishes from their frames (method, header, body), enforces the limits of frames,
//! and does what needs a clock and a socket: heartbeats, and blocking publishers during a memory alarm.

mod handshake;
mod assembly;
pub(crate) mod reader;
mod writer;

use std::{sync::Arc, time::Duration};

use amq_protocol::protocol::connection;
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use self::handshake::Negotiated;
use crate::{
    core::{ConnectionId, Peer},
    engine::{Command, Switches},
    send_buffer::SendBuffer,
};

/// Time limit of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the client to read our last frame before the socket is closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// State that all connections of a broker share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) switches: Switches,
    pub(crate) inputs: Arc<Semaphore>,
    pub(crate) node: Arc<str>,
    pub(crate) heartbeat: u16,
    pub(crate) max_message: u64,
}

/// A client that is logged in.
#[derive(Debug)]
struct Client {
    id: ConnectionId,
    negotiated: Negotiated,
    /// Set if the client wants `connection.blocked`.
    is_blockable: bool,
    send_buffer: Arc<SendBuffer>,
    shared: Shared,
}

/// Serves one client until it disconnects or is disconnected.
pub(crate) async fn serve(socket: TcpStream, shared: Shared) {
    // Without it each small answer waits until the client's TCP has acknowledged the one before.
    let _ = socket.set_nodelay(true);
    let address = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let mut paused = shared.switches.paused.subscribe();
    if paused.wait_for(|paused| !paused).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = socket.into_split();
    let mut buffer = BytesMut::new();
    let greeted = timeout(
        HANDSHAKE_TIMEOUT,
        handshake::negotiate(&mut reader, &mut writer, &mut buffer, &shared.node, shared.heartbeat),
    )
    .await;
    let Ok(Some((peer, negotiated))) = greeted else { return linger(reader, writer).await };
    let connected = connect(Peer { address, ..peer }, negotiated, &mut writer, &shared).await;
    let Some(client) = connected else { return linger(reader, writer).await };
    let mut lingers = false;
    tokio::select! {
        () = client.read(&mut reader, buffer) => {}
        needs_linger = client.write(&mut writer) => lingers = needs_linger,
        () = client.send_buffer.dropped.cancelled() => {}
    }
    // Waiting for room in the engine's queue is safe here: the engine never waits for a connection.
    let _ = shared.commands.send(Command::Disconnect(client.id)).await;
    if lingers {
        linger(reader, writer).await;
    }
}

/// Registers the client with the engine, and answers `connection.open`.
async fn connect(
    peer: Peer,
    negotiated: Negotiated,
    writer: &mut OwnedWriteHalf,
    shared: &Shared,
) -> Option<Client> {
    let is_blockable = peer.has_capability("connection.blocked");
    let send_buffer = Arc::new(SendBuffer::default());
    let (answer, answered) = oneshot::channel();
    shared.commands.send(Command::Connect(peer, Arc::clone(&send_buffer), answer)).await.ok()?;
    match answered.await.ok()? {
        Ok(id) => {
            let client = Client { id, negotiated, is_blockable, send_buffer, shared: shared.clone() };
            handshake::send(writer, connection::OpenOk {}).await.map(|()| client)
        }
        Err(error) => handshake::fail(writer, &error, (10, 40)).await,
    }
}

/// Closes the writing half and reads what still arrives: closing at once would reset the connection, and the client could lose our
/// last frame.
async fn linger(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) {
    let _ = timeout(LINGER_TIMEOUT, async {
        writer.shutdown().await?;
        let mut rest = [0; 4096];
        while reader.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
