//! The clients of the broker and of the config server over TLS, with certificates as they should be and as they should not.
//!
//! `cargo test -p e2e --features tls --test tls`

#![allow(clippy::unwrap_used, reason = "a failed expectation should stop the test")]

mod certificates;
mod broker;
mod config_server;
