//! Reads the frames of a client, and passes them to the engine as inputs.

use std::sync::Arc;

use amq_protocol::protocol::connection;
use bytes::{Buf, BytesMut};
use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf, time::timeout};

use super::{
    Client,
    assembly::{Assembly, begins_publish},
};
use crate::{
    core::{Input, method::ServerMethod as _},
    engine::Command,
    wire,
};

/// Most bytes of one read.
const READ_SIZE: usize = 64 * 1024;
/// Unit in which the memory of inputs is counted.
const KIB: usize = 1024;
/// Memory for inputs that wait for the engine, of all connections together, in KiB.
pub(crate) const INPUT_KIB: usize = 64 * 1024;

impl Client {
    /// Reads until the client disconnects, or misses its heartbeats. The engine answers invalid frames; after that it ignores
    /// what follows, except for the answer to its `connection.close`.
    pub(super) async fn read(&self, socket: &mut OwnedReadHalf, mut buffer: BytesMut) {
        let mut assembly = Assembly::new(self.shared.max_message);
        let mut paused = self.shared.switches.paused.subscribe();
        let mut was_invalid = false;
        loop {
            let Some(is_invalid) = self.take_frames(&mut buffer, &mut assembly).await else { return };
            was_invalid |= is_invalid;
            if paused.wait_for(|paused| !paused).await.is_err() {
                return;
            }
            buffer.reserve(READ_SIZE);
            let reading = socket.read_buf(&mut buffer);
            let received = match self.negotiated.heartbeat {
                Some(heartbeat) => match timeout(heartbeat * 2, reading).await {
                    Ok(received) => received,
                    Err(_) if *paused.borrow() => continue,
                    Err(_) => return,
                },
                None => reading.await,
            };
            if matches!(received, Ok(1..)) {
                continue;
            }
            if was_invalid {
                // The client has closed its half and may still read our error: the writer ends the connection.
                let ok = Input::Method(0, connection::CloseOk {}.class());
                self.send_inputs(&mut vec![ok]).await;
                std::future::pending::<()>().await;
            }
            return;
        }
    }

    /// Takes all complete frames. Returns whether one of them was invalid; `None` if the engine has ended.
    async fn take_frames(&self, buffer: &mut BytesMut, assembly: &mut Assembly) -> Option<bool> {
        let mut inputs = vec![];
        let mut is_invalid = false;
        loop {
            let wrong = match wire::take_frame(buffer, self.negotiated.frame_max) {
                Ok(None) => break,
                Ok(Some((length, frame))) => {
                    buffer.advance(length);
                    if begins_publish(&frame) && *self.shared.switches.alarm.borrow() {
                        self.send_inputs(&mut inputs).await?;
                        self.wait_for_end_of_alarm().await;
                    }
                    assembly.take(frame, &mut inputs)
                }
                Err(wrong) => {
                    buffer.clear();
                    Err(wrong)
                }
            };
            if let Err((error, about)) = wrong {
                inputs.push(Input::Invalid(0, error, about));
                is_invalid = true;
            }
        }
        self.send_inputs(&mut inputs).await?;
        Some(is_invalid)
    }

    /// Passes inputs to the engine as soon as there is memory for them.
    async fn send_inputs(&self, inputs: &mut Vec<Input>) -> Option<()> {
        if inputs.is_empty() {
            return Some(());
        }
        let size = |input: &Input| match input {
            Input::Publish(_, publication) => KIB + publication.body.len(),
            _ => KIB,
        };
        let kib = (inputs.iter().map(size).sum::<usize>() / KIB).min(INPUT_KIB);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.shared.inputs).acquire_many_owned(permits).await.ok()?;
        let command = Command::Inputs(self.id, std::mem::take(inputs), memory);
        self.shared.commands.send(command).await.ok()
    }

    /// Blocks a publisher as RabbitMQ does: it is notified when it publishes, and nothing more is read from it during the alarm
    /// (<https://www.rabbitmq.com/docs/connection-blocked>). Connections that only consume are not affected.
    async fn wait_for_end_of_alarm(&self) {
        if self.is_blockable {
            self.send_buffer.push_method(connection::Blocked { reason: "low on memory".into() });
        }
        // It only fails when the broker stops.
        let _ = self.shared.switches.alarm.subscribe().wait_for(|alarm| !alarm).await;
        if self.is_blockable {
            self.send_buffer.push_method(connection::Unblocked {});
        }
    }
}
