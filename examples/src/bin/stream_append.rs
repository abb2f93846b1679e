//! stream_append: adds an entry to a stream, which keeps it.
//!
//! A queue forgets a message when it is acknowledged. A stream is a log: entries stay, each with its offset,
//! and whoever comes can read them from the first one on, as often as they like. The system keeps its offers
//! in one.
//!
//! ```text
//! terminal 1   cargo run --bin stream_append the first entry
//!              cargo run --bin stream_append the second
//! terminal 2   cargo run --bin stream_replay
//! ```
//!
//! Terminal 1 prints `appended the first entry`; terminal 2 prints all of them, with their offsets.

use std::process::ExitCode;

use examples::{
    Result, Terminal, say,
    system::{message, queue},
    within,
};
use messaging::MessagingClient as _;

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("stream_append.rs"), stream_append).await
}

async fn stream_append(terminal: &Terminal) -> Result {
    let client = terminal.client(queue("diary", "stream")).await?;
    let entry = terminal.text("the first entry");
    within(client.append("diary", message(&entry))).await?;
    say!("appended {entry}");
    Ok(())
}
