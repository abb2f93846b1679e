//! emit_log_headers: sends a message that is routed by its headers.
//!
//! A headers exchange compares the message's headers with those that queues are bound with, and ignores the
//! routing key. It costs the broker more than a topic exchange; use it for criteria that do not form a sequence of
//! words.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_headers all format=pdf type=report
//! terminal 2   cargo run --bin receive_logs_headers any format=pdf type=report
//! terminal 3   cargo run --bin emit_log_headers format=pdf type=report the year in numbers
//!              cargo run --bin emit_log_headers format=pdf type=invoice 12 carrots
//! ```
//!
//! Terminal 1 prints `the year in numbers`, terminal 2 prints both.

use std::process::ExitCode;

use examples::{
    Result, Terminal,
    amqp::{publish, table, text},
    say,
};
use lapin::{BasicProperties, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("emit_log_headers.rs"), emit_log_headers).await
}

async fn emit_log_headers(terminal: &Terminal) -> Result {
    let headers = terminal.words().iter().map_while(|word| word.split_once('='));
    let headers: Vec<_> = headers.map(|(name, value)| (name, text(value))).collect();
    let line = terminal.words()[headers.len()..].join(" ");

    let channel = terminal.channel().await?;
    let (name, durable) = ("headers_logs", ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel.exchange_declare(name.into(), ExchangeKind::Headers, durable, FieldTable::default()).await?;
    let properties = BasicProperties::default().with_headers(table(headers)?);
    publish(&channel, name, "", properties, &line).await?;
    say!("sent {line}");
    Ok(())
}
