//! Hop 5's other half: from the outbox to the broker. It keeps no order, and it never gives up.

use backoff::Backoff;
use contracts::RequestContext;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use messaging::{MessagingClient, PublishError, failpoint};
use tracing::Instrument as _;

use super::{Entry, Outbox};

/// Number of messages on their way at a time: two full batches of the publisher.
const WINDOW: usize = 1000;

/// Publishes what is in the outbox and removes what is confirmed, until it is dropped. A message that
/// is not confirmed stays, and is published again after a back-off, with the same id.
pub async fn relay(outbox: &Outbox, client: &dyn MessagingClient) {
    let mut backoff = Backoff::default();
    let mut newest = None;
    loop {
        let setback = pass(outbox, client, &mut newest).await;
        tracing::warn!("{} waiting in the outbox: {}", outbox.len(), setback.why);
        // One of a thousand is no reason to send the others again at once: a full queue would be stormed.
        if setback.confirmed >= setback.failed {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// Outcome of a pass.
struct Setback {
    confirmed: usize,
    failed: usize,
    why: String,
}

/// Publishes from the oldest message on, and those that are appended meanwhile, until one fails; then waits
/// for those on their way. `newest` is the newest message that was ever sent.
async fn pass(outbox: &Outbox, client: &dyn MessagingClient, newest: &mut Option<sled::IVec>) -> Setback {
    let mut sent_up_to: Option<sled::IVec> = None;
    let mut on_their_way = FuturesUnordered::new();
    let (mut confirmed, mut failed, mut failure) = (0, 0, None);
    loop {
        let room = if failure.is_none() { WINDOW - on_their_way.len() } else { 0 };
        for item in outbox.after(sent_up_to.clone()).take(room) {
            match item {
                Ok((key, entry)) => {
                    let is_new = newest.as_ref() < Some(&key);
                    sent_up_to = Some(key.clone());
                    on_their_way.push(async move { (key, send(client, entry, is_new).await) });
                }
                Err(why) => {
                    failed += 1;
                    failure = Some(why);
                }
            }
        }
        *newest = newest.take().max(sent_up_to.clone());
        tokio::select! {
            Some(first) = on_their_way.next() => {
                let more = std::iter::from_fn(|| on_their_way.next().now_or_never().flatten());
                let mut done = Vec::new();
                for (key, result) in std::iter::once(first).chain(more) {
                    match result {
                        Ok(()) => done.push(key),
                        Err(PublishError::Invalid(why)) => until_done(outbox, || outbox.put_aside(&key, &why)).await,
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
            () = outbox.appended.notified(), if failure.is_none() && on_their_way.len() < WINDOW => {}
            else => {}
        }
        if on_their_way.is_empty()
            && let Some(why) = failure
        {
            return Setback { confirmed, failed, why };
        }
    }
}

/// Does it again until the disk takes it. Meanwhile nothing is sent: what cannot be removed would be sent over and over.
async fn until_done(outbox: &Outbox, change: impl Fn() -> Result<(), sled::Error>) {
    let mut backoff = Backoff::default();
    let mut trouble = None;
    while let Err(error) = change() {
        outbox.tell(Some(trouble.insert(error.into())));
        backoff.wait().await;
    }
    if trouble.is_some() {
        outbox.tell(None);
    }
}

/// Publishes one message; its line is logged the first time.
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
