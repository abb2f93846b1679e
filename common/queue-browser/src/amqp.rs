//! Browsing over AMQP: `basic.get` without an acknowledgment, on a connection of its own.
//!
//! What a channel holds goes back to its queue when the channel closes, however it ends. Meanwhile its messages are
//! hidden from all others, and two sessions at a time would each show a part and call it the whole. So a session
//! holds a lock: an exclusive queue, which the broker removes with the session's connection.
//!
//! A client that finds the lock taken gets an error that closes the channel, and lapin 4.12 never uses the number of
//! such a channel again: after 2047 of them a connection is of no use. So a session has a connection of its own.

use std::time::Duration;

use async_trait::async_trait;
use backoff::Backoff;
use lapin::{
    Acker, Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use messaging::{
    Message,
    amqp::{AmqpClient, Fault, Link, Session, close_channel, short, to_message},
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{BrowseError, BrowseSession, QueueBrowser};

#[async_trait]
impl QueueBrowser for AmqpClient {
    async fn browse(&self, queue: &str) -> Result<Box<dyn BrowseSession>, BrowseError> {
        let (lock, tasks) = (Lock::acquire(self.link(), queue).await?, self.tasks().clone());
        Ok(Box::new(AmqpBrowseSession { lock: Some(lock), remaining: None, last: None, tasks }))
    }

    async fn count_ready(&self, queue: &str) -> Result<u32, BrowseError> {
        count_ready(self.link(), queue).await.map_err(|fault| browse_error(fault, queue))
    }
}

/// Counts the messages that are ready in a queue. A queue that this client declares is declared again, so that a
/// missing one closes no channel; any other has to exist.
async fn count_ready(link: &Link, queue: &str) -> Result<u32, Fault> {
    let session = link.session_in_time().await?;
    let channel = session.channel().await?;
    let count = match link.declared(queue) {
        Some(declared) => session.declare_queue(&channel, declared).await?,
        None => {
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let declare = channel.queue_declare(short(queue)?, passive, FieldTable::default());
            session.request("queue.declare", declare).await?.message_count()
        }
    };
    close_channel(&channel).await;
    Ok(count)
}

struct AmqpBrowseSession {
    /// `None` once it is closed.
    lock: Option<Lock>,
    /// How many messages are still to come; `None` before the first.
    remaining: Option<u32>,
    /// The message that was returned last and is not removed.
    last: Option<Acker>,
    tasks: TaskTracker,
}

#[async_trait]
impl BrowseSession for AmqpBrowseSession {
    async fn next(&mut self) -> Result<Option<Message>, BrowseError> {
        let Some(lock) = self.lock.as_mut().filter(|_| self.remaining != Some(0)) else { return Ok(None) };
        let get = lock.channel.basic_get(lock.queue.clone(), BasicGetOptions::default());
        let Some(got) = lock.request("basic.get", get).await? else {
            self.remaining = Some(0);
            return Ok(None);
        };
        // The broker's later counts include what arrived meanwhile, so only the first one is used.
        self.remaining = Some(self.remaining.map_or(got.message_count, |count| count.saturating_sub(1)));
        let delivery = got.delivery;
        lock.held += 1;
        self.last = Some(delivery.acker);
        Ok(Some(to_message(&delivery.properties, delivery.data)))
    }

    fn remaining(&self) -> u32 {
        self.remaining.unwrap_or(0)
    }

    async fn remove(&mut self) -> Result<(), BrowseError> {
        let (Some(lock), Some(acker)) = (&mut self.lock, self.last.take()) else { return Ok(()) };
        match lock.request("basic.ack", acker.ack(BasicAckOptions::default())).await? {
            true => {
                lock.held -= 1;
                Ok(())
            }
            false => Err(BrowseError::Unavailable("the channel is closed".into())),
        }
    }

    async fn close(&mut self) -> Result<(), BrowseError> {
        let Some(lock) = self.lock.take() else { return Ok(()) };
        let requeued = lock.requeue().await;
        // The broker has read all earlier requests on this channel when it answers, removals included.
        let closed = lock.request("channel.close", lock.channel.close(200, "done".into())).await;
        lock.session.close().await;
        requeued.and(closed)
    }
}

impl Drop for AmqpBrowseSession {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.tasks.spawn(async move {
                let _ = lock.requeue().await;
                lock.session.close().await;
            });
        }
    }
}

/// The lock of a queue, with the channel and the connection that hold it.
struct Lock {
    session: Session,
    channel: Channel,
    queue: ShortString,
    /// How many messages the channel holds.
    held: u32,
}

impl Lock {
    /// Waits for the broker, and then for others that browse the queue, each for the operation time-out.
    async fn acquire(link: &Link, queue: &str) -> Result<Self, BrowseError> {
        let failed = |fault| browse_error(fault, queue);
        let (name, limit) = (short(queue).map_err(failed)?, link.limit());
        link.session_in_time().await.map_err(failed)?;
        let session = link.dial_another("browsing").await.map_err(failed)?;
        let mut is_taken = false;
        let take_turns = async {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
            loop {
                match declare_lock(&session, queue).await {
                    // Somebody has it, or is just releasing it.
                    Err(Fault::Locked(_)) => is_taken = true,
                    decided => return decided,
                }
                backoff.wait().await;
            }
        };
        let refused = match timeout(limit, take_turns).await {
            Ok(Ok(channel)) => return Ok(Self { session, channel, queue: name, held: 0 }),
            Ok(Err(fault)) => failed(fault),
            Err(_) if is_taken => BrowseError::Busy(queue.into()),
            Err(_) => BrowseError::Unavailable(format!("the broker does not answer within {limit:?}")),
        };
        session.close().await;
        Err(refused)
    }

    /// Sends a request to the broker, within the time-out.
    async fn request<T>(
        &self,
        what: &str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BrowseError> {
        self.session.request(what, request).await.map_err(|fault| browse_error(fault, self.queue.as_str()))
    }

    /// Puts everything back before the lock is released: closing the channel would do both at once, and the next
    /// session could come first. Since RabbitMQ 4.3 this way also counts as no delivery.
    async fn requeue(&self) -> Result<(), BrowseError> {
        // Tag 0 means all that are held; where none are, the broker would close the channel with an error.
        match self.held {
            0 => Ok(()),
            _ => {
                let options = BasicNackOptions { multiple: true, requeue: true };
                self.request("basic.nack", self.channel.basic_nack(0, options)).await
            }
        }
    }
}

/// Returns a channel of a connection that has the lock, unless another has it.
async fn declare_lock(session: &Session, queue: &str) -> Result<Channel, Fault> {
    let (name, channel) = (short(&format!("{queue}.look"))?, session.channel().await?);
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let declare = channel.queue_declare(name, options, FieldTable::default());
    session.request("queue.declare", declare).await?;
    Ok(channel)
}

fn browse_error(fault: Fault, queue: &str) -> BrowseError {
    match fault {
        Fault::NotFound(_) => BrowseError::Missing(queue.into()),
        other => BrowseError::Unavailable(other.to_string()),
    }
}
