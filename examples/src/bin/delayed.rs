//! delayed: sends a message that arrives later.
//!
//! The message first waits in a queue that nobody consumes and whose messages expire (`x-message-ttl`); then the
//! broker moves it to the queue that is consumed (dead-lettering). Each delay has a queue of its own: in a common
//! queue, a long delay at the head would block shorter ones behind it. No plugin is needed. The system's retries
//! wait in the same way.
//!
//! ```text
//! terminal 1   cargo run --bin delayed
//! terminal 2   cargo run --bin delayed 5 wake up
//!              cargo run --bin delayed 1 lie down
//! ```
//!
//! Terminal 2 prints `in 5 s: wake up` and `in 1 s: lie down`; terminal 1 prints `received lie down`, then
//! `received wake up`.

use std::process::ExitCode;

use examples::{
    Failure, Result, Terminal,
    amqp::{body, consume, number, publish, quorum, short, table, text},
    say,
};
use lapin::{BasicProperties, options::QueueDeclareOptions};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("delayed.rs"), delayed).await
}

async fn delayed(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    channel.queue_declare("delayed".into(), QueueDeclareOptions::durable(), quorum()?).await?;
    let [seconds, line @ ..] = terminal.words() else {
        let consumer = consume(&channel, "delayed", 1).await?;
        say!("waiting for messages; Ctrl-C stops it");
        let print = async |delivery: &_| {
            say!("received {}", body(delivery));
            Ok(())
        };
        return terminal.each(&channel, consumer, print).await;
    };
    let seconds = seconds.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    let seconds: i64 =
        seconds.ok_or_else(|| Failure::usage("the first word is the delay: 1 to 3600 seconds"))?;
    let waiting = format!("delayed.{seconds}s");
    // The message stays here until `delayed` has it; for this, RabbitMQ requires `reject-publish`.
    let arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-message-ttl", number(seconds * 1000)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("delayed")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ])?;
    channel.queue_declare(short(&waiting)?, QueueDeclareOptions::durable(), arguments).await?;
    publish(&channel, "", &waiting, BasicProperties::default(), &line.join(" ")).await?;
    say!("in {seconds} s: {}", line.join(" "));
    Ok(())
}
