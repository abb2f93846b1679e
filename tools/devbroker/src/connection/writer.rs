//! Writes the frames that the engine hands out, and heartbeats when there are none.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, connection};
use tokio::{
    io::AsyncWriteExt,
    net::tcp::OwnedWriteHalf,
    time::{Instant, sleep_until},
};

use super::Client;
use crate::{core::Outgoing, engine::Command, wire};

/// Time limit for a client to answer our `connection.close`.
const CLOSE_OK_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are encoded before they are written.
const WRITE_SIZE: usize = 64 * 1024;

impl Client {
    /// Writes until the connection ends. Returns whether our last frame still has to reach the client.
    pub(super) async fn write(&self, socket: &mut OwnedWriteHalf) -> bool {
        let mut paused = self.shared.switches.paused.subscribe();
        let mut buffer = Vec::new();
        let mut give_up: Option<Instant> = None;
        let mut last = Instant::now();
        loop {
            let beat = self.negotiated.heartbeat.map(|heartbeat| last + heartbeat / 2);
            let next = [beat, give_up].into_iter().flatten().min();
            let nothing_to_write = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.send_buffer.ready.notified() => {}
                () = nothing_to_write => {}
            }
            if give_up.is_some_and(|at| at <= Instant::now()) {
                return true;
            }
            if paused.wait_for(|paused| !paused).await.is_err() {
                return false;
            }
            let frames = self.send_buffer.take();
            if frames.is_empty() && beat.is_some_and(|beat| beat <= Instant::now()) {
                wire::encode_heartbeat(&mut buffer);
            }
            let is_end = frames.contains(&Outgoing::Shutdown);
            if frames.iter().any(is_close) {
                give_up = Some(Instant::now() + CLOSE_OK_TIMEOUT);
            }
            let mut cost = 0;
            for out in frames {
                cost += out.cost();
                wire::encode(&out, self.negotiated.frame_max, &mut buffer);
                if buffer.len() >= WRITE_SIZE && !self.flush(socket, &mut buffer, &mut cost).await {
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

    /// Writes the buffer. Returns `false` if the client has disconnected or the engine has ended.
    async fn flush(&self, socket: &mut OwnedWriteHalf, buffer: &mut Vec<u8>, cost: &mut usize) -> bool {
        if socket.write_all(buffer).await.is_err() {
            return false;
        }
        buffer.clear();
        // Gives back the memory of a large message.
        buffer.shrink_to(2 * WRITE_SIZE);
        if self.send_buffer.written(std::mem::take(cost)) {
            return self.shared.commands.send(Command::Drained(self.id)).await.is_ok();
        }
        true
    }
}

fn is_close(out: &Outgoing) -> bool {
    matches!(out, Outgoing::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))))
}
