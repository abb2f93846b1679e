//! What a client hears: frames onto the socket as the engine hands them out, and heartbeats when there are none.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, connection};
use tokio::{
    io::AsyncWriteExt,
    net::tcp::OwnedWriteHalf,
    time::{Instant, sleep_until},
};

use super::Client;
use crate::{core::Out, engine::Command, wire};

/// How long a client has for the answer to our `connection.close`.
const CLOSE_OK: Duration = Duration::from_secs(5);
/// How much is encoded before it is written.
const WRITE: usize = 64 * 1024;

impl Client {
    /// Writes until the end is said; `true` then, since it has to arrive.
    pub(super) async fn write(&self, socket: &mut OwnedWriteHalf) -> bool {
        let mut paused = self.shared.switches.paused.subscribe();
        let mut buffer = Vec::new();
        let mut give_up: Option<Instant> = None;
        let mut last = Instant::now();
        loop {
            let beat = self.agreed.heartbeat.map(|heartbeat| last + heartbeat / 2);
            let next = [beat, give_up].into_iter().flatten().min();
            let nothing_to_write = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.outbox.ready.notified() => {}
                () = nothing_to_write => {}
            }
            if give_up.is_some_and(|at| at <= Instant::now()) {
                return true;
            }
            if paused.wait_for(|paused| !paused).await.is_err() {
                return false;
            }
            let outs = self.outbox.take();
            if outs.is_empty() && beat.is_some_and(|beat| beat <= Instant::now()) {
                wire::encode_heartbeat(&mut buffer);
            }
            let is_end = outs.contains(&Out::Hangup);
            if outs.iter().any(is_close) {
                give_up = Some(Instant::now() + CLOSE_OK);
            }
            let mut cost = 0;
            for out in outs {
                cost += out.cost();
                wire::encode(&out, self.agreed.frame_max, &mut buffer);
                if buffer.len() >= WRITE && !self.flush(socket, &mut buffer, &mut cost).await {
                    return false;
                }
            }
            if !buffer.is_empty() || cost > 0 {
                last = Instant::now();
            }
            if !self.flush(socket, &mut buffer, &mut cost).await {
                return false;
            }
            if is_end {
                return true;
            }
        }
    }

    /// `false` if nobody is there to read it, or to be told of it.
    async fn flush(&self, socket: &mut OwnedWriteHalf, buffer: &mut Vec<u8>, cost: &mut usize) -> bool {
        if socket.write_all(buffer).await.is_err() {
            return false;
        }
        buffer.clear();
        // A large message need not cost its memory for ever.
        buffer.shrink_to(2 * WRITE);
        if self.outbox.written(std::mem::take(cost)) {
            return self.shared.commands.send(Command::Drained(self.id)).await.is_ok();
        }
        true
    }
}

fn is_close(out: &Out) -> bool {
    matches!(out, Out::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))))
}
