//! receive_logs_headers: prints the messages that match all, or any, of the headers that you name.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_headers all format=pdf type=report
//! terminal 2   cargo run --bin receive_logs_headers any format=pdf type=report
//! terminal 3   cargo run --bin emit_log_headers format=pdf type=report the year in numbers
//!              cargo run --bin emit_log_headers format=pdf type=invoice 12 carrots
//! ```
//!
//! Terminal 1 prints `the year in numbers`; terminal 2 also prints `12 carrots`.

use std::process::ExitCode;

use examples::{
    Failure, Result, Terminal,
    amqp::{body, consume, table, text},
    say,
};
use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("receive_logs_headers.rs"), receive_logs_headers).await
}

async fn receive_logs_headers(terminal: &Terminal) -> Result {
    let wanted = match terminal.words() {
        [all_or_any, headers @ ..] if ["all", "any"].contains(&all_or_any.as_str()) => {
            let headers = headers.iter().filter_map(|word| word.split_once('='));
            table([("x-match", all_or_any.as_str())].into_iter().chain(headers).map(|(n, v)| (n, text(v))))?
        }
        _ => return Err(Failure::usage("write `all` or `any`, and headers, as in `all format=pdf`")),
    };
    let channel = terminal.channel().await?;
    let (name, durable) = ("headers_logs", ExchangeDeclareOptions { durable: true, ..Default::default() });
    channel.exchange_declare(name.into(), ExchangeKind::Headers, durable, FieldTable::default()).await?;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), mine, FieldTable::default()).await?.name().clone();
    channel.queue_bind(queue.clone(), name.into(), "".into(), QueueBindOptions::default(), wanted).await?;

    let consumer = consume(&channel, queue.as_str(), 10).await?;
    say!("waiting for {}; Ctrl-C stops it", terminal.words().join(" "));
    let print = async |delivery: &_| {
        say!("{}", body(delivery));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
