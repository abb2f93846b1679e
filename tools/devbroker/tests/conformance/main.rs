//! What a client can see of a broker, written against AMQP 0-9-1 alone: nothing of this project is under test here but
//! `tools/devbroker`, and the client is not the project's.
//!
//! RabbitMQ 4.0 is the reference. `HOPS_BROKER` names the broker to be held against it, and without it that is devbroker.
//! Where another one may answer otherwise, [`differences`] says so with the reason, and a difference that has gone is
//! a failure like a new one.
//!
//! - `kit`: a connection of lapin's with short names for what a test does, and one that sees every frame,
//! - `differences`: the allowed ones,
//! - `negotiation`, `frames`, `channels`: connections and channels, and how they end,
//! - `queues`, `arguments`, `deleting`, `exchanges`, `routing`: what can be declared, and where messages go,
//! - `publishing`, `confirms`: what comes out is what went in, and when the broker says that it has it,
//! - `consuming`, `prefetch`, `settling`, `ordering`: who gets what, how much, how often, in which order,
//! - `expiry`, `limits`: what queues give up by themselves,
//! - `dead_letters`, `death_stories`, `at_least_once`: what becomes of messages that nobody takes,
//! - `quorum`, `streams`, `stream_rules`: what these kinds of queue do otherwise,
//! - `reply_to`: requests and their replies,
//! - `pika`: a client that nobody here wrote, with its typical programs.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod kit;
mod differences;
mod negotiation;
mod frames;
mod channels;
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
mod limits;
mod dead_letters;
mod death_stories;
mod at_least_once;
mod quorum;
mod streams;
mod stream_rules;
mod reply_to;
mod pika;
