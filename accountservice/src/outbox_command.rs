//! The outbox from a shell: `accountservice outbox list|drain`, for an instance that does not run.
//!
//! It is for the outbox whose replica never comes back.

use std::{io::Write as _, time::Duration};

use clap::{ArgMatches, Command};
use common::{
    messaging::MessagingClient,
    outbox::{Outbox, relay},
};
use tokio::time::timeout;

/// How long `drain` goes on when nothing moves.
const PATIENCE: Duration = Duration::from_secs(30);

/// The verb and its two ways.
#[must_use]
pub fn command() -> Command {
    Command::new("outbox")
        .about("Shows or sends what waits for the broker, while the service is down")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Prints a line for each waiting notification"))
        .subcommand(
            Command::new("drain").about("Publishes all that wait, and removes what the broker confirms"),
        )
}

/// Does what was asked for.
///
/// # Errors
/// A store that cannot be read; for `drain`, what still waits and why.
pub async fn run(
    matches: &ArgMatches,
    store: &sled::Db,
    max: usize,
    client: &dyn MessagingClient,
) -> Result<(), String> {
    let outbox = Outbox::open(store, max).map_err(|e| format!("the outbox cannot be read: {e}"))?;
    match matches.subcommand_name() {
        Some("drain") => drain(&outbox, client).await,
        _ => list(&outbox),
    }
}

fn list(outbox: &Outbox) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let mut print = |line: String| {
        // A reader that has seen enough (`| head`) is no error.
        let _ = writeln!(out, "{line}");
    };
    print(format!("{:<36}  {:<36}  {:<10}  BODY", "ID", "REQUEST", "QUEUE"));
    for entry in outbox.entries() {
        let entry = entry?;
        let message = &entry.message;
        let request = message.correlation_id.as_deref().unwrap_or("-");
        let body = String::from_utf8_lossy(&message.body);
        print(format!("{:<36}  {request:<36}  {:<10}  {body}", message.shown_id(), entry.queue));
    }
    print(format!("{} waiting", outbox.len()));
    Ok(())
}

async fn drain(outbox: &Outbox, client: &dyn MessagingClient) -> Result<(), String> {
    let before = outbox.len();
    client.connect();
    let emptied = async {
        tokio::select! {
            () = relay(outbox, client) => {}
            () = outbox.drained() => {}
        }
    };
    tokio::pin!(emptied);
    let mut waiting = before;
    let done = loop {
        match timeout(PATIENCE, &mut emptied).await {
            Err(_) if outbox.len() < waiting => waiting = outbox.len(),
            done => break done,
        }
    };
    let why = client.status().publishing;
    client.close().await;
    let sent = before - outbox.len();
    let _ = writeln!(std::io::stdout(), "{sent} sent, {} waiting", outbox.len());
    done.map_err(|_| {
        format!(
            "{} notifications wait and nothing has moved for {PATIENCE:?}; the broker: {why}",
            outbox.len()
        )
    })
}
