//! A look into a queue: `basic.get` without an acknowledgment, on a channel of its own.
//!
//! What a channel holds goes back to its queue when the channel closes, however it ends. While a look lasts its
//! messages are hidden from all others, and two looks at a time would each show a part and call it the whole. So
//! a look holds a lock: a queue of this connection's own with one exclusive consumer, which the broker removes
//! with the channel.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    Acker, Channel, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{
    connection::{Link, Session},
    fault::{Fault, say_goodbye, short, within},
    wire::to_message,
};
use crate::{
    backoff::Backoff,
    messaging::{Cursor, LookError, Message},
};

/// How many messages are ready in a queue, between two looks.
pub(super) async fn waiting(link: &Link, queue: &str) -> Result<u32, LookError> {
    let look = Look::begin(link, queue).await?;
    // A queue that is missing closes the channel: this one has no other use.
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let declare = look.channel.queue_declare(look.queue.clone(), passive, FieldTable::default());
    let count = look.ask("queue.declare", declare).await.map(|queue| queue.message_count());
    say_goodbye(&look.channel).await;
    count
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
        look.give_back().await?;
        // The answer means that the broker has read all that was said on the channel before, removals included.
        look.ask("channel.close", look.channel.close(200, "done".into())).await
    }
}

impl Drop for AmqpCursor {
    fn drop(&mut self) {
        if let Some(look) = self.look.take() {
            self.tasks.spawn(async move {
                let _ = look.give_back().await;
                say_goodbye(&look.channel).await;
            });
        }
    }
}

/// A channel that has the lock of a queue.
struct Look {
    session: Arc<Session>,
    channel: Channel,
    limit: Duration,
    queue: ShortString,
    /// The lock; lapin cancels a consumer that is dropped.
    _lock: Consumer,
    /// How many messages the channel holds.
    held: u32,
}

impl Look {
    /// Waits for a connection, and then for those who look already, each for the operation time-out.
    async fn begin(link: &Link, queue: &str) -> Result<Self, LookError> {
        let limit = link.limit();
        let session = link.session_in_time().await.map_err(LookError::Broken)?;
        let take_turns = async {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(300));
            loop {
                match Self::try_begin(&session, queue, limit).await {
                    // Somebody has it, on another connection or on this one, or gives it up just now.
                    Err(fault) if ["exclusive", "no queue"].iter().any(|w| fault.to_string().contains(w)) => {
                        backoff.wait().await;
                    }
                    decided => return decided,
                }
            }
        };
        match timeout(limit, take_turns).await {
            Ok(look) => look.map_err(|fault| LookError::Broken(fault.to_string())),
            Err(_) => Err(LookError::Busy(queue.into())),
        }
    }

    /// A channel with the lock, if nobody has it. An error of the channel before may come up here, too.
    async fn try_begin(session: &Arc<Session>, queue: &str, limit: Duration) -> Result<Self, Fault> {
        let (queue, name) = (short(queue)?, short(&format!("{queue}.look"))?);
        let channel = session.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let declare = channel.queue_declare(name.clone(), options, FieldTable::default());
        within(limit, "queue.declare", declare).await?;
        let options = BasicConsumeOptions { exclusive: true, no_ack: true, ..Default::default() };
        let consume = channel.basic_consume(name, ShortString::default(), options, FieldTable::default());
        let lock = within(limit, "basic.consume", consume).await?;
        Ok(Self { session: Arc::clone(session), channel, limit, queue, _lock: lock, held: 0 })
    }

    /// Asks the broker, within the time-out and as long as there is a connection.
    async fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, LookError> {
        let answer = self.session.lost.run_until_cancelled(within(self.limit, what, request)).await;
        match answer {
            None => Err(LookError::Broken("the connection to the broker is lost".into())),
            Some(Ok(answer)) => Ok(answer),
            Some(Err(fault)) if fault.to_string().contains("no queue") => {
                Err(LookError::Missing(self.queue.to_string()))
            }
            Some(Err(fault)) => Err(LookError::Broken(fault.to_string())),
        }
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
