//! account_events: prints the events of the accountservice: which account was created, changed or deleted.
//!
//! Events are delivered at least once: the accountservice publishes an event again until the broker has confirmed
//! it. So subscribers drop duplicates, which have the id of the first copy. This one remembers the last 1000 ids;
//! it prints a duplicate that comes later than that.
//!
//! ```text
//! terminal 1   cargo hops up -d
//!              cargo run --bin account_events
//! terminal 2   curl --json '{"id":"7","name":"Ada"}' localhost:6767/accounts
//!              curl -X DELETE -H 'if-match: "1"' localhost:6767/accounts/7
//! ```
//!
//! Terminal 1 prints `account.created.v1 {"accountId":"7","version":1,"name":"Ada","vip":false}`, and then
//! `account.deleted.v1 {"accountId":"7","version":2}`. Arguments are binding keys, such as `account.deleted`; the
//! default is `account.#`. It receives only events that occur while it is connected; a durable queue misses none.

use std::{
    collections::VecDeque,
    future::ready,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use examples::{Result, Terminal, say, system};
use messaging::{ConsumeOptions, MessagingClient as _, Outcome, handler, topology::Topology};

const REMEMBERED_IDS: usize = 1000;

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("account_events.rs"), account_events).await
}

async fn account_events(terminal: &Terminal) -> Result {
    let client = terminal.client(Topology::default().with_exchange("accounts")).await?;
    let ids = Mutex::new(VecDeque::new());
    let print = handler(move |delivery| {
        let (id, mut ids) = (&delivery.message.id, ids.lock().unwrap_or_else(PoisonError::into_inner));
        if id.is_none() || !ids.contains(id) {
            say!("{} {}", delivery.message.kind.as_deref().unwrap_or("untyped"), system::text(&delivery));
            ids.push_front(id.clone());
            ids.truncate(REMEMBERED_IDS);
        }
        ready(Outcome::Ack)
    });
    // One at a time: a queue keeps the order of its events.
    let options =
        ConsumeOptions { prefetch: 1, handler_timeout: Duration::from_secs(60).into(), retry_policy: None };
    let all = ["account.#".to_owned()];
    let keys = if terminal.words().is_empty() { &all } else { terminal.words() };
    let listen = |key: &String| client.subscribe("accounts", key, options.clone(), Arc::clone(&print));
    let subscriptions: Vec<_> = keys.iter().map(listen).collect();
    terminal.until_active(&subscriptions).await;
    say!("waiting for {}; Ctrl-C stops it", keys.join(" and "));
    terminal.stopped().await;
    system::finish(&subscriptions).await;
    Ok(())
}
