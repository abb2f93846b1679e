//! The page "See it": a server on this machine that shows the system's messages while they move.
//!
//! In reading order:
//! - [`event`]: what the page is told
//! - [`mod@line`]: a log line of a service as events
//! - [`merge`]: the events of all logs in the order of their times
//! - [`history`]: the recent events, and those of the messages that are still on their way
//! - [`system`]: what this crate asks of the system that it shows
//! - [`problem`]: the answer to a request that fails
//! - [`access`]: who may ask
//! - `page`: the page's files
//! - `viewer`: the stream of events for one browser
//! - `actions`: what a person can do on the page
//! - [`server`]: all of it together
//!
//! It knows no supervisor, no Docker and no AMQP, which are [`system::System`]'s; and no message ever waits for it, since
//! it learns everything from log lines.

pub mod event;
pub mod line;
pub mod merge;
pub mod history;
pub mod system;
pub mod problem;
pub mod access;
mod page;
mod viewer;
mod actions;
pub mod server;

pub use server::{Options, serve};
