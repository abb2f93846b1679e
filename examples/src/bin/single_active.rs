//! single_active: several stand ready, one works.
//!
//! Where the order of messages counts, two workers must not take turns. A queue with
//! `x-single-active-consumer` delivers to the first of its consumers alone; when that one goes, the next
//! takes over, with what was not acknowledged, in order.
//!
//! ```text
//! terminal 1   cargo run --bin single_active
//! terminal 2   cargo run --bin single_active
//! terminal 3   cargo run --bin single_active one
//!              cargo run --bin single_active two
//! ```
//!
//! Terminal 1 prints both, `received one` and `received two`. After Ctrl-C there, or `kill -9`, terminal 2
//! gets what comes next.

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
        say!("waiting for messages, or for my turn; Ctrl-C ends it");
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
