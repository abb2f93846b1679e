//! stream_replay: reads a stream from its first entry on, and follows it.
//!
//! Reading takes nothing away: start two of them, or the same one twice, and each sees all. The
//! acknowledgments of a stream's reader say "send more" and remove nothing. "Queues cannot be replayed" is
//! true; RabbitMQ has had streams since 3.9.
//!
//! ```text
//! terminal 1   cargo run --bin stream_append the first entry
//!              cargo run --bin stream_append the second
//! terminal 2   cargo run --bin stream_replay
//! ```
//!
//! Terminal 2 prints `0 the first entry`, `1 the second`, then `that is all so far; Ctrl-C ends it`, and what
//! is appended later.

use std::process::ExitCode;

use examples::{
    Result, Terminal, say,
    system::{finish, queue},
};
use messaging::{MessagingClient as _, Replay};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("stream_replay.rs"), stream_replay).await
}

async fn stream_replay(terminal: &Terminal) -> Result {
    let client = terminal.client(queue("diary", "stream")).await?;
    let read = |step| match step {
        Replay::Restarted => say!("reading from the first entry"),
        Replay::Entry(offset, entry) => say!("{offset} {}", String::from_utf8_lossy(&entry.body)),
        Replay::CaughtUp => say!("that is all so far; Ctrl-C ends it"),
    };
    let reader = [client.replay("diary", Box::new(read))];
    terminal.stopped().await;
    finish(&reader).await;
    Ok(())
}
