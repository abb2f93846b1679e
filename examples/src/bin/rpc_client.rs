//! rpc_client: sends a request as a message, and waits up to two seconds for the reply.
//!
//! Replies arrive through `amq.rabbitmq.reply-to`, which needs no queue. A late reply is dropped, because it does
//! not belong to the current request. If there is no server, the broker returns the request at once.
//!
//! ```text
//! terminal 1   cargo run --bin rpc_server
//! terminal 2   cargo run --bin rpc_client 30 31
//! ```
//!
//! Terminal 2 prints `fib(30) = 832040` and `fib(31) = 1346269`; without terminal 1, it prints an error.

use std::{process::ExitCode, time::Duration};

use examples::{
    Failure, Result, Terminal,
    amqp::{body, mandatory},
    say,
};
use futures_util::StreamExt as _;
use lapin::{BasicProperties, Channel, Consumer, options::BasicConsumeOptions, types::FieldTable};
use tokio::time::timeout;

const REPLIES: &str = "amq.rabbitmq.reply-to";

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("rpc_client.rs"), rpc_client).await
}

async fn rpc_client(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut replies = channel.basic_consume(REPLIES.into(), "".into(), no_ack, FieldTable::default()).await?;
    let mut unanswered = vec![];
    for n in terminal.text("30 31").split_whitespace() {
        match timeout(Duration::from_secs(2), ask(&channel, &mut replies, n)).await {
            Ok(answer) => say!("fib({n}) = {}", answer?),
            Err(_) => unanswered.push(format!("fib({n}) was not answered within 2 s")),
        }
    }
    if unanswered.is_empty() { Ok(()) } else { Err(Failure::new(&unanswered.join(", "))) }
}

async fn ask(channel: &Channel, replies: &mut Consumer, n: &str) -> Result<String> {
    let id = uuid::Uuid::now_v7().to_string();
    let properties = BasicProperties::default().with_correlation_id(id.as_str().into());
    let (properties, options) = (properties.with_reply_to(REPLIES.into()), mandatory());
    let sent = channel.basic_publish("".into(), "rpc_queue".into(), options, n.as_bytes(), properties);
    if sent.await?.await?.take_message().is_some() {
        return Err(Failure::new("no server for rpc_queue: start `cargo run --bin rpc_server`"));
    }
    while let Some(reply) = replies.next().await.transpose()? {
        match reply.properties.correlation_id() {
            Some(of) if of.as_str() == id => return Ok(body(&reply)),
            _ => say!("dropped a late reply"),
        }
    }
    Err(Failure::new("the connection to the broker is lost"))
}
