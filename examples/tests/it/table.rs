//! The table of docs/PATTERNS.md: pattern by broker. A run knows one broker, and so one column.
//!
//! `cargo test -p examples --test it -- patterns_table --nocapture` prints the table with the results of this run
//! in their column.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    sync::LazyLock,
};

use e2e::broker::{Product, SharedBroker};
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::sync::OnceCell;

use crate::{accounts, operations, patterns as p, probes};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PATTERNS.md");
const BROKERS: [&str; 3] = ["devbroker", "RabbitMQ 4.3", "RabbitMQ 4.0"];

struct Row {
    key: &'static str,
    pattern: &'static str,
    check: fn() -> LocalBoxFuture<'static, String>,
    cell: OnceCell<String>,
}

macro_rules! rows {
    ($($module:ident::$check:ident, $pattern:literal;)*) => {
        vec![$(Row {
            key: stringify!($check),
            pattern: $pattern,
            check: || Box::pin($module::$check()),
            cell: OnceCell::new(),
        }),*]
    };
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    rows! {
        p::queue, "one queue: `send`, `receive`";
        p::work_queue, "work queue: `new_task`, `worker`";
        p::publish_subscribe, "publish/subscribe: `emit_log`, `receive_logs`";
        p::routing, "routing: `emit_log_direct`, `receive_logs_direct`";
        p::topics, "topics: `emit_log_topic`, `receive_logs_topic`";
        p::headers, "headers: `emit_log_headers`, `receive_logs_headers`";
        p::request_reply, "request and reply: `rpc_server`, `rpc_client`";
        p::delayed, "delay: `delayed`";
        p::publisher_confirms, "confirms, returns, refusals: `publisher_confirms`";
        p::priorities, "priorities in a classic queue: `priorities`";
        p::single_active, "one active consumer, others on standby: `single_active`";
        p::stream, "stream: `stream_append`, `stream_replay`";
        p::order_events, "events and their subscribers: `order_events`";
        accounts::account_events, "events of the accountservice, without duplicates: `account_events`";
        operations::vhosts, "isolation by virtual hosts: `vhosts`";
        operations::firehose, "events of all messages: `firehose`";
        probes::quorum_priorities, "priorities in a quorum queue";
        probes::always_failing, "deliveries of a message that always fails, in a queue without a delivery limit";
        probes::mandatory_reply, "a direct reply that is published as mandatory";
    }
});

/// Returns the result for this run's broker, which is determined once.
pub(crate) async fn cell(key: &str) -> &'static str {
    let row = ROWS.iter().find(|row| row.key == key).unwrap();
    row.cell.get_or_init(row.check).await
}

#[tokio::test]
async fn patterns_table() {
    let column = match SharedBroker::from_environment().product() {
        Product::DevBroker => 0,
        Product::RabbitMq { version } if version.starts_with("4.3.") => 1,
        Product::RabbitMq { version } if version.starts_with("4.0.") => 2,
        Product::RabbitMq { version } => panic!("docs/PATTERNS.md has no column for RabbitMQ {version}"),
    };
    let cells = join_all(ROWS.iter().map(|row| cell(row.key))).await;
    let page = fs::read_to_string(Path::new(PAGE)).unwrap();
    let mut table =
        vec![format!("| pattern | {} |", BROKERS.join(" | ")), "| --- | --- | --- | --- |".into()];
    for (row, cell) in ROWS.iter().zip(cells) {
        let written = page.lines().find_map(|line| line.strip_prefix(&format!("| {} | ", row.pattern)));
        let mut cells: Vec<_> = written.unwrap_or(" |  |  |").trim_end_matches(" |").split(" | ").collect();
        cells.resize(BROKERS.len(), "");
        cells[column] = cell;
        table.push(format!("| {} | {} |", row.pattern, cells.join(" | ")));
    }
    let table = table.join("\n");
    let _ = writeln!(io::stdout(), "\n{table}");
    assert!(page.contains(&table), "docs/PATTERNS.md should contain this table:\n{table}");
}
