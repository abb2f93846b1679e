//! emit_log_direct: sends a message with a severity to the listeners that want this severity.
//!
//! A direct exchange puts a message into the queues whose binding key equals the message's routing key, here
//! `error` or `info`. The key is an address, not a priority: an error does not overtake other messages.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_direct error
//! terminal 2   cargo run --bin receive_logs_direct error info
//! terminal 3   cargo run --bin emit_log_direct error the disk is full
//!              cargo run --bin emit_log_direct info a guest has come
//! ```
//!
//! Terminal 1 prints only the error, terminal 2 prints both, in the form `error: the disk is full`.

use std::process::ExitCode;

use examples::{Failure, Result, Terminal, amqp::publish, say};
use lapin::{BasicProperties, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("emit_log_direct.rs"), emit_log_direct).await
}

async fn emit_log_direct(terminal: &Terminal) -> Result {
    let [severity, line @ ..] = terminal.words() else {
        return Err(Failure::usage("the severity is missing, such as `error` or `info`"));
    };
    let channel = terminal.channel().await?;
    let (name, durable) = ("direct_logs", ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel.exchange_declare(name.into(), ExchangeKind::Direct, durable, FieldTable::default()).await?;

    let line = line.join(" ");
    publish(&channel, name, severity, BasicProperties::default(), &line).await?;
    say!("sent {severity}: {line}");
    Ok(())
}
