//! priorities: some messages overtake others.
//!
//! A classic queue with `x-max-priority` sorts its messages by priority, a number in each message, and keeps the
//! order of arrival within one priority. It affects only waiting messages: the broker does not call back messages
//! that it has already sent to a consumer. A quorum queue needs no argument: since RabbitMQ 4.3 it has 32
//! priorities, as strict as here; from 4.0 to 4.2 it had two, and the higher one got two deliveries of three.
//!
//! ```text
//! cargo run --bin priorities
//! cargo run --bin priorities 1:newsletter 9:alarm 5:invoice
//! ```
//!
//! The first prints the messages it sends, and then `9 alarm`, `5 invoice`, `1 newsletter`, `1 reminder`.

use std::process::ExitCode;

use examples::{
    Failure, Result, Terminal,
    amqp::{body, number, publish, table},
    say,
};
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("priorities.rs"), priorities).await
}

async fn priorities(terminal: &Terminal) -> Result {
    let channel = terminal.channel().await?;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let by_priority = table([("x-max-priority", number(9))])?;
    let queue = channel.queue_declare("".into(), mine, by_priority).await?.name().clone();

    for word in terminal.text("1:newsletter 9:alarm 5:invoice 1:reminder").split_whitespace() {
        let parsed = word.split_once(':').and_then(|(priority, text)| Some((priority.parse().ok()?, text)));
        let (priority, text) = parsed.ok_or_else(|| Failure::usage("write PRIORITY:TEXT, as in 9:alarm"))?;
        let properties = BasicProperties::default().with_priority(priority);
        publish(&channel, "", queue.as_str(), properties, text).await?;
        say!("sent {priority} {text}");
    }
    while let Some(message) = channel.basic_get(queue.clone(), BasicGetOptions { no_ack: true }).await? {
        let priority = message.properties.priority().unwrap_or_default();
        say!("received {priority} {}", body(&message.delivery));
    }
    Ok(())
}
