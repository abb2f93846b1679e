//! One task per client: the handshake, then frames in and frames out until one of both says goodbye.
//! <https://www.rabbitmq.com/docs/connections>
//!
//! It knows the wire and no queue. It puts publishes together (method, header, body), keeps the bounds of the wire, and
//! does what needs a clock and a socket: heartbeats, and not reading while there is an alarm.

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

use self::handshake::Agreed;
use crate::{
    core::{ConnectionId, Peer},
    engine::{Command, Switches},
    outbox::Outbox,
};

/// The handshake has to be over by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long what we said last may be on its way.
const LINGER: Duration = Duration::from_secs(1);

/// What every connection of a broker shares.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) switches: Switches,
    pub(crate) inputs: Arc<Semaphore>,
    pub(crate) node: Arc<str>,
    pub(crate) heartbeat: u16,
    pub(crate) max_message: u64,
}

/// A client that has logged in.
#[derive(Debug)]
struct Client {
    id: ConnectionId,
    agreed: Agreed,
    /// Whether it wants to hear of alarms.
    is_blockable: bool,
    outbox: Arc<Outbox>,
    shared: Shared,
}

/// Serves one client until it is gone.
pub(crate) async fn serve(socket: TcpStream, shared: Shared) {
    // Without it each small answer waits for the acknowledgment of the one before.
    let _ = socket.set_nodelay(true);
    let address = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let mut paused = shared.switches.paused.subscribe();
    if paused.wait_for(|paused| !paused).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = socket.into_split();
    let mut buffer = BytesMut::new();
    let greeted = timeout(
        HANDSHAKE,
        handshake::greet(&mut reader, &mut writer, &mut buffer, &shared.node, shared.heartbeat),
    )
    .await;
    let Ok(Some((peer, agreed))) = greeted else { return linger(reader, writer).await };
    let connected = connect(Peer { address, ..peer }, agreed, &mut writer, &shared).await;
    let Some(client) = connected else { return linger(reader, writer).await };
    let mut goodbye = false;
    tokio::select! {
        () = client.read(&mut reader, buffer) => {}
        said = client.write(&mut writer) => goodbye = said,
        () = client.outbox.dropped.cancelled() => {}
    }
    // It may wait for room in the engine's queue: the engine never waits for us.
    let _ = shared.commands.send(Command::Disconnect(client.id)).await;
    if goodbye {
        linger(reader, writer).await;
    }
}

/// The end of the handshake is the engine's.
async fn connect(peer: Peer, agreed: Agreed, writer: &mut OwnedWriteHalf, shared: &Shared) -> Option<Client> {
    let is_blockable = peer.is_capable("connection.blocked");
    let outbox = Arc::new(Outbox::default());
    let (answer, answered) = oneshot::channel();
    shared.commands.send(Command::Connect(peer, Arc::clone(&outbox), answer)).await.ok()?;
    match answered.await.ok()? {
        Ok(id) => {
            let client = Client { id, agreed, is_blockable, outbox, shared: shared.clone() };
            handshake::say(writer, connection::OpenOk {}).await.map(|()| client)
        }
        Err(refusal) => handshake::refuse(writer, &refusal, (10, 40)).await,
    }
}

/// Says that nothing follows, and reads what is still coming, so that what was said last is not lost with a reset.
async fn linger(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) {
    let _ = timeout(LINGER, async {
        writer.shutdown().await?;
        let mut rest = [0; 4096];
        while reader.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
