//! rpc_server: answers questions that come by message: what is the nth Fibonacci number?
//!
//! A reply goes to the queue that the question names in `reply_to`, with the question's `correlation_id`. The
//! queue of questions goes away with the last server, so that a client without one learns it at once; and a
//! question that has waited for as long as clients do is dropped, since nobody waits for its answer any more.
//!
//! ```text
//! terminal 1   cargo run --bin rpc_server
//! terminal 2   cargo run --bin rpc_client 30 31
//! ```
//!
//! Terminal 1 prints `asked for fib(30)`, terminal 2 `fib(30) = 832040`. Several servers share the questions.

use std::process::ExitCode;

use examples::{
    Result, Terminal,
    amqp::{body, consume, number, publish, table},
    say,
};
use lapin::{BasicProperties, message::Delivery, options::QueueDeclareOptions};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("rpc_server.rs"), rpc_server).await
}

async fn rpc_server(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
    channel.queue_declare("rpc_queue".into(), options, table([("x-message-ttl", number(2000))])?).await?;
    let consumer = consume(&channel, "rpc_queue", 1).await?;
    say!("waiting for questions; Ctrl-C ends it");

    let answer = async |question: &Delivery| {
        say!("asked for fib({})", body(question));
        let answer = body(question).parse().ok().and_then(fib);
        let answer = answer.map_or("not known: ask for 0 to 92".to_owned(), |answer: u64| answer.to_string());
        let asked = &question.properties;
        if let (Some(reply_to), Some(id)) = (asked.reply_to(), asked.correlation_id()) {
            let properties = BasicProperties::default().with_correlation_id(id.clone());
            publish(&channel, "", reply_to.as_str(), properties, &answer).await?;
        }
        Ok(())
    };
    terminal.each(&channel, consumer, answer).await
}

/// `None` where it does not fit into 64 bits.
fn fib(n: u8) -> Option<u64> {
    let pair = (0..n).try_fold((0_u64, 1_u64), |(a, b), _| Some((b, a.checked_add(b)?)));
    pair.map(|(a, _)| a)
}
