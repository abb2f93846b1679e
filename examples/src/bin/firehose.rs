//! firehose: prints every message that is published or delivered in a virtual host, for debugging.
//!
//! While tracing is on, the broker also publishes each message to the exchange `amq.rabbitmq.trace`: with the key
//! `publish.EXCHANGE` when it arrives, and with `deliver.QUEUE` each time it is delivered. Tracing slows the broker
//! down: switch it off afterwards, with `false`; a restart does that, too.
//!
//! ```text
//! terminal 1   cargo run --bin firehose
//! terminal 2   curl -u guest:guest -X PUT --json '{"tracing":true}' localhost:15672/api/vhosts/%2F
//!              cargo run --bin send Hello, rabbit
//!              cargo run --bin receive
//! ```
//!
//! Terminal 1 prints `publish. key=hello queues=hello: Hello, rabbit` (the default exchange has no name), and then
//! `deliver.hello key=hello: Hello, rabbit`, with `again` for a redelivery. The port of `cargo run -p devbroker` is
//! 15673; RabbitMQ has `rabbitmqctl trace_on`, too. Arguments are binding keys, such as `deliver.#`; the default is
//! `#`. The queue is exclusive: events that occur while the program is not connected are lost.

use std::process::ExitCode;

use examples::{Result, Terminal, amqp, say};
use lapin::{
    message::Delivery,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("firehose.rs"), firehose).await
}

async fn firehose(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), mine, FieldTable::default()).await?.name().clone();
    let keys = terminal.text("#");
    for key in keys.split_whitespace() {
        let (key, options, arguments) =
            (amqp::short(key)?, QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.clone(), "amq.rabbitmq.trace".into(), key, options, arguments).await?;
    }
    let consumer = amqp::consume(&channel, queue.as_str(), 100).await?;
    say!("waiting for {keys}; Ctrl-C stops it");
    let print = async |event: &Delivery| {
        let headers = event.properties.headers().clone().unwrap_or_default();
        let header = |label, name| match headers.inner().get(name) {
            Some(AMQPValue::FieldArray(texts)) => format!(" {label}={}", amqp::joined(texts)),
            Some(AMQPValue::LongInt(1)) => format!(" {label}"),
            _ => String::new(),
        };
        let (key, queues) = (header("key", "routing_keys"), header("queues", "routed_queues"));
        say!("{}{key}{queues}{}: {}", event.routing_key, header("again", "redelivered"), amqp::body(event));
        Ok(())
    };
    terminal.each(&channel, consumer, print).await
}
