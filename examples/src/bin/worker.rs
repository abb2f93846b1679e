//! worker: does what `new_task` hands over, a second for each dot.
//!
//! Start several: the broker gives each task to one of them. With a prefetch of one, whoever is free gets the
//! next. A task is acknowledged when it is done: kill a worker in the middle (`kill -9`), and another one
//! begins it again.
//!
//! ```text
//! terminal 1   cargo run --bin worker
//! terminal 2   cargo run --bin worker
//! terminal 3   cargo run --bin new_task "a PDF of Ann's CV..."
//! ```
//!
//! A worker prints `received a PDF of Ann's CV...` and, after three seconds, `done`; it says `again` where
//! somebody has had the task before. Ctrl-C in between: the task is done to its end, and then the worker
//! goes.

use std::{process::ExitCode, sync::Arc, time::Duration};

use examples::{
    Result, Terminal, say,
    system::{finish, queue, text},
};
use messaging::{ConsumeOptions, MessagingClient as _, Outcome};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("worker.rs"), worker).await
}

async fn worker(terminal: &Terminal) -> Result {
    let client = terminal.client(queue("task_queue", "quorum")).await?;
    // RabbitMQ itself takes a delivery back after half an hour.
    let handler_timeout = Duration::from_secs(1800).into();
    let options = ConsumeOptions { prefetch: 1, handler_timeout, ladder: None };
    let work = Arc::new(|delivery| -> futures_util::future::BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let task = text(&delivery);
            say!("received {task}{}", if delivery.redelivered { ", again" } else { "" });
            for _dot in task.matches('.') {
                sleep(Duration::from_secs(1)).await;
            }
            say!("done");
            Outcome::Ack
        })
    });
    let consumer = [client.subscribe_to_queue("task_queue", options, work)];
    terminal.until_active(&consumer).await;
    say!("waiting for tasks; Ctrl-C ends it");
    terminal.stopped().await;
    finish(&consumer).await;
    Ok(())
}
