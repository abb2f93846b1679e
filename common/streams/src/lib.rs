//! Reading the newest entries of a stream, and following it: <https://www.rabbitmq.com/docs/streams#consuming>.
//!
//! Most services read no stream, so this is a crate of its own beside [`MessagingClient`](messaging::MessagingClient).
//! Appending to a stream is an ordinary publish, and stays there.
//! - this file: the interface
//! - `amqp`: the reader, over the connection of an [`AmqpClient`]

mod amqp;

use std::{
    fmt,
    future::{Future, ready},
};

use messaging::{Message, Subscription, amqp::AmqpClient, metrics::gauges};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// Value of the gauge while the stream is not read.
const UNREAD: i64 = -1;

/// A function that is called with each step of a replay.
pub type StreamReader = Box<dyn FnMut(Replay) + Send>;

/// A step of a replay.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are entries, and one is held at a time")]
pub enum Replay {
    /// Reading begins, and what was read before is void: it belongs to another stream, or is read again after older
    /// entries.
    Restarted {
        /// Offset of the stream's last entry; `None` if it is empty.
        end: Option<u64>,
    },
    /// The next entry and its offset. Offsets grow, not always by one.
    Entry(u64, Message),
    /// An entry with a larger body than is read, its offset and its size in bytes. It was logged.
    TooLarge(u64, usize),
    /// All entries that were in the stream when reading began have been read.
    CaughtUp,
}

/// The part of a stream that is read before it is followed.
pub struct ReplayOptions {
    /// Number of offsets before the end at which reading begins. If that is not enough, reading begins again with twice
    /// as many, until it has begun at the first entry.
    pub length: u64,
    /// Returns whether a replay that began at this offset is enough; called when all entries are read.
    pub is_enough: Box<dyn Fn(u64) -> bool + Send + Sync>,
    /// Largest body in bytes; an entry with a larger one is logged, and only its size is handed over.
    pub max_body: usize,
    /// Offset and message id of an entry that was read in an earlier run, behind which reading goes on. If the stream has another
    /// entry there, or none, reading begins as without it.
    pub after: Option<(u64, Option<String>)>,
    /// Gauge of the entries that are known and not yet handed over, as [`behind`] registers it.
    pub behind: Gauge,
}

/// Registers the gauge of a stream for [`ReplayOptions::behind`].
pub fn behind(registry: &mut Registry, stream: &str) -> Gauge {
    let help = "Entries of a stream that this replica has not applied, by their offsets: of those that were there when reading \
                began, and of those that arrived since; -1 while the stream is not read";
    let gauge =
        gauges(registry, "stream_behind", help).get_or_create(&[("stream", stream.to_owned())]).clone();
    gauge.set(UNREAD);
    gauge
}

impl ReplayOptions {
    /// Reads the whole stream, with entries of any size.
    #[must_use]
    pub fn whole() -> Self {
        let (length, max_body) = (u64::MAX, usize::MAX);
        Self { length, is_enough: Box::new(|_| true), max_body, after: None, behind: Gauge::default() }
    }
}

impl fmt::Debug for ReplayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, max_body, after, .. } = self;
        f.debug_struct("ReplayOptions")
            .field("length", length)
            .field("max_body", max_body)
            .field("after", after)
            .finish_non_exhaustive()
    }
}

/// Reads a part of a stream up to its end, each entry once and in order, and follows it until the subscription is
/// cancelled or the client is closed.
pub fn replay(
    client: &AmqpClient,
    stream: &str,
    options: ReplayOptions,
    mut reader: StreamReader,
) -> Subscription {
    replay_batches(client, stream, options, move |steps| {
        steps.into_iter().for_each(&mut reader);
        ready(())
    })
}

/// Reads as [`replay`] does, and calls the reader with all steps that have arrived, at least one and at most 500. It reads on when
/// the reader's future is done, so the broker holds back what a slow reader has no time for.
pub fn replay_batches<F: Future<Output = ()> + Send + 'static>(
    client: &AmqpClient,
    stream: &str,
    options: ReplayOptions,
    reader: impl FnMut(Vec<Replay>) -> F + Send + 'static,
) -> Subscription {
    let (link, stream) = (client.link().clone(), stream.to_owned());
    client.start_consumer(|stop, state| amqp::read(link, stream, options, reader, stop, state))
}
