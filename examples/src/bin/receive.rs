//! receive: consumes the messages of `send`.
//!
//! Each message is acknowledged after it is printed: if the program dies before that, the broker delivers the
//! message again. With a prefetch of one, the broker sends the next message after this acknowledgment.
//!
//! ```text
//! terminal 1   cargo run --bin receive
//! terminal 2   cargo run --bin send Hello, rabbit
//! ```
//!
//! Terminal 1 prints `waiting for messages; Ctrl-C stops it`, and then `received Hello, rabbit`.

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
    // `send` declares the same queue: the first program creates it, and both agree on its arguments.
    channel.queue_declare("hello".into(), QueueDeclareOptions::durable(), quorum()?).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    // The broker generates a name for a consumer without one.
    let (name, options) = (ShortString::default(), BasicConsumeOptions::default());
    let consumer = channel.basic_consume("hello".into(), name, options, FieldTable::default()).await?;
    say!("waiting for messages; Ctrl-C stops it");

    let print = async |delivery: &_| {
        say!("received {}", body(delivery));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
