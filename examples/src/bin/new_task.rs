//! new_task: hands over a task without waiting for it to be done.
//!
//! Imagine a site that makes a PDF of a CV on request, and a thousand requests at once. The web server puts each
//! request into a queue and answers at once; any number of workers take the tasks, each at its own pace. A dot in
//! the text stands for a second of work.
//!
//! ```text
//! terminal 1   cargo run --bin worker
//! terminal 2   cargo run --bin worker
//! terminal 3   cargo run --bin new_task "a PDF of Ann's CV..."
//!              cargo run --bin new_task "a PDF of Bo's CV."
//! ```
//!
//! Terminal 3 prints `queued a PDF of Ann's CV...`; one worker works for three seconds, while the other takes Bo's
//! task. The system sends its notifications with the same client and the same pattern: see `vip_queue` in
//! docs/ARCHITECTURE.md.

use std::process::ExitCode;

use examples::{
    Result, Terminal, say,
    system::{message, queue},
    within,
};
use messaging::MessagingClient as _;

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("new_task.rs"), new_task).await
}

async fn new_task(terminal: &Terminal) -> Result {
    let client = terminal.client(queue("task_queue", "quorum")).await?;
    let task = terminal.text("a PDF of Ann's CV...");
    within(client.publish_on_queue("task_queue", message(&task))).await?;
    say!("queued {task}");
    Ok(())
}
