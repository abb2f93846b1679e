//! Consuming: deliveries to a handler, at most as many in flight as its prefetch, each settled by hand.
//!
//! Whatever stops a consumer - the queue is deleted, the channel fails, the broker restarts - it is started again
//! after a back-off. A delivery whose channel is closed belongs to the broker again: its handler is dropped, and the
//! broker delivers it once more.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

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
    connection::Link,
    fault::{CLOSE_TIMEOUT, Fault, close_channel, short, within},
    publisher::Publisher,
    session::Session,
    wire::to_message,
};
use crate::{
    ConsumeOptions, ConsumerStateSender, Delivery, Handler, Message, Outcome, PublishError, panic_text,
    retry::{Failure, FailureHistory, RetryPolicy},
};

/// After a consumer that ran this long, the next wait is short again.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Where the deliveries come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A queue that exists.
    Queue(String),
    /// An exchange and a binding key, through a queue of our own.
    Exchange(String, String),
}

/// A consumer of one queue.
pub(super) struct Consumer {
    pub(super) link: Link,
    pub(super) publisher: Publisher,
    pub(super) source: Source,
    pub(super) options: ConsumeOptions,
    pub(super) handler: Handler,
}

impl Consumer {
    /// Consumes until `stop`, then finishes the deliveries in flight.
    pub(super) async fn run(self, stop: CancellationToken, state: ConsumerStateSender) {
        let consumer = Arc::new(self);
        let (Source::Queue(name) | Source::Exchange(name, _)) = &consumer.source;
        let what = format!("consuming {name}");
        let mut backoff = Backoff::default();
        while let Some(Some(session)) = stop.run_until_cancelled(consumer.link.session()).await {
            let since = Instant::now();
            let end = Arc::clone(&consumer).consume(&session, &stop, &state).await;
            state.set_active(false);
            let Err(fault) = end else { return };
            if since.elapsed() > STABLE_AFTER {
                backoff.reset();
            }
            let recover = consumer.link.recover(&session, &what, &fault, &mut backoff);
            let _ = stop.run_until_cancelled(recover).await;
        }
    }

    async fn open(&self, session: &Session) -> Result<(Channel, lapin::Consumer), Fault> {
        let channel = session.channel().await?;
        let queue = match &self.source {
            Source::Queue(name) => short(name)?,
            Source::Exchange(exchange, key) => own_queue(session, &channel, exchange, key).await?,
        };
        let qos = channel.basic_qos(self.options.prefetch, BasicQosOptions::default());
        session.request("basic.qos", qos).await?;
        let tag = short(&format!("{}-{}", self.link.options.instance, Uuid::now_v7()))?;
        let consume =
            channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
        let deliveries = session.request("basic.consume", consume).await?;
        Ok((channel, deliveries))
    }

    /// Consumes on one connection. `Ok` means that it was stopped.
    async fn consume(
        self: Arc<Self>,
        session: &Session,
        stop: &CancellationToken,
        state: &ConsumerStateSender,
    ) -> Result<(), Fault> {
        let Some(opened) = stop.run_until_cancelled(self.open(session)).await else { return Ok(()) };
        let (channel, mut deliveries) = opened?;
        state.set_active(true);
        let mut in_flight = JoinSet::new();
        let end = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                () = session.lost.cancelled() => break Err(Fault::Transient("the connection is lost".into())),
                Some(_) = in_flight.join_next() => state.set_in_flight(in_flight.len()),
                next = deliveries.next() => match next {
                    Some(Ok(delivery)) => {
                        in_flight.spawn(Arc::clone(&self).handle(delivery));
                        state.set_in_flight(in_flight.len());
                    }
                    Some(Err(error)) => break Err(error.into()),
                    None => {
                        let why = "the broker canceled the consumer: its queue is deleted, or a message was not acknowledged in time";
                        break Err(Fault::Transient(why.into()));
                    }
                },
            }
        };
        match end {
            Ok(()) => {
                let cancel = channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default());
                let _ = within(CLOSE_TIMEOUT, "basic.cancel", cancel).await;
                // The grace period of the shutdown limits this, so there is no limit here.
                finish(&mut in_flight, session, state).await;
            }
            // The channel may still accept acknowledgments, so the deliveries in flight may finish.
            Err(_) if channel.status().connected() => {
                let finish = timeout(self.link.limit(), finish(&mut in_flight, session, state));
                let _ = stop.run_until_cancelled(finish).await;
            }
            Err(_) => {}
        }
        in_flight.shutdown().await;
        state.set_in_flight(0);
        // Prefetched deliveries go back to the queue when the channel closes, not before.
        close_channel(&channel).await;
        end
    }

    /// Handles one delivery and settles it.
    async fn handle(self: Arc<Self>, delivery: lapin::message::Delivery) {
        let acker = delivery.acker.clone();
        let message = to_message(&delivery.properties, delivery.data);
        let delivery = Delivery::new(message, delivery.redelivered);
        failpoint::reach("delivered");
        let since = Instant::now();
        let outcome = self.outcome(&delivery).await;
        self.link.metrics.consumed.inc();
        self.link.metrics.handler_seconds.observe(since.elapsed().as_secs_f64());
        let settled = match outcome {
            Outcome::Ack => {
                failpoint::reach("handled");
                self.ack(&acker).await
            }
            Outcome::Retry(why) => self.fail(&delivery, why, RetryPolicy::retry, &acker).await,
            Outcome::DeadLetter(why) => self.fail(&delivery, why, RetryPolicy::dead_letter, &acker).await,
        };
        if !settled {
            self.link.metrics.ack_lost.inc();
        }
    }

    /// Calls the handler; a panic and a time-out count as failures of the message.
    async fn outcome(&self, delivery: &Delivery) -> Outcome {
        // The call itself may panic, before it returns a future.
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
                // Time spent waiting for the broker does not count.
                Err(_) if delivery.is_waiting_for_broker() => {}
                Err(_) => return Outcome::Retry(format!("the handler took longer than {limit:?}")),
            }
        }
    }

    /// Moves a delivery to a retry queue or the dead-letter queue: the copy is confirmed before the original is
    /// acknowledged.
    async fn fail(
        &self,
        delivery: &Delivery,
        why: String,
        step: impl FnOnce(&RetryPolicy, &Message, Failure) -> (String, Message),
        acker: &Acker,
    ) -> bool {
        let Some(policy) = &self.options.retry_policy else {
            let settled = self.ack(acker).await;
            if settled {
                log_end(delivery, "dropped", None, &format!("message dropped: {why}"));
            }
            return settled;
        };
        let failure = Failure { at: Timestamp::now(), by: self.link.options.instance.clone(), why };
        let why = failure.why.clone();
        let (queue, copy) = step(policy, &delivery.message, failure);
        // The broker accepted the original with this body, so it accepts the copy.
        let publish = || self.publisher.publish("", &queue, copy.clone(), usize::MAX, true);
        let dead_letter_queue = policy.dead_letter_queue();
        let (outcome, moved) = match queue == dead_letter_queue {
            true => ("dead-lettered", &self.link.metrics.dead_lettered),
            false => ("retried", &self.link.metrics.retried),
        };
        match delivery.until_confirmed(publish).await {
            Ok(()) => {
                moved.inc();
                // Before the acknowledgment: from here on the message is there, even if this process dies.
                log_end(delivery, outcome, Some(&queue), &format!("message moved to {queue}: {why}"));
                failpoint::reach("moved");
                self.ack(acker).await
            }
            // No copy of it can be published: the broker moves the original, without its failure history.
            Err(PublishError::Invalid(error)) => {
                self.link.metrics.dead_lettered.inc();
                let settled = self.settle(acker.reject(BasicRejectOptions { requeue: false })).await;
                if settled {
                    let text = format!("message moved to {dead_letter_queue} as it is, since {error}: {why}");
                    log_end(delivery, "dead-lettered", Some(&dead_letter_queue), &text);
                }
                settled
            }
            // The client is closed: the broker delivers the message again.
            Err(_) => pending().await,
        }
    }

    async fn ack(&self, acker: &Acker) -> bool {
        let settled = self.settle(acker.ack(BasicAckOptions::default())).await;
        failpoint::reach("acked");
        self.link.metrics.acked.inc_by(settled.into());
        settled
    }

    /// Settles within the time limit, since lapin's `ack` can wait forever on a dead connection; `Ok(false)` means that
    /// the channel was closed. In both cases the broker delivers the message again.
    async fn settle(&self, settlement: impl Future<Output = lapin::Result<bool>>) -> bool {
        matches!(within(self.link.limit(), "settlement", settlement).await, Ok(true))
    }
}

/// Logs that a delivery ended without success, and the queue that has the message now.
fn log_end(delivery: &Delivery, outcome: &str, queue: Option<&str>, text: &str) {
    tracing::warn!(
        delivery.outcome = outcome,
        delivery.queue = queue,
        message.id = delivery.message.shown_id(),
        message.attempt = FailureHistory::of(&delivery.message).next_attempt(),
        request = delivery.message.correlation_id,
        "{text}"
    );
}

/// Waits for the deliveries in flight, unless the connection is lost.
async fn finish(in_flight: &mut JoinSet<()>, session: &Session, state: &ConsumerStateSender) {
    let all_handled = async {
        while in_flight.join_next().await.is_some() {
            state.set_in_flight(in_flight.len());
        }
    };
    let _ = session.while_up(all_handled).await;
}

/// Declares a queue for this connection only. Its name is new each time: an exclusive queue with a fixed name is
/// still locked by the old connection when a client reconnects quickly.
async fn own_queue(
    session: &Session,
    channel: &Channel,
    exchange: &str,
    key: &str,
) -> Result<ShortString, Fault> {
    // Checked first: a queue that cannot be bound would stay until the connection ends, one for each attempt.
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let check =
        channel.exchange_declare(short(exchange)?, ExchangeKind::Topic, passive, FieldTable::default());
    session.request("exchange.declare (passive)", check).await?;
    let name = short(&format!("{exchange}.anonymous.{}", Uuid::now_v7()))?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let declare = channel.queue_declare(name.clone(), options, FieldTable::default());
    session.request("queue.declare", declare).await?;
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bind = channel.queue_bind(name.clone(), short(exchange)?, short(key)?, options, arguments);
    session.request("queue.bind", bind).await?;
    Ok(name)
}
