//! `cargo hops` as a person uses it: real processes, a real broker, real signals.
//!
//! - `life`: up, down, and everything that goes wrong between them
//! - `service`: Docker's verbs
//! - `messages`: what becomes of a message, of messages, and of all of them
//! - `broker`: the one that `up` starts itself

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod checkout;
mod life;
mod service;
mod messages;
mod broker;
