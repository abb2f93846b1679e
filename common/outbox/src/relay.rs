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
    let mut newest = 0;
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
async fn pass(outbox: &Outbox, client: &dyn MessagingClient, newest: &mut u64) -> PassFailure {
    let mut sent_up_to = 0;
    let mut in_flight = FuturesUnordered::new();
    let (mut confirmed, mut failed, mut failure) = (0, 0, None);
    loop {
        let room = if failure.is_none() { MAX_IN_FLIGHT - in_flight.len() } else { 0 };
        let batch = outbox.after(sent_up_to, room);
        let is_full_batch = room > 0 && batch.len() == room;
        for (number, entry) in batch {
            sent_up_to = number;
            match entry {
                Ok(entry) => {
                    let is_new = *newest < number;
                    in_flight.push(async move { (number, send(client, entry, is_new).await) });
                }
                Err(unreadable) => {
                    if let Err(why) = outbox.put_away(number, unreadable).await {
                        failed += 1;
                        failure = Some(why);
                    }
                }
            }
        }
        *newest = sent_up_to.max(*newest);
        if is_full_batch && in_flight.is_empty() && failure.is_none() {
            // None of them could be read.
            continue;
        }
        tokio::select! {
            Some(first) = in_flight.next() => {
                let more = std::iter::from_fn(|| in_flight.next().now_or_never().flatten());
                let (mut done, mut invalid) = (vec![], vec![]);
                for (number, result) in std::iter::once(first).chain(more) {
                    match result {
                        Ok(()) => done.push(number),
                        Err(PublishError::Invalid(why)) => invalid.push((number, why)),
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
                outbox.remove(&done);
                confirmed += done.len();
                for (number, why) in invalid {
                    if let Err(error) = outbox.park(number, &why).await {
                        failed += 1;
                        failure = Some(error.to_string());
                    }
                }
            }
            () = outbox.journal.appended(), if failure.is_none() && in_flight.len() < MAX_IN_FLIGHT => {}
            else => {}
        }
        if in_flight.is_empty()
            && let Some(why) = failure
        {
            return PassFailure { confirmed, failed, why };
        }
    }
}

/// Publishes one message, and logs the hop's line the first time in this process.
async fn send(client: &dyn MessagingClient, entry: Entry, is_new: bool) -> Result<(), PublishError> {
    let target = is_new.then(|| entry.target());
    let Entry { exchange, routing_key, mandatory, message, .. } = entry;
    let context = RequestContext::of(&message);
    let span =
        tracing::info_span!("relay", request = context.request_id.as_str(), trace = context.trace.id());
    if let Some(target) = target {
        let _in_span = span.enter();
        let id = message.shown_id();
        tracing::info!(hop = 5, name = "outbox", message.id = id, "the relay publishes {id} to {target}");
    }
    match (exchange.as_str(), mandatory) {
        ("", true) => client.publish_on_queue(&routing_key, message).instrument(span).await,
        (_, true) => client.publish(&exchange, &routing_key, message).instrument(span).await,
        (_, false) => client.broadcast(&exchange, &routing_key, message).instrument(span).await,
    }
}
