//! Hop 5's other half: from the outbox to the broker. It keeps no order, and it repeats until the broker confirms.

use std::time::Duration;

use backoff::Backoff;
use contracts::RequestContext;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use messaging::{MessagingClient, PublishError};
use tokio::{sync::watch, time::sleep};
use tracing::Instrument as _;

use super::{Entry, Outbox};

/// Shortest time between two lines with the number of waiting messages.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Most messages in flight: two full batches of the publisher.
const MAX_IN_FLIGHT: usize = 1000;

/// Publishes the messages in the outbox and removes those that are confirmed, until the caller cancels it. A message
/// that is not confirmed stays, and is published again after a back-off, with the same id; an invalid one is parked.
pub async fn relay(outbox: &Outbox, client: &dyn MessagingClient) {
    tokio::join!(publish(outbox, client), log_waiting(outbox.waiting()));
}

/// Logs how many messages wait when the number has changed, at most once a second. A message that is confirmed within
/// that second leaves no line, so the log is quiet while the broker keeps up.
async fn log_waiting(mut waiting: watch::Receiver<usize>) {
    let mut logged = 0;
    loop {
        let now = *waiting.borrow_and_update();
        if now != logged {
            tracing::info!(outbox.waiting = now, "messages in the outbox: {now}");
            logged = now;
        }
        if waiting.changed().await.is_err() {
            return;
        }
        sleep(LOG_INTERVAL).await;
    }
}

async fn publish(outbox: &Outbox, client: &dyn MessagingClient) {
    let mut backoff = Backoff::default();
    let mut newest = None;
    loop {
        let failure = pass(outbox, client, &mut newest).await;
        tracing::warn!("{} waiting in the outbox: {}", outbox.len(), failure.why);
        // If most failed, the queue is probably full: a short wait would send the whole outbox to it again.
        if failure.confirmed >= failure.failed {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// How a pass failed.
struct PassFailure {
    confirmed: usize,
    failed: usize,
    why: String,
}

/// Publishes from the oldest message on, and those that are appended meanwhile, until one fails; then waits for those in
/// flight. `newest` is the newest message that was ever sent.
async fn pass(outbox: &Outbox, client: &dyn MessagingClient, newest: &mut Option<sled::IVec>) -> PassFailure {
    let mut sent_up_to: Option<sled::IVec> = None;
    let mut in_flight = FuturesUnordered::new();
    let (mut confirmed, mut failed, mut failure) = (0, 0, None);
    loop {
        let room = if failure.is_none() { MAX_IN_FLIGHT - in_flight.len() } else { 0 };
        for item in outbox.after(sent_up_to.clone()).take(room) {
            match item {
                Ok((key, entry)) => {
                    let is_new = newest.as_ref() < Some(&key);
                    sent_up_to = Some(key.clone());
                    in_flight.push(async move { (key, send(client, entry, is_new).await) });
                }
                Err(why) => {
                    failed += 1;
                    failure = Some(why);
                }
            }
        }
        *newest = newest.take().max(sent_up_to.clone());
        tokio::select! {
            Some(first) = in_flight.next() => {
                let more = std::iter::from_fn(|| in_flight.next().now_or_never().flatten());
                let mut done = Vec::new();
                for (key, result) in std::iter::once(first).chain(more) {
                    match result {
                        Ok(()) => done.push(key),
                        Err(PublishError::Invalid(why)) => until_done(outbox, || outbox.park(&key, &why)).await,
                        Err(error) => {
                            failpoint::reach("relay-refused");
                            failed += 1;
                            failure = Some(error.to_string());
                        }
                    }
                }
                if !done.is_empty() {
                    failpoint::reach("relay-confirmed");
                }
                until_done(outbox, || outbox.remove(&done)).await;
                confirmed += done.len();
            }
            () = outbox.appended.notified(), if failure.is_none() && in_flight.len() < MAX_IN_FLIGHT => {}
            else => {}
        }
        if in_flight.is_empty()
            && let Some(why) = failure
        {
            return PassFailure { confirmed, failed, why };
        }
    }
}

/// Repeats a change until the disk accepts it. Meanwhile nothing is sent: a message that cannot be removed would be sent
/// over and over.
async fn until_done(outbox: &Outbox, change: impl Fn() -> Result<(), sled::Error>) {
    let mut backoff = Backoff::default();
    let mut last_error = None;
    while let Err(error) = change() {
        outbox.record_outcome(Some(last_error.insert(error.into())));
        backoff.wait().await;
    }
    if last_error.is_some() {
        outbox.record_outcome(None);
    }
}

/// Publishes one message, and logs the hop's line the first time in this process.
async fn send(client: &dyn MessagingClient, entry: Entry, is_new: bool) -> Result<(), PublishError> {
    let Entry { queue, message } = entry;
    let context = RequestContext::of(&message);
    let span =
        tracing::info_span!("relay", request = context.request_id.as_str(), trace = context.trace.id());
    if is_new {
        let _in_span = span.enter();
        let id = message.shown_id();
        tracing::info!(hop = 5, name = "outbox", message.id = id, "the relay publishes {id} to {queue}");
    }
    client.publish_on_queue(&queue, message).instrument(span).await
}
