//! receive_logs: prints every message of `emit_log`, from now on.
//!
//! Each listener has an exclusive queue of its own: the broker generates its name, and deletes it when the
//! listener disconnects. If two listeners shared one queue, they would share the messages, as workers do.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs
//! terminal 2   cargo run --bin receive_logs
//! terminal 3   cargo run --bin emit_log the disk is full
//! ```
//!
//! Terminals 1 and 2 print `waiting for logs; Ctrl-C stops it`, and then both print `the disk is full`.

use std::process::ExitCode;

use examples::{
    Result, Terminal,
    amqp::{body, consume},
    say,
};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("receive_logs.rs"), receive_logs).await
}

async fn receive_logs(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare("logs".into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;

    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), mine, FieldTable::default()).await?.name().clone();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.clone(), "logs".into(), "".into(), options, arguments).await?;

    let consumer = consume(&channel, queue.as_str(), 10).await?;
    say!("waiting for logs; Ctrl-C stops it");
    let print = async |delivery: &_| {
        say!("{}", body(delivery));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
