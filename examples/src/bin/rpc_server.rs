//! rpc_server: answers requests that arrive as messages: which is the nth Fibonacci number?
//!
//! A reply goes to the queue that the request names in `reply_to`, with the request's `correlation_id`. The queue
//! of requests is deleted with the last server, so that a client learns at once that there is none. A request
//! expires after two seconds, because its client waits no longer.
//!
//! ```text
//! terminal 1   cargo run --bin rpc_server
//! terminal 2   cargo run --bin rpc_client 30 31
//! ```
//!
//! Terminal 1 prints `asked for fib(30)`, terminal 2 `fib(30) = 832040`. Several servers share the requests.

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
    say!("waiting for requests; Ctrl-C stops it");

    let answer = async |request: &Delivery| {
        say!("asked for fib({})", body(request));
        let answer = body(request).parse().ok().and_then(fib);
        let answer = answer.map_or("not known: ask for 0 to 92".to_owned(), |answer: u64| answer.to_string());
        let properties = &request.properties;
        if let (Some(reply_to), Some(id)) = (properties.reply_to(), properties.correlation_id()) {
            let properties = BasicProperties::default().with_correlation_id(id.clone());
            publish(&channel, "", reply_to.as_str(), properties, &answer).await?;
        }
        Ok(())
    };
    terminal.each(&channel, consumer, answer).await
}

/// Returns `None` if the number does not fit into 64 bits.
fn fib(n: u8) -> Option<u64> {
    let pair = (0..n).try_fold((0_u64, 1_u64), |(a, b), _| Some((b, a.checked_add(b)?)));
    pair.map(|(a, _)| a)
}
