//! Reading a stream from its first entry on, and following it: <https://www.rabbitmq.com/docs/streams#consuming>.
//!
//! Most services read no stream, so this is a crate of its own beside [`MessagingClient`](messaging::MessagingClient).
//! Appending to a stream is an ordinary publish, and stays there.
//! - this file: the interface
//! - `amqp`: the reader, over the connection of an [`AmqpClient`]

mod amqp;

use messaging::{Message, Subscription, amqp::AmqpClient};

/// A function that is called with each step of a replay.
pub type StreamReader = Box<dyn FnMut(Replay) + Send>;

/// A step of a replay.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are entries, and one is held at a time")]
pub enum Replay {
    /// The stream is read from its first entry; what was read before belongs to another stream.
    Restarted,
    /// The next entry and its offset. Offsets grow, not always by one.
    Entry(u64, Message),
    /// All entries that were in the stream when reading began have been read.
    CaughtUp,
}

/// Reads a stream from its first entry on, each entry once and in order, and follows it until the subscription is
/// cancelled or the client is closed.
pub fn replay(client: &AmqpClient, stream: &str, reader: StreamReader) -> Subscription {
    let (link, stream) = (client.link().clone(), stream.to_owned());
    client.start_consumer(|stop, state| amqp::read(link, stream, reader, stop, state))
}
