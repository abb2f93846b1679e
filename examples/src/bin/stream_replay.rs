//! stream_replay: reads a stream from its first entry, and then follows it.
//!
//! Reading removes nothing: start two of them, or the same one twice, and each prints all entries. When a reader
//! of a stream acknowledges an entry, it asks for more, and removes nothing. A queue cannot be replayed, but
//! RabbitMQ has had streams since 3.9.
//!
//! ```text
//! terminal 1   cargo run --bin stream_append the first entry
//!              cargo run --bin stream_append the second
//! terminal 2   cargo run --bin stream_replay
//! ```
//!
//! Terminal 2 prints `0 the first entry`, `1 the second`, then `that is all so far; Ctrl-C stops it`, and later
//! each new entry.

use std::process::ExitCode;

use examples::{
    Result, Terminal, say,
    system::{finish, queue},
};
use streams::{Replay, ReplayOptions};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("stream_replay.rs"), stream_replay).await
}

async fn stream_replay(terminal: &Terminal) -> Result {
    let client = terminal.client(queue("diary", "stream")).await?;
    let read = |step| match step {
        Replay::Restarted { .. } => say!("reading from the first entry"),
        Replay::Entry(offset, entry) => say!("{offset} {}", String::from_utf8_lossy(&entry.body)),
        Replay::TooLarge(offset, size) => say!("{offset} has {size} bytes, which is too much"),
        Replay::CaughtUp => say!("that is all so far; Ctrl-C stops it"),
    };
    let reader = [streams::replay(client, "diary", ReplayOptions::whole(), Box::new(read))];
    terminal.stopped().await;
    finish(&reader).await;
    Ok(())
}
