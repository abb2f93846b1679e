//! receive: gets what `send` has sent.
//!
//! Each message is acknowledged when it was printed: a program that dies before has lost none, the broker
//! delivers it again. With a prefetch of one the broker sends the next message when this one is acknowledged.
//!
//! ```text
//! terminal 1   cargo run --bin receive
//! terminal 2   cargo run --bin send Hello, rabbit
//! ```
//!
//! Terminal 1 prints `waiting for messages; Ctrl-C ends it`, and then `received Hello, rabbit`.

use std::process::ExitCode;

use examples::{
    Result, Terminal,
    amqp::{body, quorum},
    say,
};
use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("receive.rs"), receive).await
}

async fn receive(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    // As `send` does: whoever comes first makes the queue, and both agree on what it is.
    channel.queue_declare("hello".into(), QueueDeclareOptions::durable(), quorum()?).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    // A consumer without a name gets one from the broker.
    let (name, options) = (ShortString::default(), BasicConsumeOptions::default());
    let consumer = channel.basic_consume("hello".into(), name, options, FieldTable::default()).await?;
    say!("waiting for messages; Ctrl-C ends it");

    let print = async |delivery: &_| {
        say!("received {}", body(delivery));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
