//! Reading over AMQP, with a consumer that begins at an offset.
//!
//! An offset is valid in one stream only, and a reader at an offset beyond the end of a stream that was deleted and
//! declared again gets nothing and no error. So after each loss of the connection the reader finds the end of the
//! stream, and reads the last entry that it knows once more: if it is another one, reading begins again.

use std::time::Duration;

use backoff::Backoff;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use messaging::{
    ConsumerStateSender, Message,
    amqp::{Fault, Link, Session, close_channel, short, to_message},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Replay, ReplayOptions, UNREAD};

/// Most entries in flight.
const PREFETCH: u16 = 500;
/// Most entries that are handed over at once.
const BATCH: usize = 500;
/// Entries per acknowledgment, which for a stream only means "send more".
const ACK_EVERY: u32 = 100;
/// A stream has no end marker: its last chunk has been read when no entry has come for this long.
const LAST_CHUNK_TIMEOUT: Duration = Duration::from_millis(300);
/// Time limit for finding the end of a stream that keeps growing; its end at the beginning has come by then.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// The reader's progress.
#[derive(Debug, Default)]
struct Progress {
    /// Offset and id of the entry that was read last: where to go on, and how to recognize it.
    position: Option<(u64, Option<String>)>,
    /// Offset at which reading began, if there were older entries.
    began_at: Option<u64>,
    /// Times that reading began again further back.
    extensions: u32,
    /// Whether all entries that were there at the start have been read.
    caught_up: bool,
}

/// Reads a stream until `stop`, on one connection after the other.
pub(super) async fn read<F: Future<Output = ()>>(
    link: Link,
    stream: String,
    options: ReplayOptions,
    mut reader: impl FnMut(Vec<Replay>) -> F,
    stop: CancellationToken,
    state: ConsumerStateSender,
) {
    let mut progress = Progress { position: options.after.clone(), ..Progress::default() };
    let mut backoff = Backoff::default();
    let what = format!("reading stream {stream}");
    let read = async {
        while let Some(session) = link.session().await {
            let end = follow(&link, &session, &stream, &options, &mut reader, &mut progress, &state).await;
            state.set_active(false);
            options.behind.set(UNREAD);
            match end {
                Ok(()) => backoff.reset(),
                Err(fault) => link.recover(&session, &what, &fault, &mut backoff).await,
            }
        }
    };
    let _ = stop.run_until_cancelled(read).await;
}

/// Reads on one channel. `Ok` means to begin again at once, from the progress as it is now.
async fn follow<F: Future<Output = ()>>(
    link: &Link,
    session: &Session,
    stream: &str,
    options: &ReplayOptions,
    reader: &mut impl FnMut(Vec<Replay>) -> F,
    progress: &mut Progress,
    state: &ConsumerStateSender,
) -> Result<(), Fault> {
    let known = progress.position.as_ref().map(|(offset, _)| *offset);
    let mut end = last_offset(link, session, stream, known).await?;
    if progress.position.as_ref().is_some_and(|(offset, _)| end.is_none_or(|end| end < *offset)) {
        *progress = Progress::default();
    }
    let (start, mut handed_over) = match &progress.position {
        Some((offset, _)) => (*offset, Some(*offset)),
        None => {
            let first = first_offset(link, session, stream, end).await?;
            let length = options.length.saturating_mul(2_u64.saturating_pow(progress.extensions));
            let start = end.map_or(0, |end| (end + 1).saturating_sub(length)).max(first);
            (progress.began_at, progress.caught_up) = ((start > first).then_some(start), false);
            reader(vec![Replay::Restarted { end }]).await;
            (start, start.checked_sub(1))
        }
    };
    let start = AMQPValue::LongLongInt(i64::try_from(start).unwrap_or(i64::MAX));
    let mut entries = Entries::open(session, stream, start, PREFETCH).await?;
    state.set_active(true);
    options.behind.set(distance(handed_over, end));
    let mut known = progress.position.clone();
    loop {
        let read = progress.position.as_ref().map(|(offset, _)| *offset);
        if !progress.caught_up && known.is_none() && end.is_none_or(|end| read >= Some(end)) {
            if progress.began_at.is_some_and(|start| !(options.is_enough)(start)) {
                *progress = Progress { extensions: progress.extensions + 1, ..Progress::default() };
                close_channel(&entries.channel).await;
                return Ok(());
            }
            reader(vec![Replay::CaughtUp]).await;
            progress.caught_up = true;
        }
        let mut steps = vec![];
        for Entry { offset, size, message } in entries.next_batch(session, options.max_body).await? {
            if let Some(known) = known.take() {
                if known == (offset, message.id.clone()) {
                    continue;
                }
                tracing::warn!(
                    "entry {} of stream {stream} is not the one that was read before: the stream was deleted and declared \
                     again, or was cut meanwhile; reading begins again",
                    known.0
                );
                *progress = Progress::default();
                close_channel(&entries.channel).await;
                return Ok(());
            }
            progress.position = Some((offset, message.id.clone()));
            steps.push(match size <= options.max_body {
                true => Replay::Entry(offset, message),
                false => {
                    tracing::warn!(
                        offset,
                        "entry {offset} of stream {stream} is skipped: it has {size} bytes, at most {} are read",
                        options.max_body
                    );
                    Replay::TooLarge(offset, size)
                }
            });
        }
        if !steps.is_empty() {
            let last = progress.position.as_ref().map(|(offset, _)| *offset);
            end = end.max(last);
            options.behind.set(distance(handed_over, end));
            reader(steps).await;
            handed_over = last;
            options.behind.set(distance(handed_over, end));
        }
    }
}

/// Returns how many offsets follow one, up to the last.
fn distance(offset: Option<u64>, last: Option<u64>) -> i64 {
    let up_to = |offset: Option<u64>| offset.map_or(0, |offset| offset.saturating_add(1));
    i64::try_from(up_to(last).saturating_sub(up_to(offset))).unwrap_or(i64::MAX)
}

/// Returns the offset of the first entry; 0 for an empty stream.
async fn first_offset(link: &Link, session: &Session, stream: &str, end: Option<u64>) -> Result<u64, Fault> {
    if end.is_none() {
        return Ok(0);
    }
    let mut entries = Entries::open(session, stream, AMQPValue::LongString("first".into()), 1).await?;
    let first = timeout_at(Instant::now() + link.limit(), entries.next(session, 0)).await;
    close_channel(&entries.channel).await;
    Ok(first
        .map_err(|_| Fault::Transient("the stream has entries and the broker delivers none".into()))??
        .offset)
}

/// Returns the offset of the last entry, or `None` for an empty stream. If an entry is known, it waits longer before it returns
/// `None`, or an entry before that one.
async fn last_offset(
    link: &Link,
    session: &Session,
    stream: &str,
    known: Option<u64>,
) -> Result<Option<u64>, Fault> {
    let mut entries = Entries::open(session, stream, AMQPValue::LongString("last".into()), PREFETCH).await?;
    let options = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
    let declare = entries.channel.queue_declare(short(stream)?, options, FieldTable::default());
    let count = session.request("queue.declare", declare).await?.message_count();
    // The count lags behind: more than zero is right, zero may be wrong.
    let sure = count > 0 || known.is_some();
    let mut deadline = Instant::now() + if sure { link.limit() } else { LAST_CHUNK_TIMEOUT };
    let (mut last, mut latest) = (None, None);
    while let Ok(entry) = timeout_at(deadline, entries.next(session, 0)).await {
        last = Some(entry?.offset);
        let latest = *latest.get_or_insert_with(|| Instant::now() + PROBE_TIMEOUT);
        deadline = match last < known {
            true => latest,
            false => latest.min(Instant::now() + LAST_CHUNK_TIMEOUT),
        };
    }
    if last.is_none() && count > 0 {
        return Err(Fault::Transient("the stream has entries and the broker delivers none".into()));
    }
    close_channel(&entries.channel).await;
    Ok(last)
}

/// An entry of a stream; its body is empty if it is too large.
struct Entry {
    offset: u64,
    /// Size of its body in bytes.
    size: usize,
    message: Message,
}

/// The entries of a stream, from a consumer on a channel of its own.
struct Entries {
    channel: Channel,
    consumer: lapin::Consumer,
    unacked: u32,
    /// Whether the consumer has ended. lapin says so once.
    has_ended: bool,
}

impl Entries {
    async fn open(session: &Session, stream: &str, start: AMQPValue, prefetch: u16) -> Result<Self, Fault> {
        let channel = session.channel().await?;
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        session.request("basic.qos", qos).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), start);
        let tag = ShortString::default();
        let consume = channel.basic_consume(short(stream)?, tag, BasicConsumeOptions::default(), arguments);
        let consumer = session.request("basic.consume", consume).await?;
        Ok(Self { channel, consumer, unacked: 0, has_ended: false })
    }

    /// Returns the next entry, without its body if that is larger than `max_body`.
    async fn next(&mut self, session: &Session, max_body: usize) -> Result<Entry, Fault> {
        let broken = |why: &str| Fault::Transient(why.to_owned());
        let next = match self.has_ended {
            true => Some(None),
            false => session.while_up(self.consumer.next()).await,
        };
        let delivery = match next.ok_or_else(|| broken("the connection is lost"))? {
            Some(delivery) => delivery?,
            None => {
                return Err(broken("the broker canceled the reader, the stream may be deleted"));
            }
        };
        self.entry(session, delivery, max_body).await
    }

    /// Returns the next entries: waits for the first one, and takes those that are there already.
    async fn next_batch(&mut self, session: &Session, max_body: usize) -> Result<Vec<Entry>, Fault> {
        let mut batch = vec![self.next(session, max_body).await?];
        while batch.len() < BATCH
            && let Some(next) = self.consumer.next().now_or_never()
        {
            let Some(delivery) = next else {
                self.has_ended = true;
                break;
            };
            batch.push(self.entry(session, delivery?, max_body).await?);
        }
        Ok(batch)
    }

    /// Returns the entry that was delivered, and asks for more from time to time.
    async fn entry(
        &mut self,
        session: &Session,
        delivery: Delivery,
        max_body: usize,
    ) -> Result<Entry, Fault> {
        self.unacked += 1;
        if self.unacked >= ACK_EVERY {
            let ack = delivery.acker.ack(BasicAckOptions { multiple: true });
            session.request("basic.ack", ack).await?;
            self.unacked = 0;
        }
        let size = delivery.data.len();
        let body = if size <= max_body { delivery.data } else { vec![] };
        let message = to_message(&delivery.properties, body);
        let offset = message.headers.get("x-stream-offset").and_then(|offset| offset.parse().ok());
        let offset = offset
            .ok_or_else(|| Fault::Transient("the broker sent an entry without an offset".to_owned()))?;
        Ok(Entry { offset, size, message })
    }
}
