//! single_active: one consumer is active, and others are on standby.
//!
//! If the order of messages matters, two workers must not take turns. A queue with `x-single-active-consumer`
//! delivers only to the first of its consumers; when that one disconnects, the next one takes over, and gets the
//! unacknowledged messages in order.
//!
//! ```text
//! terminal 1   cargo run --bin single_active
//! terminal 2   cargo run --bin single_active
//! terminal 3   cargo run --bin single_active one
//!              cargo run --bin single_active two
//! ```
//!
//! Terminal 1 prints `received one` and `received two`. After you stop it with Ctrl-C or `kill -9`, terminal 2
//! gets the next messages.

use std::process::ExitCode;

use examples::{
    Result, Terminal,
    amqp::{body, consume, publish, table, text},
    say,
};
use lapin::{BasicProperties, options::QueueDeclareOptions, types::AMQPValue};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("single_active.rs"), single_active).await
}

async fn single_active(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let single_active = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let arguments = table([("x-queue-type", text("quorum")), single_active])?;
    channel.queue_declare("single_active".into(), QueueDeclareOptions::durable(), arguments).await?;
    if terminal.words().is_empty() {
        let consumer = consume(&channel, "single_active", 1).await?;
        say!("waiting for messages, or on standby; Ctrl-C stops it");
        let print = async |delivery: &_| {
            say!("received {}", body(delivery));
            Ok(())
        };
        return terminal.each(&channel, consumer, print).await;
    }
    let line = terminal.text("");
    publish(&channel, "", "single_active", BasicProperties::default(), &line).await?;
    say!("sent {line}");
    Ok(())
}
