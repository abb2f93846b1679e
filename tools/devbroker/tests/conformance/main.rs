//! The behavior of a broker as a client sees it, written against AMQP 0-9-1 alone: nothing of this project is under test here but
//! `tools/devbroker`, and the client is not the project's.
//!
//! RabbitMQ 4.0 is the reference. `HOPS_BROKER` names the broker to compare with it; by default that is devbroker.
//! Where another broker may answer differently, [`differences`] lists that with the reason. A difference that is listed and no
//! longer exists fails a test like a new one.
//!
//! - `kit`: a client of lapin's with short names, and one that sends and receives every frame itself,
//! - `differences`: the allowed ones,
//! - `negotiation`, `frames`, `channels`, `closing`: connections and channels, and how they are closed,
//! - `queues`, `arguments`, `deleting`, `exchanges`, `routing`: declarations, and where messages go,
//! - `publishing`, `confirms`: messages are delivered unchanged, and confirmed when the broker has them,
//! - `consuming`, `prefetch`, `settling`, `ordering`: deliveries, and their order,
//! - `expiry`, `limits`: messages that queues drop or dead-letter by themselves,
//! - `dead_letters`, `death_stories`, `at_least_once`: dead letters and their failure history,
//! - `quorum`, `streams`, `stream_rules`: where these types of queue differ,
//! - `reply_to`: requests and their replies,
//! - `firehose`: the events of messages, for debugging,
//! - `pika`: a client from outside this project, with its typical programs.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod kit;
mod differences;
mod negotiation;
mod frames;
mod channels;
mod closing;
mod queues;
mod arguments;
mod deleting;
mod exchanges;
mod routing;
mod publishing;
mod confirms;
mod consuming;
mod prefetch;
mod settling;
mod ordering;
mod expiry;
mod failures;
mod limits;
mod dead_letters;
mod death_stories;
mod at_least_once;
mod quorum;
mod streams;
mod stream_rules;
mod reply_to;
mod firehose;
mod pika;
