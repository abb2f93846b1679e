//! Keeps accounts, and when a VIP's account is read, sees to it that a notification reaches the broker.
//!
//! In the order of the walk:
//! - [`routes`]: hop 1, the request
//! - [`handlers`]: hop 2, from a path segment to an answer
//! - [`store`]: hop 3, accounts in sled
//! - [`notifier`]: hop 4, a VIP's read becomes a message in the outbox
//!
//! Hop 5, the outbox and its relay, is in [`outbox`].
//!
//! Accounts change through a stream: [`changes`], which begins with what a client sends, [`body`], [`conditions`] and [`write_request`].
//!
//! Around them: [`account`], the type that they share, [`settings`], [`outbox_command`], the outbox from a shell, and
//! [`outbox_migration`], from the outbox of 0.1.
//! This crate knows no consumer: what becomes of a notification is not its business.

pub mod routes;
pub mod handlers;
pub mod store;
pub mod notifier;
pub mod body;
pub mod conditions;
pub mod write_request;
pub mod changes;
pub mod account;
pub mod settings;
pub mod outbox_command;
pub mod outbox_migration;

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use contracts::topology::{ACCOUNTS, account_changes, vip_queue};
use outbox::Outbox;
use service::{App, Parts, Program, http::health};
use tokio_util::task::TaskTracker;

use crate::{
    changes::replica::Replica,
    handlers::AppState,
    notifier::Notifier,
    settings::Settings,
    store::{failure, open::open_accounts},
};

/// The default port.
const PORT: u16 = 6767;
/// Folder of the outbox in that of the instance.
const OUTBOX: &str = "outbox";

/// Runs the service, or one of its verbs, as the command line says, to the exit code.
pub fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    Program::new(PORT, "Keeps accounts; the read of a VIP's account becomes a notification on vip_queue")
        .verb(outbox_command::command(), outbox_command::run)
        .run(args, environment, run)
}

async fn run(mut app: App<Settings>) -> Result<(), String> {
    let settings = app.settings.started();
    let folder = app.instance.folder.clone();
    let outbox = || Outbox::open(&folder.join(OUTBOX), &settings.outbox, &mut app.registry);
    let (accounts, outbox) = open_accounts(&folder, &settings.accounts.accounts, outbox).await?;
    let (accounts, outbox) = (Arc::new(accounts), Arc::new(outbox));
    if !outbox.is_empty() {
        tracing::info!("waiting in the outbox from an earlier run: {}", outbox.len());
    }

    let topology = vip_queue(settings.vip_queue.vip_queue_max_length)
        .with_exchange(ACCOUNTS)
        .with_queue(account_changes(settings.accounts.account_changes_max_bytes));
    let client = app.connect(topology)?;
    let replica =
        Replica::new(Arc::clone(&accounts), Arc::clone(&outbox), &app.instance.name, &mut app.registry);
    let replica = Arc::new(replica.map_err(|e| format!("the store cannot be read: {e}"))?);
    let changes = app.settings.section(|settings| &settings.accounts);
    let (writer, reading) = changes::start(&client, &replica, &changes, app.stop.clone());

    let failed = replica.store_failed().clone();
    TaskTracker::new().spawn(failure::stop_when_writable(failed, folder, app.stop.clone()));

    let health = app
        .health()
        .with("broker", health::broker(&client))
        .with("store", {
            let accounts = Arc::clone(&accounts);
            move || accounts.check()
        })
        .with("accounts", {
            let replica = Arc::clone(&replica);
            move || replica.check(reading.is_active())
        })
        .with("outbox", {
            let outbox = Arc::clone(&outbox);
            move || outbox.check()
        })
        .with_progress({
            let replica = Arc::clone(&replica);
            move || replica.entries_so_far()
        });
    let routes = routes::router(AppState {
        accounts,
        notifier: Notifier::new(Arc::clone(&outbox)),
        writer,
        accounts_max: settings.accounts.accounts_max,
        served_by: app.instance.name.as_str().into(),
    });
    app.run(Parts { routes, outbox: Some(outbox), ..Parts::new(client, health) }).await?;
    match replica.store_failed().is_cancelled() {
        true => Err("the store could not be written: start this service again".into()),
        false => Ok(()),
    }
}
