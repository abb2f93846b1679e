//! Tests of the examples: each runs in a process of its own, on a broker, and its output is checked.
//!
//! - `kit`: a virtual host, and programs that run on it,
//! - `patterns`: checks of each program's header; one function each, which returns a cell of the table,
//! - `accounts`: the same for the subscriber of the accountservice's events,
//! - `operations`: the same for the programs about virtual hosts and the firehose,
//! - `probes`: rules that affect a pattern and differ among brokers,
//! - `table`: compares the table of docs/PATTERNS.md with the results on this run's broker,
//! - `ends`: Ctrl-C, `kill -9`, and requests without a reply,
//! - `trouble`: no broker, a wrong password, a queue with other arguments, a mistyped word, a cut connection,
//! - `python`: a receiver in another language,
//! - `walkthrough`: the chapters that run examples,
//! - `sources`: rules for the programs' source texts.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod kit;
mod patterns;
mod accounts;
mod operations;
mod probes;
mod table;
mod ends;
mod trouble;
mod python;
mod walkthrough;
mod sources;
