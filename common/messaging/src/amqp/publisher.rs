//! Publishing: persistent, confirmed, in batches, and mandatory except for broadcasts.
//!
//! Messages that are published at the same time share a batch: all are sent, then all confirms are awaited, and only
//! then is any of them reported as confirmed. This barrier makes "no queue took it" exact: with several mandatory
//! publishes in flight lapin attaches a returned message to whichever confirm comes next, so returned messages are
//! matched by their `message_id`. Two channels take turns, so that one sends while the other waits. Measured on
//! RabbitMQ 4.0 with a quorum queue, two channels of 500 reach 33,000 messages a second, one channel 24,000, and a
//! pool of 64 channels with one message in flight each 15,000. An alternate exchange would be as fast, but would
//! confirm messages that nobody reads.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties, Channel, Confirmation,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use super::{
    connection::Link,
    fault::{Fault, close_channel, short},
    session::Session,
    wire::to_properties,
};
use crate::{Message, PublishError};

/// Most messages in flight on one channel.
const MAX_BATCH: usize = 500;
/// Time between the loss of a queue and its new declaration.
const REDECLARE_DELAY: Duration = Duration::from_millis(500);
/// Wait before a channel is opened again that could not be opened.
const REOPEN_DELAY: Duration = Duration::from_millis(100);
/// Number of channels that take turns.
pub(super) const CHANNEL_COUNT: usize = 2;

/// Publishes over channels that take turns, each opened again when it fails.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    link: Link,
    requests: mpsc::Sender<Request>,
    waiting: Arc<Mutex<mpsc::Receiver<Request>>>,
}

#[derive(Debug)]
struct Request {
    exchange: ShortString,
    routing_key: ShortString,
    id: Option<ShortString>,
    properties: BasicProperties,
    body: Bytes,
    mandatory: bool,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

impl Publisher {
    pub(super) fn new(link: Link) -> Self {
        let (requests, waiting) = mpsc::channel(MAX_BATCH);
        Self { link, requests, waiting: Arc::new(Mutex::new(waiting)) }
    }

    /// Publishes, and waits for the confirm. A message that no broker accepts is refused here: it would close the
    /// channel, and fail all that is published with it. Without `mandatory` a message is confirmed even if no queue
    /// took it.
    pub(super) async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        message: Message,
        body_limit: usize,
        mandatory: bool,
    ) -> Result<(), PublishError> {
        message.validate(body_limit)?;
        let invalid = |fault: Fault| PublishError::Invalid(fault.to_string());
        let (reply, confirmed) = oneshot::channel();
        let properties = to_properties(&message).map_err(invalid)?;
        let request = Request {
            exchange: short(exchange).map_err(invalid)?,
            routing_key: short(routing_key).map_err(invalid)?,
            id: properties.message_id().clone(),
            properties,
            body: message.body,
            mandatory,
            reply,
        };
        self.requests.send(request).await.map_err(|_| PublishError::Closed)?;
        confirmed.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Publishes requests over one channel until the client is closed. A batch that has begun waits for the next
    /// connection.
    pub(super) async fn run_channel(self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        // After a batch that failed, messages go one at a time: one that closes the channel fails alone.
        let mut size = MAX_BATCH;
        while let Some(session) = self.link.session().await {
            session.unblocked().await;
            match self.open(&session).await {
                Ok(channel) => self.serve(&session, &channel, &mut batch, &mut size).await,
                Err(_) if session.lost.is_cancelled() => {}
                Err(fault) => {
                    tracing::warn!("cannot open a channel to publish: {fault}");
                    sleep(REOPEN_DELAY).await;
                }
            }
        }
        // No more requests: dropping those that wait tells their callers that the client is closed.
        self.waiting.lock().await.close();
        drop(batch);
        while self.waiting.lock().await.recv().await.is_some() {}
    }

    async fn open(&self, session: &Session) -> Result<Channel, Fault> {
        let channel = session.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        session.request("confirm.select", select).await?;
        Ok(channel)
    }

    /// Publishes batch by batch, until the channel or its connection fails.
    async fn serve(&self, session: &Session, channel: &Channel, batch: &mut Vec<Request>, size: &mut usize) {
        while !session.lost.is_cancelled() {
            if batch.is_empty() {
                let next = async { self.waiting.lock().await.recv_many(batch, *size).await };
                if session.while_up(next).await.is_none_or(|received| received == 0) {
                    return;
                }
            }
            session.unblocked().await;
            if session.lost.is_cancelled() {
                return;
            }
            // A caller that stopped waiting may publish again, so its request is not sent.
            batch.retain(|request| !request.reply.is_closed());
            let sent = Instant::now();
            let answers = publish_all(channel, session, batch, sent + self.link.limit()).await;
            self.count(&answers, sent);
            let failed = answers.iter().any(|a| matches!(a, Err(PublishError::Unconfirmed(_))));
            let missing = answers.iter().any(|a| matches!(a, Err(PublishError::Unroutable(_))));
            for (request, answer) in batch.drain(..).zip(answers) {
                // A caller that stopped waiting publishes the message again, with the same id.
                let _ = request.reply.send(answer);
            }
            // A queue is missing, or an exchange, which closes the channel.
            if failed || missing {
                // A broker need not notify a consumer of its queue's deletion if the queue exists again at once.
                sleep(REDECLARE_DELAY).await;
                self.link.redeclare(session).await;
            }
            *size = if failed { 1 } else { MAX_BATCH };
            if failed {
                // A late answer could be taken for one to the next batch.
                close_channel(channel).await;
                return;
            }
        }
    }

    fn count(&self, answers: &[Result<(), PublishError>], sent: Instant) {
        let metrics = &self.link.metrics;
        metrics.published.inc_by(answers.len() as u64);
        let count = |counter: &Counter, is: fn(&Result<(), PublishError>) -> bool| {
            counter.inc_by(answers.iter().filter(|answer| is(answer)).count() as u64);
        };
        count(&metrics.confirmed, Result::is_ok);
        count(&metrics.returned, |answer| matches!(answer, Err(PublishError::Unroutable(_))));
        count(&metrics.nacked, |answer| matches!(answer, Err(PublishError::Nacked)));
        count(&metrics.unknown, |answer| matches!(answer, Err(PublishError::Unconfirmed(_))));
        metrics.publish_seconds.observe(sent.elapsed().as_secs_f64());
    }
}

/// Sends all, then waits for all. After the deadline or the loss of the connection, messages that are confirmed by
/// then stay confirmed: a return comes before its own confirm.
async fn publish_all(
    channel: &Channel,
    session: &Session,
    batch: &mut [Request],
    deadline: Instant,
) -> Vec<Result<(), PublishError>> {
    let mut confirms = Vec::with_capacity(batch.len());
    for Request { exchange, routing_key, properties, body, mandatory, .. } in batch.iter_mut() {
        let options = BasicPublishOptions { mandatory: *mandatory, ..Default::default() };
        let (exchange, key, properties) = (exchange.clone(), routing_key.clone(), std::mem::take(properties));
        let publish = channel.basic_publish(exchange, key, options, body, properties);
        confirms.push(in_time(session, deadline, publish).await);
    }
    failpoint::reach("published");
    let mut answers = Vec::with_capacity(batch.len());
    let mut returned = Vec::new();
    for confirm in confirms {
        let confirmation = match confirm {
            Ok(confirm) => in_time(session, deadline, confirm).await,
            Err(why) => Err(why),
        };
        answers.push(match &confirmation {
            Ok(confirmation) if confirmation.is_ack() => Ok(()),
            Ok(_) => Err(PublishError::Nacked),
            Err(why) => Err(PublishError::Unconfirmed(why.clone())),
        });
        returned.extend(confirmation.ok().and_then(Confirmation::take_message));
    }
    if let Ok(more) = in_time(session, deadline, channel.wait_for_confirms()).await {
        returned.extend(more);
    }
    mark_returned(batch, &returned, &mut answers);
    answers
}

/// Waits for an answer of the broker until the deadline or the loss of the connection.
async fn in_time<T>(
    session: &Session,
    deadline: Instant,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, String> {
    match session.while_up(timeout_at(deadline, answer)).await {
        Some(Ok(answer)) => answer.map_err(|error| Fault::from(error).to_string()),
        Some(Err(_)) => Err("no confirm in time".into()),
        None => Err("the connection is lost".into()),
    }
}

/// Marks the returned messages by their ids, whichever confirm they were attached to.
fn mark_returned(
    batch: &[Request],
    returned: &[BasicReturnMessage],
    answers: &mut [Result<(), PublishError>],
) {
    let Some(first) = returned.first() else {
        return;
    };
    let why = format!("{} {}", first.reply_code, first.reply_text);
    let ids: HashSet<_> = returned.iter().map(|message| message.delivery.properties.message_id()).collect();
    for (request, answer) in batch.iter().zip(answers) {
        if answer.is_ok() && ids.contains(&request.id) {
            *answer = Err(PublishError::Unroutable(format!("{why} (routing key {})", request.routing_key)));
        }
    }
}
