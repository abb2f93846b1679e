//! The page "See it" in a real browser, Debian's Chromium, beside a real system.
//!
//! - `page`: the page as a person uses it
//! - `walk`: everything that can be done on it, and the recording that it saves
//! - `count`: the cards are the broker's messages, after many reads and two kills
//! - `changes`: a change to an account, and how it reaches the replicas
//! - `modules`: the page's own tests, without a browser
//! - `pictures`: screenshots and the recording of `cargo hops tour`
//!
//! These tests bring their own broker and are the same on every other, so they do not run on RabbitMQ again.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

#[expect(dead_code, reason = "the other tests of this crate use more of it")]
#[path = "../it/checkout.rs"]
mod checkout;
mod page;
mod walk;
mod count;
mod changes;
mod modules;
mod pictures;
