//! Consuming: deliveries to a handler, as many at a time as it asked for, each settled by hand.
//!
//! Whatever ends a consumer - the queue is deleted, the channel fails, the broker restarts - it is
//! started again within the back-off. A delivery whose channel is gone is not ours any more: its
//! handler is dropped, and the broker delivers it again.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use backoff::Backoff;
use futures_util::{FutureExt, StreamExt, future::pending};
use jiff::Timestamp;
use lapin::{
    Acker, Channel, ExchangeKind,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    connection::{Link, Session},
    fault::{CLOSE_TIMEOUT, Fault, close_channel, short, within},
    publisher::Publisher,
    wire::to_message,
};
use crate::{
    Activity, ConsumeOptions, Delivery, Handler, Message, Outcome, PublishError, failpoint,
    ladder::{Failure, Ladder},
    metrics::Metrics,
    panic_text,
};

/// What is consumed.
#[derive(Debug)]
pub(super) enum Source {
    /// A queue that is there.
    Queue(String),
    /// An exchange and a binding key, through a queue of our own.
    Exchange(String, String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Queue(name) | Self::Exchange(name, _)) = self;
        f.write_str(name)
    }
}

/// A consumer of one queue.
pub(super) struct Consumer {
    pub(super) link: Link,
    pub(super) publisher: Publisher,
    pub(super) metrics: Arc<Metrics>,
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) options: ConsumeOptions,
    pub(super) handler: Handler,
}

/// Why a consumer ended.
enum End {
    Stopped,
    Failed(String),
}

impl Consumer {
    /// Consumes until `stop`, then finishes what is in hand.
    pub(super) async fn run(self, stop: CancellationToken, activity: Activity) {
        let consumer = Arc::new(self);
        let mut backoff = Backoff::default();
        while let Some(Some(session)) = stop.run_until_cancelled(consumer.link.session()).await {
            let since = Instant::now();
            let Some(opened) = stop.run_until_cancelled(consumer.open(&session)).await else { return };
            let end = match opened {
                Ok((channel, deliveries)) => {
                    activity.set_active(true);
                    Arc::clone(&consumer).consume(&session, &channel, deliveries, &stop, &activity).await
                }
                Err(fault) => End::Failed(fault.to_string()),
            };
            activity.set_active(false);
            let End::Failed(why) = end else { return };
            if session.lost.is_cancelled() {
                continue;
            }
            tracing::warn!("consuming {} again: {why}", consumer.source);
            if since.elapsed() > Duration::from_secs(5) {
                backoff.reset();
            }
            let again = async {
                backoff.wait().await;
                consumer.link.redeclare(&session).await;
            };
            if stop.run_until_cancelled(again).await.is_none() {
                return;
            }
        }
    }

    async fn open(&self, session: &Session) -> Result<(Channel, lapin::Consumer), Fault> {
        let limit = self.link.limit();
        let channel = session.channel().await?;
        let queue = match &self.source {
            Source::Queue(name) => short(name)?,
            Source::Exchange(exchange, key) => self.own_queue(&channel, exchange, key).await?,
        };
        let qos = channel.basic_qos(self.options.prefetch, BasicQosOptions::default());
        within(limit, "basic.qos", qos).await?;
        let tag = short(&format!("{}-{}", self.name, Uuid::now_v7()))?;
        let consume =
            channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
        let deliveries = within(limit, "basic.consume", consume).await?;
        Ok((channel, deliveries))
    }

    /// A queue for this connection only. Its name is new each time: an exclusive queue of a fixed name is
    /// still locked by the old connection when a quick client comes back.
    async fn own_queue(&self, channel: &Channel, exchange: &str, key: &str) -> Result<ShortString, Fault> {
        let limit = self.link.limit();
        // First of all: a queue that cannot be bound would stay until the connection ends, one for each attempt.
        let is_there = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let look =
            channel.exchange_declare(short(exchange)?, ExchangeKind::Topic, is_there, FieldTable::default());
        within(limit, "exchange.declare (passive)", look).await?;
        let name = short(&format!("{exchange}.anonymous.{}", Uuid::now_v7()))?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let declare = channel.queue_declare(name.clone(), options, FieldTable::default());
        within(limit, "queue.declare", declare).await?;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bind = channel.queue_bind(name.clone(), short(exchange)?, short(key)?, options, arguments);
        within(limit, "queue.bind", bind).await?;
        Ok(name)
    }

    async fn consume(
        self: Arc<Self>,
        session: &Session,
        channel: &Channel,
        mut deliveries: lapin::Consumer,
        stop: &CancellationToken,
        activity: &Activity,
    ) -> End {
        let mut in_hand = JoinSet::new();
        let end = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Stopped,
                () = session.lost.cancelled() => break End::Failed("the connection is lost".into()),
                Some(_) = in_hand.join_next() => activity.set_in_hand(in_hand.len()),
                next = deliveries.next() => match next {
                    Some(Ok(delivery)) => {
                        in_hand.spawn(Arc::clone(&self).handle(delivery));
                        activity.set_in_hand(in_hand.len());
                    }
                    Some(Err(error)) => break End::Failed(Fault::from(error).to_string()),
                    None => break End::Failed("the broker cancelled the consumer, its queue may be gone".into()),
                },
            }
        };
        let limit = self.link.limit();
        match end {
            End::Stopped => {
                let cancel = channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default());
                let _ = within(CLOSE_TIMEOUT, "basic.cancel", cancel).await;
                // How long this may take is the grace period's business.
                let finish = async {
                    while in_hand.join_next().await.is_some() {
                        activity.set_in_hand(in_hand.len());
                    }
                };
                let _ = session.lost.run_until_cancelled(finish).await;
            }
            // The channel may still take acknowledgments, so what is in hand gets its chance.
            End::Failed(_) if channel.status().connected() => {
                let finish = timeout(limit, async { while in_hand.join_next().await.is_some() {} });
                let _ = stop.run_until_cancelled(session.lost.run_until_cancelled(finish)).await;
            }
            End::Failed(_) => {}
        }
        in_hand.shutdown().await;
        activity.set_in_hand(0);
        // What was prefetched and not handled goes back to the queue when the channel closes, not before.
        close_channel(channel).await;
        end
    }

    /// One delivery, from the handler to its settlement.
    async fn handle(self: Arc<Self>, delivery: lapin::message::Delivery) {
        let acker = delivery.acker.clone();
        let message = to_message(&delivery.properties, delivery.data);
        let delivery = Delivery::new(message, delivery.redelivered);
        failpoint::reach("delivered");
        let since = Instant::now();
        let outcome = self.outcome(&delivery).await;
        self.metrics.consumed.inc();
        self.metrics.handler_seconds.observe(since.elapsed().as_secs_f64());
        let settled = match outcome {
            Outcome::Ack => {
                failpoint::reach("handled");
                self.ack(&acker).await
            }
            Outcome::Retry(why) => self.fail(&delivery, why, Ladder::retry, &acker).await,
            Outcome::DeadLetter(why) => self.fail(&delivery, why, Ladder::give_up, &acker).await,
        };
        if !settled {
            self.metrics.ack_lost.inc();
        }
    }

    /// What the handler says, or what its panic or its silence says for it.
    async fn outcome(&self, delivery: &Delivery) -> Outcome {
        // The call itself may panic, before there is a future.
        let (handler, argument) = (Arc::clone(&self.handler), delivery.clone());
        let call = AssertUnwindSafe(async move { handler(argument).await }).catch_unwind();
        tokio::pin!(call);
        loop {
            let limit = self.options.handler_timeout.get();
            match timeout(limit, &mut call).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(panic)) => {
                    return Outcome::Retry(format!("the handler panicked: {}", panic_text(&*panic)));
                }
                // Time that was spent waiting for the broker is not the message's.
                Err(_) if delivery.is_waiting_for_the_broker() => {}
                Err(_) => return Outcome::Retry(format!("the handler took longer than {limit:?}")),
            }
        }
    }

    /// Moves a delivery to where the ladder says: the copy is confirmed before the original is acked.
    async fn fail(
        &self,
        delivery: &Delivery,
        why: String,
        step: impl FnOnce(&Ladder, &Message, Failure) -> (String, Message),
        acker: &Acker,
    ) -> bool {
        let id = delivery.message.shown_id();
        let Some(ladder) = &self.options.ladder else {
            tracing::warn!(message.id = id, "message dropped: {why}");
            return self.ack(acker).await;
        };
        let failure = Failure { at: Timestamp::now(), by: self.name.clone(), why };
        let why = failure.why.clone();
        let (queue, copy) = step(ladder, &delivery.message, failure);
        tracing::warn!(message.id = id, "message goes to {queue}: {why}");
        // The original was let in with this body, and so is the copy.
        let publish = || self.publisher.publish("", &queue, copy.clone(), usize::MAX, true);
        let is_dead = queue == ladder.dead();
        let moved = if is_dead { &self.metrics.dead_lettered } else { &self.metrics.retried };
        match delivery.until_confirmed(publish).await {
            Ok(()) => {
                moved.inc();
                failpoint::reach("moved");
                self.ack(acker).await
            }
            // Not even a copy can be made of it: the broker moves the original, without its story.
            Err(PublishError::Invalid(error)) => {
                tracing::warn!(message.id = id, "message goes to {} as it is: {error}", ladder.dead());
                self.metrics.dead_lettered.inc();
                self.settle(acker.reject(BasicRejectOptions { requeue: false })).await
            }
            // We are stopping: it comes again.
            Err(_) => pending().await,
        }
    }

    async fn ack(&self, acker: &Acker) -> bool {
        let settled = self.settle(acker.ack(BasicAckOptions::default())).await;
        failpoint::reach("acked");
        self.metrics.acked.inc_by(settled.into());
        settled
    }

    /// Bounded, since lapin's `ack` can wait for ever on a connection that died; `Ok(false)` means the
    /// channel was gone. Either way the broker delivers it again.
    async fn settle(&self, settlement: impl Future<Output = lapin::Result<bool>>) -> bool {
        matches!(within(self.link.limit(), "settlement", settlement).await, Ok(true))
    }
}
