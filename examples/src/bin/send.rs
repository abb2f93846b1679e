//! send: publishes one message to one queue.
//!
//! The simplest way from one program to another: the receiver does not have to run, because a queue keeps the
//! message. The queue is durable and the message persistent, so that both survive a restart of the broker; "sent"
//! is printed only after the broker has confirmed the message.
//!
//! ```text
//! terminal 1   cargo run --bin receive
//! terminal 2   cargo run --bin send Hello, rabbit
//! ```
//!
//! Terminal 2 prints `sent Hello, rabbit`, and terminal 1 `received Hello, rabbit`. You can also send first and
//! start `receive` later. `examples/python/receive.py` is `receive` in Python.

use std::process::ExitCode;

use examples::{
    Result, Terminal,
    amqp::{publish, quorum},
    say,
};
use lapin::{BasicProperties, options::QueueDeclareOptions};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("send.rs"), send).await
}

async fn send(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    channel.queue_declare("hello".into(), QueueDeclareOptions::durable(), quorum()?).await?;

    // The exchange without a name puts a message into the queue that the routing key names.
    let text = terminal.text("Hello, rabbit");
    publish(&channel, "", "hello", BasicProperties::default(), &text).await?;
    say!("sent {text}");
    Ok(())
}
