//! What a client can see of a broker, written against AMQP 0-9-1 alone: nothing of this project is under test here but
//! `tools/devbroker`, and the client is not the project's.
//!
//! RabbitMQ 4.0 is the reference. `HOPS_BROKER` names the broker to be held against it; where another one may answer
//! otherwise, [`differences`] says so with the reason, and a difference that has gone is a failure like a new one.
//!
//! - `kit`: a connection of lapin's with short names for what a test does, and one that sees every frame,
//! - `differences`: the allowed ones,
//! - `negotiation`, `channels`: connections and channels, and how they end,
//! - `queues`, `exchanges`, `routing`: what can be declared, and where messages go,
//! - `publishing`, `confirms`: what comes out is what went in, and when the broker says so,
//! - `consuming`, `settling`, `ordering`: who gets what, how often, in which order,
//! - `expiry`, `limits`, `dead_letters`: what becomes of messages nobody takes,
//! - `quorum`, `streams`: what these kinds of queue do otherwise,
//! - `reply_to`: requests and their replies,
//! - `pika`: a client that nobody here wrote, with its typical programs.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod kit;
mod differences;
mod negotiation;
mod channels;
mod queues;
mod exchanges;
mod routing;
mod publishing;
mod confirms;
mod consuming;
mod settling;
mod ordering;
mod expiry;
mod limits;
mod dead_letters;
mod quorum;
mod streams;
mod reply_to;
mod pika;
