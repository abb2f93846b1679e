//! A look into a queue: `basic.get` without an acknowledgment, on a connection of its own.
//!
//! What a channel holds goes back to its queue when the channel closes, however it ends. While a look lasts its
//! messages are hidden from all others, and two looks at a time would each show a part and call it the whole. So
//! a look holds a lock: an exclusive queue, which the broker removes with the look's connection.
//!
//! Whoever finds the lock taken is told by an error that closes the channel, and lapin 4.12 never uses the
//! number of such a channel again: after 2047 of them a connection is of no use. So a look has one of its own.

use std::time::Duration;

use async_trait::async_trait;
use backoff::Backoff;
use lapin::{
    Acker, Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{
    connection::{Link, Session},
    fault::{Fault, say_goodbye, short, within},
    wire::to_message,
};
use crate::{Cursor, LookError, Message};

/// How many messages are ready in a queue: all but those that somebody works on, or looks at. A queue that this
/// client declares is declared again, so that asking for it closes no channel; any other has to be there.
pub(super) async fn waiting(link: &Link, queue: &str) -> Result<u32, LookError> {
    let session = link.session_in_time().await.map_err(LookError::Broken)?;
    let count = async {
        let channel = session.channel().await?;
        let count = match link.declared(queue) {
            Some(declared) => session.declare_queue(&channel, declared).await?,
            None => {
                let passive = QueueDeclareOptions { passive: true, ..Default::default() };
                let declare = channel.queue_declare(short(queue)?, passive, FieldTable::default());
                within(link.limit(), "queue.declare", declare).await?.message_count()
            }
        };
        say_goodbye(&channel).await;
        Ok(count)
    };
    count.await.map_err(|fault| look_error(&fault, queue))
}

/// A cursor over what waits in a queue. `tasks` waits for one that was dropped.
pub(super) async fn browse(
    link: &Link,
    queue: &str,
    tasks: &TaskTracker,
) -> Result<Box<dyn Cursor>, LookError> {
    let look = Look::begin(link, queue).await?;
    Ok(Box::new(AmqpCursor { look: Some(look), left: None, given: None, tasks: tasks.clone() }))
}

struct AmqpCursor {
    /// `None` once it is closed.
    look: Option<Look>,
    /// How many are still to come; `None` before the first.
    left: Option<u32>,
    /// The message that was given last and is not removed.
    given: Option<Acker>,
    tasks: TaskTracker,
}

#[async_trait]
impl Cursor for AmqpCursor {
    async fn next(&mut self) -> Result<Option<Message>, LookError> {
        let Some(look) = self.look.as_mut().filter(|_| self.left != Some(0)) else { return Ok(None) };
        let get = look.channel.basic_get(look.queue.clone(), BasicGetOptions::default());
        let Some(got) = look.ask("basic.get", get).await? else {
            self.left = Some(0);
            return Ok(None);
        };
        // The broker says how many remain, and may be wrong by what came meanwhile: the first word counts.
        self.left = Some(self.left.map_or(got.message_count, |left| left.saturating_sub(1)));
        let delivery = got.delivery;
        look.held += 1;
        self.given = Some(delivery.acker);
        Ok(Some(to_message(&delivery.properties, delivery.data)))
    }

    fn left(&self) -> u32 {
        self.left.unwrap_or(0)
    }

    async fn remove(&mut self) -> Result<(), LookError> {
        let (Some(look), Some(acker)) = (&mut self.look, self.given.take()) else { return Ok(()) };
        match look.ask("basic.ack", acker.ack(BasicAckOptions::default())).await? {
            true => {
                look.held -= 1;
                Ok(())
            }
            false => Err(LookError::Broken("the channel is gone".into())),
        }
    }

    async fn close(&mut self) -> Result<(), LookError> {
        let Some(look) = self.look.take() else { return Ok(()) };
        let given_back = look.give_back().await;
        // The answer means that the broker has read all that was said on the channel before, removals included.
        let closed = look.ask("channel.close", look.channel.close(200, "done".into())).await;
        look.session.close().await;
        given_back.and(closed)
    }
}

impl Drop for AmqpCursor {
    fn drop(&mut self) {
        if let Some(look) = self.look.take() {
            self.tasks.spawn(async move {
                let _ = look.give_back().await;
                look.session.close().await;
            });
        }
    }
}

/// A channel that has the lock of a queue, on a connection of its own.
struct Look {
    session: Session,
    channel: Channel,
    limit: Duration,
    queue: ShortString,
    /// How many messages the channel holds.
    held: u32,
}

impl Look {
    /// Waits for the broker, and then for those who look already, each for the operation time-out.
    async fn begin(link: &Link, queue: &str) -> Result<Self, LookError> {
        let limit = link.limit();
        link.session_in_time().await.map_err(LookError::Broken)?;
        let failed = |fault: Fault| look_error(&fault, queue);
        let session = link.dial_another("looking").await.map_err(failed)?;
        let mut is_taken = false;
        let take_turns = async {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
            loop {
                match lock(&session, queue, limit).await {
                    // Somebody has it, or gives it up just now.
                    Err(fault) if fault.to_string().contains("RESOURCE_LOCKED") => is_taken = true,
                    decided => return decided,
                }
                backoff.wait().await;
            }
        };
        let refused = match timeout(limit, take_turns).await {
            Ok(Ok(channel)) => {
                return Ok(Self { session, channel, limit, queue: short(queue).map_err(failed)?, held: 0 });
            }
            Ok(Err(fault)) => failed(fault),
            Err(_) if is_taken => LookError::Busy(queue.into()),
            Err(_) => LookError::Broken(format!("the broker does not answer within {limit:?}")),
        };
        session.close().await;
        Err(refused)
    }

    /// Asks the broker, within the time-out.
    async fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, LookError> {
        within(self.limit, what, request).await.map_err(|fault| look_error(&fault, self.queue.as_str()))
    }

    /// Gives everything back before the lock is: the close of the channel would do both at once, and who looks
    /// next could come first. Since RabbitMQ 4.3 this way also counts as no delivery.
    async fn give_back(&self) -> Result<(), LookError> {
        // Tag 0 means all that are held; where none are, the broker would close the channel with an error.
        match self.held {
            0 => Ok(()),
            _ => {
                let options = BasicNackOptions { multiple: true, requeue: true };
                self.ask("basic.nack", self.channel.basic_nack(0, options)).await
            }
        }
    }
}

/// A channel of a connection that has the lock, if nobody else has.
async fn lock(session: &Session, queue: &str, limit: Duration) -> Result<Channel, Fault> {
    let (name, channel) = (short(&format!("{queue}.look"))?, session.channel().await?);
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let declare = channel.queue_declare(name, options, FieldTable::default());
    within(limit, "queue.declare", declare).await?;
    Ok(channel)
}

fn look_error(fault: &Fault, queue: &str) -> LookError {
    match fault.to_string() {
        why if why.contains("NOT_FOUND - no queue") => LookError::Missing(queue.into()),
        why => LookError::Broken(why),
    }
}
