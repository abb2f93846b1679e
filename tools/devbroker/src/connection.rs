//! One task per client: the handshake, then frames in and frames out until one of both says goodbye.
//! <https://www.rabbitmq.com/docs/connections>
//!
//! It knows the wire and no queue. It puts publishes together (method, header, body), keeps the bounds of the wire, and
//! does what needs a clock and a socket: heartbeats, and not reading while there is an alarm.

mod handshake;
mod assembly;

use std::{sync::Arc, time::Duration};

use amq_protocol::protocol::{AMQPClass, connection};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use self::assembly::Assembly;
use crate::{
    core::{ConnectionId, Input, Out, Peer},
    engine::{Command, Switches},
    outbox::Outbox,
    wire,
};

/// The handshake has to be over by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client has for the answer to our `connection.close`.
const CLOSE_OK: Duration = Duration::from_secs(5);
/// How long what we said last may be on its way.
const LINGER: Duration = Duration::from_secs(1);
/// How much is encoded before it is written.
const WRITE: usize = 64 * 1024;
/// How much is read at a time.
const READ: usize = 64 * 1024;
/// The unit of the inputs' memory.
const KIB: usize = 1024;
/// Memory of inputs that wait for the engine, in KiB, for all connections.
pub(crate) const INPUT_KIB: usize = 64 * 1024;

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

/// What was agreed on.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    channel_max: u16,
    frame_max: u32,
    heartbeat: Option<Duration>,
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
    let greeted = timeout(HANDSHAKE, handshake::greet(&mut reader, &mut writer, &mut buffer, &shared)).await;
    let Ok(Some((mut peer, agreed))) = greeted else {
        return linger(reader, writer).await;
    };
    peer.address = address;
    let blockable = peer.is_capable("connection.blocked");
    let outbox = Arc::new(Outbox::default());
    let Some(id) = connect(peer, &outbox, &mut writer, &shared).await else {
        return linger(reader, writer).await;
    };
    let mut goodbye = false;
    let reading = read(&mut reader, buffer, id, agreed, &shared, &outbox, blockable);
    let writing = write(&mut writer, id, agreed, &shared, &outbox);
    tokio::select! {
        () = reading => {}
        said = writing => goodbye = said,
        () = outbox.dropped.cancelled() => {}
    }
    // It may wait for room in the engine's queue: the engine never waits for us.
    let _ = shared.commands.send(Command::Disconnect(id)).await;
    if goodbye {
        linger(reader, writer).await;
    }
}

async fn connect(
    peer: Peer,
    outbox: &Arc<Outbox>,
    writer: &mut OwnedWriteHalf,
    shared: &Shared,
) -> Option<ConnectionId> {
    let (answer, answered) = oneshot::channel();
    shared.commands.send(Command::Connect(peer, Arc::clone(outbox), answer)).await.ok()?;
    let mut buffer = vec![];
    let connected = match answered.await.ok()? {
        Ok(id) => {
            let ok = connection::AMQPMethod::OpenOk(connection::OpenOk {});
            wire::encode_method(AMQPClass::Connection(ok), &mut buffer);
            Some(id)
        }
        Err(refusal) => {
            handshake::encode_close(&refusal, (10, 40), &mut buffer);
            None
        }
    };
    writer.write_all(&buffer).await.ok()?;
    connected
}

/// Reads until the client is gone, silent for too long, or makes no sense any more (which the engine then answers).
async fn read(
    reader: &mut OwnedReadHalf,
    mut buffer: BytesMut,
    id: ConnectionId,
    agreed: Agreed,
    shared: &Shared,
    outbox: &Outbox,
    blockable: bool,
) {
    let mut assembly = Assembly::new(shared.max_message);
    let (mut alarm, mut paused) = (shared.switches.alarm.subscribe(), shared.switches.paused.subscribe());
    // Said of the connection once, whatever becomes of it.
    let mut deaf = false;
    loop {
        let mut inputs = vec![];
        let mut size = 0;
        while !deaf {
            match wire::take_frame(&buffer, agreed.frame_max) {
                Ok(None) => break,
                Ok(Some((length, frame))) => {
                    buffer.advance(length);
                    size += length;
                    if assembly::begins_publish(&frame) && *alarm.borrow() {
                        if !hand_in(id, &mut inputs, &mut size, shared).await {
                            return;
                        }
                        wait_for_end_of_alarm(&mut alarm, outbox, blockable).await;
                    }
                    let wrong = assembly.take(frame, &mut inputs);
                    deaf = wrong;
                }
                Err((refusal, about)) => {
                    inputs.push(Input::Wrong(0, refusal, about));
                    deaf = true;
                }
            }
            size += assembly.take_size();
        }
        if !hand_in(id, &mut inputs, &mut size, shared).await {
            return;
        }
        if deaf {
            // Only the answer to our close counts now; the writer sees to the end.
            if assembly.is_close_ok(&mut buffer, agreed.frame_max) {
                return close_ok(id, shared).await;
            }
        }
        if paused.wait_for(|paused| !paused).await.is_err() {
            return;
        }
        buffer.reserve(READ);
        let received = match agreed.heartbeat {
            Some(heartbeat) => match timeout(heartbeat * 2, reader.read_buf(&mut buffer)).await {
                Ok(received) => received,
                Err(_) if *paused.borrow() => continue,
                Err(_) => return,
            },
            None => reader.read_buf(&mut buffer).await,
        };
        if !matches!(received, Ok(1..)) {
            if deaf {
                // It says no more, and may still hear why.
                close_ok(id, shared).await;
            }
            return;
        }
    }
}

/// The answer to our close is there, or will never come: the writer says the rest, and ends.
async fn close_ok(id: ConnectionId, shared: &Shared) {
    let ok = AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
    hand_in(id, &mut vec![Input::Method(0, ok)], &mut 1, shared).await;
    std::future::pending().await
}

/// Gives the engine what was read, as soon as there is memory for it.
async fn hand_in(id: ConnectionId, inputs: &mut Vec<Input>, size: &mut usize, shared: &Shared) -> bool {
    if inputs.is_empty() {
        return true;
    }
    let kib = (std::mem::take(size) / KIB + 1).min(INPUT_KIB);
    let permits = u32::try_from(kib).unwrap_or(u32::MAX);
    let Ok(memory) = Arc::clone(&shared.inputs).acquire_many_owned(permits).await else { return false };
    shared.commands.send(Command::Inputs(id, std::mem::take(inputs), memory)).await.is_ok()
}

/// RabbitMQ tells a publisher of an alarm when it publishes, and reads nothing more from it until it is over
/// (<https://www.rabbitmq.com/docs/connection-blocked>). Connections that only consume do not notice.
async fn wait_for_end_of_alarm(
    alarm: &mut tokio::sync::watch::Receiver<bool>,
    outbox: &Outbox,
    blockable: bool,
) {
    if blockable {
        let blocked = connection::Blocked { reason: "low on memory".into() };
        outbox.say(connection::AMQPMethod::Blocked(blocked));
    }
    // An error means that the broker stops.
    let _ = alarm.wait_for(|alarm| !alarm).await;
    if blockable {
        outbox.say(connection::AMQPMethod::Unblocked(connection::Unblocked {}));
    }
}

/// Writes until the end is said; `true` then, since it has to arrive.
async fn write(
    writer: &mut OwnedWriteHalf,
    id: ConnectionId,
    agreed: Agreed,
    shared: &Shared,
    outbox: &Outbox,
) -> bool {
    let mut paused = shared.switches.paused.subscribe();
    let mut buffer = Vec::new();
    let mut give_up: Option<Instant> = None;
    let mut last = Instant::now();
    loop {
        let beat = agreed.heartbeat.map(|heartbeat| last + heartbeat / 2);
        let next = [beat, give_up].into_iter().flatten().min();
        let nothing_to_write = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = outbox.ready.notified() => {}
            () = nothing_to_write => {}
        }
        if give_up.is_some_and(|at| at <= Instant::now()) {
            return true;
        }
        if paused.wait_for(|paused| !paused).await.is_err() {
            return false;
        }
        let mut end = false;
        let mut cost = 0;
        for out in outbox.take() {
            end |= out == Out::Hangup;
            if is_close(&out) {
                give_up = Some(Instant::now() + CLOSE_OK);
            }
            cost += out.cost();
            wire::encode(&out, agreed.frame_max, &mut buffer);
            if buffer.len() >= WRITE && !flush(writer, &mut buffer, &mut cost, id, shared, outbox).await {
                return false;
            }
        }
        if buffer.is_empty()
            && cost == 0
            && agreed.heartbeat.is_some_and(|beat| last + beat / 2 <= Instant::now())
        {
            wire::encode_heartbeat(&mut buffer);
        }
        if !buffer.is_empty() {
            last = Instant::now();
        }
        if !flush(writer, &mut buffer, &mut cost, id, shared, outbox).await {
            return false;
        }
        if end {
            return true;
        }
    }
}

async fn flush(
    writer: &mut OwnedWriteHalf,
    buffer: &mut Vec<u8>,
    cost: &mut usize,
    id: ConnectionId,
    shared: &Shared,
    outbox: &Outbox,
) -> bool {
    if writer.write_all(buffer).await.is_err() {
        return false;
    }
    buffer.clear();
    // A large message need not cost its memory for ever.
    buffer.shrink_to(2 * WRITE);
    if outbox.written(std::mem::take(cost)) {
        return shared.commands.send(Command::Drained(id)).await.is_ok();
    }
    true
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

fn is_close(out: &Out) -> bool {
    matches!(out, Out::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))))
}
