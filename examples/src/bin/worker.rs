//! worker: does the tasks of `new_task`; a task takes one second for each dot.
//!
//! Start several workers: the broker gives each task to one of them. With a prefetch of one, the next task goes to
//! a worker that is free. A task is acknowledged after it is done: kill a worker in the middle of a task
//! (`kill -9`), and another one does it again from the start.
//!
//! ```text
//! terminal 1   cargo run --bin worker
//! terminal 2   cargo run --bin worker
//! terminal 3   cargo run --bin new_task "a PDF of Ann's CV..."
//! ```
//!
//! A worker prints `received a PDF of Ann's CV...` and, after three seconds, `done`; it adds `again` if the task
//! was delivered before. After Ctrl-C it first finishes its task.

use std::{process::ExitCode, time::Duration};

use examples::{
    Result, Terminal, say,
    system::{finish, queue, text},
};
use messaging::{ConsumeOptions, MessagingClient as _, Outcome, handler};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("worker.rs"), worker).await
}

async fn worker(terminal: &Terminal) -> Result {
    let client = terminal.client(queue("task_queue", "quorum")).await?;
    // RabbitMQ itself revokes a delivery after half an hour.
    let handler_timeout = Duration::from_secs(1800).into();
    let options = ConsumeOptions { prefetch: 1, handler_timeout, retry_policy: None };
    let work = handler(async |delivery| {
        let task = text(&delivery);
        say!("received {task}{}", if delivery.redelivered { ", again" } else { "" });
        for _dot in task.matches('.') {
            sleep(Duration::from_secs(1)).await;
        }
        say!("done");
        Outcome::Ack
    });
    let consumer = [client.subscribe_to_queue("task_queue", options, work)];
    terminal.until_active(&consumer).await;
    say!("waiting for tasks; Ctrl-C stops it");
    terminal.stopped().await;
    finish(&consumer).await;
    Ok(())
}
