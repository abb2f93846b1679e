//! Reading over AMQP, with a consumer that begins at an offset.
//!
//! An offset is valid in one stream only, and a reader at an offset beyond the end of a stream that was deleted and
//! declared again gets nothing and no error. So after each loss of the connection the reader finds the end of the
//! stream, and reads the last entry that it knows once more: if it is another one, reading begins again.

use std::time::Duration;

use backoff::Backoff;
use futures_util::StreamExt;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use messaging::{
    ConsumerStateSender, Message,
    amqp::{Fault, Link, Session, close_channel, short, to_message},
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Replay, StreamReader};

/// Most entries in flight.
const PREFETCH: u16 = 500;
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
    /// Whether all entries that were there at the start have been read.
    caught_up: bool,
}

/// Reads a stream until `stop`, on one connection after the other.
pub(super) async fn read(
    link: Link,
    stream: String,
    mut reader: StreamReader,
    stop: CancellationToken,
    state: ConsumerStateSender,
) {
    let mut progress = Progress::default();
    let mut backoff = Backoff::default();
    let what = format!("reading stream {stream}");
    let read = async {
        while let Some(session) = link.session().await {
            let end = follow(&link, &session, &stream, &mut reader, &mut progress, &state).await;
            state.set_active(false);
            match end {
                Ok(()) => backoff.reset(),
                Err(fault) => link.recover(&session, &what, &fault, &mut backoff).await,
            }
        }
    };
    let _ = stop.run_until_cancelled(read).await;
}

/// Reads on one channel. `Ok` means to begin again at once, from the progress as it is now.
async fn follow(
    link: &Link,
    session: &Session,
    stream: &str,
    reader: &mut StreamReader,
    progress: &mut Progress,
    state: &ConsumerStateSender,
) -> Result<(), Fault> {
    let end = last_offset(link, session, stream, progress.position.is_some()).await?;
    if progress.position.as_ref().is_some_and(|(offset, _)| end.is_none_or(|end| end < *offset)) {
        *progress = Progress::default();
    }
    let start = match &progress.position {
        Some((offset, _)) => AMQPValue::LongLongInt(i64::try_from(*offset).unwrap_or(i64::MAX)),
        None => {
            *progress = Progress::default();
            reader(Replay::Restarted);
            AMQPValue::LongString("first".into())
        }
    };
    let mut entries = Entries::open(session, stream, start).await?;
    state.set_active(true);
    let mut known = progress.position.clone();
    loop {
        let read = progress.position.as_ref().map(|(offset, _)| *offset);
        if !progress.caught_up && known.is_none() && end.is_none_or(|end| read >= Some(end)) {
            reader(Replay::CaughtUp);
            progress.caught_up = true;
        }
        let (offset, message) = entries.next(session).await?;
        if let Some(known) = known.take() {
            if known == (offset, message.id.clone()) {
                continue;
            }
            tracing::warn!("stream {stream} was deleted and declared again: reading it from its first entry");
            *progress = Progress::default();
            close_channel(&entries.channel).await;
            return Ok(());
        }
        progress.position = Some((offset, message.id.clone()));
        reader(Replay::Entry(offset, message));
    }
}

/// Returns the offset of the last entry, or `None` for an empty stream. If there was an entry before, it waits longer
/// before it returns `None`.
async fn last_offset(
    link: &Link,
    session: &Session,
    stream: &str,
    seen_before: bool,
) -> Result<Option<u64>, Fault> {
    let mut entries = Entries::open(session, stream, AMQPValue::LongString("last".into())).await?;
    let options = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
    let declare = entries.channel.queue_declare(short(stream)?, options, FieldTable::default());
    let count = session.request("queue.declare", declare).await?.message_count();
    // The count lags behind: more than zero is right, zero may be wrong.
    let sure = count > 0 || seen_before;
    let mut deadline = Instant::now() + if sure { link.limit() } else { LAST_CHUNK_TIMEOUT };
    let (mut last, mut latest) = (None, None);
    while let Ok(entry) = timeout_at(deadline, entries.next(session)).await {
        last = Some(entry?.0);
        let latest = *latest.get_or_insert_with(|| Instant::now() + PROBE_TIMEOUT);
        deadline = latest.min(Instant::now() + LAST_CHUNK_TIMEOUT);
    }
    if last.is_none() && count > 0 {
        return Err(Fault::Transient("the stream has entries and the broker delivers none".into()));
    }
    close_channel(&entries.channel).await;
    Ok(last)
}

/// The entries of a stream, from a consumer on a channel of its own.
struct Entries {
    channel: Channel,
    consumer: lapin::Consumer,
    unacked: u32,
}

impl Entries {
    async fn open(session: &Session, stream: &str, start: AMQPValue) -> Result<Self, Fault> {
        let channel = session.channel().await?;
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        session.request("basic.qos", qos).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), start);
        let tag = ShortString::default();
        let consume = channel.basic_consume(short(stream)?, tag, BasicConsumeOptions::default(), arguments);
        let consumer = session.request("basic.consume", consume).await?;
        Ok(Self { channel, consumer, unacked: 0 })
    }

    async fn next(&mut self, session: &Session) -> Result<(u64, Message), Fault> {
        let broken = |why: &str| Fault::Transient(why.to_owned());
        let next = session.while_up(self.consumer.next()).await;
        let delivery = match next.ok_or_else(|| broken("the connection is lost"))? {
            Some(delivery) => delivery?,
            None => {
                return Err(broken("the broker canceled the reader, the stream may be deleted"));
            }
        };
        self.unacked += 1;
        if self.unacked >= ACK_EVERY {
            let ack = delivery.acker.ack(BasicAckOptions { multiple: true });
            session.request("basic.ack", ack).await?;
            self.unacked = 0;
        }
        let message = to_message(&delivery.properties, delivery.data);
        let offset = message.headers.get("x-stream-offset").and_then(|offset| offset.parse().ok());
        Ok((offset.ok_or_else(|| broken("the broker sent an entry without an offset"))?, message))
    }
}
