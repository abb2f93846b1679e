//! receive_logs_topic: prints the messages whose topics match your patterns.
//!
//! All patterns are bindings of one queue, so a message that matches several of them arrives once.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_topic 'stock.us.*'
//! terminal 2   cargo run --bin receive_logs_topic 'audit.#' '*.news'
//! terminal 3   cargo run --bin emit_log_topic stock.us.nyse up by 2
//!              cargo run --bin emit_log_topic audit.login.failed guest
//!              cargo run --bin emit_log_topic sports.news a rabbit wins
//! ```
//!
//! Terminal 1 prints `stock.us.nyse: up by 2`, terminal 2 the other two. The quotes keep the shell from expanding
//! the `*`.

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
    examples::run(include_str!("receive_logs_topic.rs"), receive_logs_topic).await
}

async fn receive_logs_topic(terminal: &Terminal) -> Result {
    if terminal.words().is_empty() {
        return Err(Failure::usage("name one or more patterns, such as 'stock.us.*' or '#' for all of them"));
    }
    let channel = terminal.channel().await?;
    let (name, durable) = ("topic_logs", ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel.exchange_declare(name.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), mine, FieldTable::default()).await?.name().clone();
    for pattern in terminal.words() {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), name.into(), short(pattern)?, options, arguments).await?;
    }
    let consumer = consume(&channel, queue.as_str(), 10).await?;
    say!("waiting for {}; Ctrl-C stops it", terminal.words().join(" and "));
    let print = async |delivery: &Delivery| {
        say!("{}: {}", delivery.routing_key, body(delivery));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
