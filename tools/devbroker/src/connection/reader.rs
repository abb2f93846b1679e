//! What a client says: frames off the socket, as inputs to the engine.

use std::sync::Arc;

use amq_protocol::protocol::connection;
use bytes::{Buf, BytesMut};
use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf, time::timeout};

use super::{
    Client,
    assembly::{Assembly, begins_publish},
};
use crate::{
    core::{Input, method::Say as _},
    engine::Command,
    wire,
};

/// How much is read at a time.
const READ: usize = 64 * 1024;
/// The unit of the inputs' memory.
const KIB: usize = 1024;
/// Memory of inputs that wait for the engine, in KiB, for all connections.
pub(crate) const INPUT_KIB: usize = 64 * 1024;

impl Client {
    /// Reads until the client is gone, or silent for too long. What makes no sense the engine answers, which takes
    /// no notice of what follows, but for the answer to its `connection.close`.
    pub(super) async fn read(&self, socket: &mut OwnedReadHalf, mut buffer: BytesMut) {
        let mut assembly = Assembly::new(self.shared.max_message);
        let mut paused = self.shared.switches.paused.subscribe();
        let mut was_wrong = false;
        loop {
            let Some(is_wrong) = self.take_frames(&mut buffer, &mut assembly).await else { return };
            was_wrong |= is_wrong;
            if paused.wait_for(|paused| !paused).await.is_err() {
                return;
            }
            buffer.reserve(READ);
            let reading = socket.read_buf(&mut buffer);
            let received = match self.agreed.heartbeat {
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
            if was_wrong {
                // It says no more, and may still hear why: the writer sees to the end.
                let ok = Input::Method(0, connection::CloseOk {}.class());
                self.hand_in(&mut vec![ok]).await;
                std::future::pending::<()>().await;
            }
            return;
        }
    }

    /// Takes all whole frames; `true` if one of them was none, `None` if there is no engine any more.
    async fn take_frames(&self, buffer: &mut BytesMut, assembly: &mut Assembly) -> Option<bool> {
        let mut inputs = vec![];
        let mut is_wrong = false;
        loop {
            let wrong = match wire::take_frame(buffer, self.agreed.frame_max) {
                Ok(None) => break,
                Ok(Some((length, frame))) => {
                    buffer.advance(length);
                    if begins_publish(&frame) && *self.shared.switches.alarm.borrow() {
                        self.hand_in(&mut inputs).await?;
                        self.wait_for_end_of_alarm().await;
                    }
                    assembly.take(frame, &mut inputs)
                }
                Err(wrong) => {
                    buffer.clear();
                    Err(wrong)
                }
            };
            if let Err((refusal, about)) = wrong {
                inputs.push(Input::Wrong(0, refusal, about));
                is_wrong = true;
            }
        }
        self.hand_in(&mut inputs).await?;
        Some(is_wrong)
    }

    /// Gives the engine what was read, as soon as there is memory for it.
    async fn hand_in(&self, inputs: &mut Vec<Input>) -> Option<()> {
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

    /// RabbitMQ tells a publisher of an alarm when it publishes, and reads nothing more from it until it is over
    /// (<https://www.rabbitmq.com/docs/connection-blocked>). Connections that only consume do not notice.
    async fn wait_for_end_of_alarm(&self) {
        if self.is_blockable {
            self.outbox.say(connection::Blocked { reason: "low on memory".into() });
        }
        // An error means that the broker stops.
        let _ = self.shared.switches.alarm.subscribe().wait_for(|alarm| !alarm).await;
        if self.is_blockable {
            self.outbox.say(connection::Unblocked {});
        }
    }
}
