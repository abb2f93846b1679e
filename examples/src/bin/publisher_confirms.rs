//! publisher_confirms: shows when the broker has a message.
//!
//! Without confirms a publisher never knows; with them the broker answers each message. Waiting for each answer
//! before the next message is slow; sending many and then waiting for all of them is fast. `mandatory` makes the
//! broker return a message that no queue takes, and a full queue with `reject-publish` refuses messages.
//!
//! ```text
//! cargo run --bin publisher_confirms
//! ```
//!
//! It prints the times for 200 messages, one by one and together; then a returned and a refused message.

use std::{process::ExitCode, time::Instant};

use examples::{
    Result, Terminal,
    amqp::{mandatory, number, table, text},
    say, within,
};
use lapin::{BasicProperties, Channel, PublisherConfirm, options::QueueDeclareOptions};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("publisher_confirms.rs"), publisher_confirms).await
}

async fn publisher_confirms(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let room_for_400 = table([("x-max-length", number(400)), ("x-overflow", text("reject-publish"))])?;
    let queue = channel.queue_declare("".into(), mine, room_for_400).await?.name().to_string();

    let start = Instant::now();
    for _ in 0..200 {
        within(publish(&channel, &queue).await?).await?;
    }
    say!("confirmed one by one: 200 messages in {} ms", start.elapsed().as_millis());

    let (start, mut confirms) = (Instant::now(), vec![]);
    for _ in 0..200 {
        confirms.push(publish(&channel, &queue).await?);
    }
    for confirm in confirms {
        within(confirm).await?;
    }
    say!("confirmed together: 200 messages in {} ms", start.elapsed().as_millis());
    if let Some(returned) = within(publish(&channel, "nobody's queue").await?).await?.take_message() {
        say!("returned: {} {}", returned.reply_code, returned.reply_text);
    }
    if within(publish(&channel, &queue).await?).await?.is_nack() {
        say!("refused: the queue is full");
    }
    Ok(())
}

/// Sends a message; the caller awaits the confirm.
async fn publish(channel: &Channel, queue: &str) -> Result<PublisherConfirm> {
    let (options, properties) = (mandatory(), BasicProperties::default());
    within(channel.basic_publish("".into(), queue.into(), options, b"a message", properties)).await
}
