//! stream_append: appends an entry to a stream, which keeps it.
//!
//! A queue deletes a message once it is acknowledged. A stream is a log: its entries stay, each with its offset,
//! and any reader can read them from the first one as often as it likes. The system stores its offers in a
//! stream.
//!
//! ```text
//! terminal 1   cargo run --bin stream_append the first entry
//!              cargo run --bin stream_append the second
//! terminal 2   cargo run --bin stream_replay
//! ```
//!
//! Terminal 1 prints `appended the first entry`; terminal 2 prints all entries with their offsets.

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
