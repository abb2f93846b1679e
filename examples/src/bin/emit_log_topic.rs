//! emit_log_topic: a message with a topic of several words.
//!
//! A topic exchange compares the routing key, words with dots between them, with the patterns that queues are
//! bound with: `*` is exactly one word, `#` any number of them, none included.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_topic 'stock.us.*'
//! terminal 2   cargo run --bin receive_logs_topic 'audit.#' '*.news'
//! terminal 3   cargo run --bin emit_log_topic stock.us.nyse up by 2
//!              cargo run --bin emit_log_topic audit.login.failed guest
//!              cargo run --bin emit_log_topic sports.news a rabbit wins
//! ```
//!
//! Terminal 1 prints the first, terminal 2 the others. `*.news` does not match `news.sports`.

use std::process::ExitCode;

use examples::{Failure, Result, Terminal, say, system::message, within};
use messaging::{MessagingClient as _, topology::Topology};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("emit_log_topic.rs"), emit_log_topic).await
}

async fn emit_log_topic(terminal: &Terminal) -> Result {
    let [topic, line @ ..] = terminal.words() else {
        return Err(Failure::usage("the topic is missing, such as `stock.us.nyse`"));
    };
    let client = terminal.client(Topology::default().with_exchange("topic_logs")).await?;
    let line = line.join(" ");
    // As the system's bus does it: whoever listens hears it, and nobody has to.
    within(client.broadcast("topic_logs", topic, message(&line))).await?;
    say!("sent {topic}: {line}");
    Ok(())
}
