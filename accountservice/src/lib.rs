//! Keeps accounts, and when a VIP's account is read, sees to it that a notification reaches the broker.
//!
//! In the order of the walk:
//! - [`routes`]: hop 1, the request
//! - [`handlers`]: hop 2, from a path segment to an answer
//! - [`store`]: hop 3, accounts in sled
//! - [`notifier`]: hop 4, a VIP's read becomes a message in the outbox
//!
//! Hop 5, the outbox and its relay, is in [`outbox`]. Around them: [`account`], the type that
//! they share, [`settings`], [`outbox_command`], the outbox from a shell, and [`outbox_migration`], from the outbox of 0.1.
//! This crate knows no consumer: what becomes of a notification is not its business.

pub mod routes;
pub mod handlers;
pub mod store;
pub mod notifier;
pub mod account;
pub mod settings;
pub mod outbox_command;
pub mod outbox_migration;

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use contracts::topology::vip_queue;
use outbox::Outbox;
use service::{App, Parts, Program, http::health};

use crate::{
    handlers::AppState,
    notifier::Notifier,
    settings::Settings,
    store::{SledAccountStore, open_store},
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
    let folder = &app.instance.folder;
    let store = open_store(folder)?;
    let outbox = Outbox::open(&folder.join(OUTBOX), &settings.outbox, &mut app.registry)?;
    outbox_migration::migrate(&store, &outbox).await?;
    let accounts = Arc::new(SledAccountStore::seeded(&store, folder, &settings.accounts.accounts)?);
    let outbox = Arc::new(outbox);
    if !outbox.is_empty() {
        tracing::info!("waiting in the outbox from an earlier run: {}", outbox.len());
    }

    let client = app.connect(vip_queue(settings.vip_queue.vip_queue_max_length))?;
    let health = app
        .health()
        .with("broker", health::broker(&client))
        .with("store", {
            let accounts = Arc::clone(&accounts);
            move || accounts.check()
        })
        .with("outbox", {
            let outbox = Arc::clone(&outbox);
            move || outbox.check()
        });
    let routes = routes::router(AppState {
        accounts,
        notifier: Notifier::new(Arc::clone(&outbox)),
        served_by: app.instance.name.as_str().into(),
    });
    app.run(Parts { routes, outbox: Some(outbox), ..Parts::new(client, health) }).await
}
