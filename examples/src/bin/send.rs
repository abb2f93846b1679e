//! send: one message into one queue.
//!
//! The shortest way from one program to another: whoever is to get the message need not be there, since a
//! queue keeps it. The queue is durable and the message persistent, so that both outlive the broker's own
//! restart; "sent" is printed when the broker has confirmed that it has the message, and not before.
//!
//! ```text
//! terminal 1   cargo run --bin receive
//! terminal 2   cargo run --bin send Hello, rabbit
//! ```
//!
//! Terminal 2 prints `sent Hello, rabbit`, and terminal 1 `received Hello, rabbit`. Send first and start
//! `receive` later: it gets the message all the same. In Python, `receive` is `examples/python/receive.py`.

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

    // The exchange without a name puts a message into the queue that its routing key names.
    let text = terminal.text("Hello, rabbit");
    publish(&channel, "", "hello", BasicProperties::default(), &text).await?;
    say!("sent {text}");
    Ok(())
}
