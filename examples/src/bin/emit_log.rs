//! emit_log: sends one message to every listener.
//!
//! A fanout exchange copies each message into every queue that is bound to it. The sender knows none of these
//! queues; if there is none, the message is dropped, and that is no error.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs
//! terminal 2   cargo run --bin receive_logs
//! terminal 3   cargo run --bin emit_log the disk is full
//! ```
//!
//! Both listeners print `the disk is full`. A listener that starts later does not get this message: for that, see
//! `stream_replay`.

use std::process::ExitCode;

use examples::{Result, Terminal, amqp::publish, say};
use lapin::{BasicProperties, ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("emit_log.rs"), emit_log).await
}

async fn emit_log(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare("logs".into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;

    let line = terminal.text("the disk is full");
    // A fanout exchange ignores the routing key.
    publish(&channel, "logs", "", BasicProperties::default(), &line).await?;
    say!("sent {line}");
    Ok(())
}
