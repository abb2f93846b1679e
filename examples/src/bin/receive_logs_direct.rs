//! receive_logs_direct: prints the messages of the severities that you name.
//!
//! A queue can have several bindings, here one for each severity.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_direct error
//! terminal 2   cargo run --bin receive_logs_direct error info
//! terminal 3   cargo run --bin emit_log_direct error the disk is full
//!              cargo run --bin emit_log_direct info a guest has come
//! ```
//!
//! Terminal 1 prints `error: the disk is full`; terminal 2 also prints `info: a guest has come`.

use std::process::ExitCode;

use examples::{
    Failure, Result, Terminal,
    amqp::{body, consume, short},
    say,
};
use lapin::{
    ExchangeKind,
    message::Delivery,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("receive_logs_direct.rs"), receive_logs_direct).await
}

async fn receive_logs_direct(terminal: &Terminal) -> Result {
    if terminal.words().is_empty() {
        return Err(Failure::usage("name one or more severities, such as `error info`"));
    }
    let channel = terminal.channel().await?;
    let (name, durable) = ("direct_logs", ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), mine, FieldTable::default()).await?.name().clone();
    for severity in terminal.words() {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), name.into(), short(severity)?, options, arguments).await?;
    }
    let consumer = consume(&channel, queue.as_str(), 10).await?;
    say!("waiting for {}; Ctrl-C stops it", terminal.words().join(" and "));
    let print = async |delivery: &Delivery| {
        say!("{}: {}", delivery.routing_key, body(delivery));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
