//! Keeps accounts, and when a VIP's account is read, sees to it that a notification reaches the broker.
//!
//! In the order of the walk:
//! - [`routes`]: hop 1, the request
//! - [`handlers`]: hop 2, from a path segment to an answer
//! - [`store`]: hop 3, accounts in sled
//! - [`notifier`]: hop 4, a VIP's read becomes a message in the outbox
//!
//! Hop 5, the outbox and its relay, is in [`outbox`]. Around them: [`account`], the type that
//! they share, [`settings`], and [`outbox_command`], the outbox from a shell.
//! This crate knows no consumer: what becomes of a notification is not its business.

pub mod routes;
pub mod handlers;
pub mod store;
pub mod notifier;
pub mod account;
pub mod settings;
pub mod outbox_command;

use std::{ffi::OsString, sync::Arc};

use contracts::topology::vip_queue;
use hops_config::{Live, LiveSettings, SharedSettings, Sources, command};
use messaging::{
    MessagingClient,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
};
use outbox::Outbox;
use prometheus_client::registry::Registry;
use service::{
    healthcheck,
    http::{self, Access, Health},
    shutdown::{OutboxOnDisk, Service},
    startup::{self, Begun, Failure, Instance},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    handlers::AppState,
    notifier::Notifier,
    settings::Settings,
    store::{SledAccountStore, open_store},
};

/// Where it listens if nothing else is said.
const PORT: u16 = 6767;

/// From the command line and the environment to a running service, or to one of its verbs.
///
/// # Errors
/// The error in one sentence.
pub async fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let command = command::<Settings>()
        .about("Keeps accounts; the read of a VIP's account becomes a notification on vip_queue")
        .subcommand(outbox_command::command())
        .subcommand(healthcheck::command());
    let (sources, matches) = Sources::parse::<Settings>(command, args, environment)?;
    if let Some(verb) = matches.subcommand_matches(healthcheck::VERB) {
        return healthcheck::of_service::<Settings>(verb, sources, PORT).await;
    }
    if let Some(verb) = matches.subcommand_matches("outbox") {
        return Ok(outbox_command::run(verb, &sources, &sources.load().await?).await?);
    }
    let Some(begun) = startup::begin::<Settings>(sources, PORT).await? else { return Ok(()) };
    let Begun { live, instance, listener, stop } = begun;
    let mut registry = Registry::with_prefix("hops");
    let client = Arc::new(client(live.shared(), &instance, &mut registry)?);
    let store = open_store(&instance.folder)?;
    Ok(run(&live, &instance, listener, store, client, registry, stop).await?)
}

/// The client of the broker, with what this service declares there.
fn client(
    shared: impl Into<Live<Arc<SharedSettings>>>,
    instance: &Instance,
    registry: &mut Registry,
) -> Result<AmqpClient, String> {
    let shared = shared.into();
    let now = shared.get();
    let topology = vip_queue(now.vip_queue_max_length).with_exchange(&now.config_event_bus);
    let options = AmqpOptions::new(shared, &instance.name, topology)?;
    Ok(AmqpClient::new(options, Metrics::registered(registry)))
}

/// Runs the service until `stop`.
///
/// # Errors
/// A store that cannot be used, or what was left at the end of the grace period.
pub async fn run(
    live: &LiveSettings<Settings>,
    instance: &Instance,
    listener: TcpListener,
    store: sled::Db,
    client: Arc<dyn MessagingClient>,
    mut registry: Registry,
    stop: CancellationToken,
) -> Result<(), String> {
    let settings = live.now();
    let unusable = |e: &dyn std::fmt::Display| format!("the store cannot be used: {e}");
    let accounts = SledAccountStore::seeded(&store, &settings.accounts).map_err(|e| unusable(&e))?;
    let accounts = Arc::new(accounts);
    let outbox = Outbox::open(&store, settings.outbox_max, &mut registry).map_err(|e| unusable(&e))?;
    let outbox = Arc::new(outbox);
    if !outbox.is_empty() {
        tracing::info!("waiting in the outbox from an earlier run: {}", outbox.len());
    }

    client.connect();
    let following = config_bus::follow(live, &client, &instance.name, &mut registry);
    let health = Health::default()
        .with("broker", {
            let client = Arc::clone(&client);
            move || client.status().check()
        })
        .with("store", {
            let accounts = Arc::clone(&accounts);
            move || accounts.check()
        })
        .with("outbox", {
            let outbox = Arc::clone(&outbox);
            move || outbox.check()
        })
        .with_note("settings", live.note());
    let health = Arc::new(health);
    let state = AppState {
        accounts,
        notifier: Notifier::new(Arc::clone(&outbox)),
        served_by: instance.name.as_str().into(),
    };
    let access = Access::new(&settings.shared)?;
    let routes = routes::router(state).merge(http::settings::router(live.effective(), access));
    let router = http::router(routes, live.shared(), &health, registry);
    let service = Service {
        listener,
        router,
        health,
        client,
        subscriptions: following.into_iter().collect(),
        outbox: Some(OutboxOnDisk { outbox, store, folder: instance.folder.clone() }),
    };
    service.run(live.shared(), stop).await
}
