//! `cargo hops` as a person uses it: real processes, a real broker, real signals.
//!
//! - `life`: up, down, and failures in between
//! - `service`: Docker's verbs
//! - `messages`: `read`, `walk`, `queues`, `verify` and `tour`
//! - `live`: the page's server
//! - `broker`: the development broker, which `up` starts itself
//! - `swarm`: the verbs for the stack on Docker Swarm, beside a `docker` that answers what a test wants
//! - `env`: a shell with the settings for other ports

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod checkout;
mod life;
mod service;
mod messages;
mod live;
mod broker;
mod swarm;
mod env;
