//! The configserver as its clients see it: a whole server on a port of its own, and HTTP by hand.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod cases;
mod http;
mod kit;
