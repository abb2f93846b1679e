//! One connection to the broker, from its handshake to its loss, and what is asked on it.
//!
//! Every request has a time limit, since a broker in trouble answers late or not at all.

use std::time::Duration;

use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    dial::SocketGuard,
    fault::{CLOSE_TIMEOUT, Fault, close_channel, short, within},
};
use crate::topology::{Argument, Queue, Topology};

/// One connection, from its handshake to its loss.
#[derive(Debug)]
pub struct Session {
    pub(super) connection: Connection,
    limit: Duration,
    /// Cancelled when the connection is lost or closed.
    pub(super) lost: CancellationToken,
    blocked: watch::Sender<bool>,
    socket: SocketGuard,
}

impl Session {
    pub(super) fn new(connection: Connection, socket: SocketGuard, limit: Duration) -> Self {
        let (lost, blocked) = (CancellationToken::new(), watch::Sender::new(false));
        Self { connection, limit, lost, blocked, socket }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`Fault`], as of [`request`](Self::request).
    pub async fn channel(&self) -> Result<Channel, Fault> {
        let create = async {
            let created = self.connection.create_channel().await;
            // lapin never reuses the number of a channel that the broker has closed. When all are used up, the
            // connection is closed, and the next one has them all.
            if created.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::ChannelsLimitReached)) {
                self.close().await;
            }
            created
        };
        self.request("channel.open", create).await
    }

    /// Runs a request to the broker within the operation time-out. `what` names it in the error.
    ///
    /// # Errors
    /// [`Fault`]: the broker's refusal, or no answer in time.
    pub async fn request<T>(
        &self,
        what: &str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Fault> {
        within(self.limit, what, request).await
    }

    /// Waits for `work` unless the connection is lost, before or meanwhile: then it returns `None`.
    pub async fn while_up<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.lost.run_until_cancelled(work).await
    }

    /// Closes the connection, and shuts its socket down whether or not the broker answers.
    pub async fn close(&self) {
        let _ = within(CLOSE_TIMEOUT, "connection.close", self.connection.close(200, "done".into())).await;
        self.socket.shutdown();
    }

    /// Records whether the broker takes messages; returns what was recorded before.
    pub(super) fn set_blocked(&self, blocked: bool) -> bool {
        self.blocked.send_replace(blocked)
    }

    /// Waits until the broker takes messages, or the connection is lost.
    pub(super) async fn unblocked(&self) {
        let mut blocked = self.blocked.subscribe();
        let _ = self.while_up(blocked.wait_for(|blocked| !blocked)).await;
    }

    /// Declares exchanges and queues. Those that exist as declared stay as they are.
    pub(super) async fn declare(&self, topology: &Topology) -> Result<(), Fault> {
        let channel = self.channel().await?;
        for name in &topology.exchanges {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let declare =
                channel.exchange_declare(short(name)?, ExchangeKind::Topic, options, FieldTable::default());
            let declared = self.request(&format!("declare of exchange {name}"), declare).await;
            declared.map_err(Fault::of_declaration)?;
        }
        for queue in &topology.queues {
            self.declare_queue(&channel, queue).await?;
        }
        close_channel(&channel).await;
        Ok(())
    }

    /// Declares a queue; returns how many messages are ready in it.
    ///
    /// # Errors
    /// [`Fault::Refused`] if the queue exists with other arguments; otherwise as of [`request`](Self::request).
    pub async fn declare_queue(&self, channel: &Channel, queue: &Queue) -> Result<u32, Fault> {
        let Queue { name, arguments } = queue;
        let mut table = FieldTable::default();
        for (argument, value) in arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Argument::Number(number) => AMQPValue::LongLongInt(*number),
            };
            table.insert((*argument).into(), value);
        }
        let declare = channel.queue_declare(short(name)?, QueueDeclareOptions::durable(), table);
        let declared = self.request(&format!("declare of queue {name}"), declare).await;
        Ok(declared.map_err(Fault::of_declaration)?.message_count())
    }
}
