//! The examples as a person runs them: each in a process of its own, on a broker, with its output checked.
//!
//! - `kit`: a virtual host, and programs that meet there,
//! - `patterns`: what each pattern's header promises; one function each, which answers what stands in the table,
//! - `probes`: rules of the brokers that a pattern runs into, where not all brokers have the same,
//! - `table`: the table of docs/PATTERNS.md, held against what the broker of this run did,
//! - `ends`: Ctrl-C, `kill -9`, questions without an answer,
//! - `trouble`: no broker, a wrong password, a queue that is another one, a mistyped word, a cut,
//! - `python`: the other side in another language,
//! - `sources`: what is promised of the programs' texts.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod kit;
mod patterns;
mod probes;
mod table;
mod ends;
mod trouble;
mod python;
mod sources;
