//! emit_log_topic: sends a message whose topic has several words.
//!
//! A topic exchange compares the routing key, a list of words separated by dots, with the patterns that queues
//! are bound with: `*` stands for exactly one word, `#` for any number of words, including none.
//!
//! ```text
//! terminal 1   cargo run --bin receive_logs_topic 'stock.us.*'
//! terminal 2   cargo run --bin receive_logs_topic 'audit.#' '*.news'
//! terminal 3   cargo run --bin emit_log_topic stock.us.nyse up by 2
//!              cargo run --bin emit_log_topic audit.login.failed guest
//!              cargo run --bin emit_log_topic sports.news a rabbit wins
//! ```
//!
//! Terminal 1 prints the first message, terminal 2 the other two. `*.news` does not match `news.sports`.

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
    // The system's bus does the same: every listener gets the message, and there may be none.
    within(client.broadcast("topic_logs", topic, message(&line))).await?;
    say!("sent {topic}: {line}");
    Ok(())
}
