//! Serves the folder `config-repo` over HTTP, as Spring Cloud Config does with its native backend.
//!
//! In the order of a request:
//! - [`routes`]: from a request to an answer
//! - [`read_permits`]: permits to read files, a few at once
//! - [`repository`]: the files, read for each request
//! - the crate [`spring`]: the protocol's rules, without I/O
//!
//! Beside them, for operators and the hosts of repositories:
//! - [`encryption`]: `/encrypt` and `/decrypt`, over HTTP and from a shell
//! - [`monitor`]: `/monitor` and `/actuator/busrefresh`, which tell services over the bus to read again
//! - [`watch`]: a saved file does so, too
//! - [`refresh`]: and so does an operator, from a shell
//! - [`check`]: whether the folder can be read
//!
//! Around them: [`settings`].
//! It keeps nothing, and the files are all that it knows: what is saved is what the next request gets.
//! Left out of the protocol: the git backend, files as they are, the second version of the JSON (with origins), RSA.

pub mod routes;
pub mod read_permits;
pub mod repository;
pub mod encryption;
pub mod monitor;
pub mod watch;
pub mod refresh;
pub mod check;
pub mod settings;

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use config_bus::BusId;
use futures_util::future::OptionFuture;
use hops_config::{LiveSettings, Sources, command, secret::Secret};
use messaging::{
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
    topology::Topology,
};
use prometheus_client::registry::Registry;
use service::{
    healthcheck,
    http::{self, Access, Health},
    shutdown::Service,
    startup::{self, Begun, Failure},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    check::CachedCheck,
    monitor::{Monitor, Refresher},
    repository::Repository,
    routes::Server,
    settings::Settings,
    watch::Watch,
};

/// Where it listens if nothing else is said.
const PORT: u16 = 8888;
/// Folder that it serves by default.
const FOLDER: &str = "config-repo";
/// Beginning of its name on the bus, as with Spring's.
const BUS_NAME: &str = "config-server";

/// From the command line and the environment to a running service.
///
/// # Errors
/// The error in one sentence.
pub async fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let command = command::<Settings>()
        .about("Serves the files in --config-repo (default: config-repo) as Spring Cloud Config does")
        .mut_arg("config_repo", |argument| argument.help("The folder that is served (default config-repo)"))
        .subcommands(encryption::commands())
        .subcommands([healthcheck::command(), refresh::command()]);
    let (mut sources, matches) = Sources::parse::<Settings>(command, args, environment)?;
    // Its own settings are in the folder that it serves: it cannot ask itself.
    sources.server = None;
    let folder = sources.config_repo.clone().unwrap_or_else(|| PathBuf::from(FOLDER));
    if let Some((verb, arguments)) = matches.subcommand() {
        // The key may come from the environment alone, wherever one is.
        sources.config_repo = sources.config_repo.or(Some(folder).filter(|folder| folder.is_dir()));
        let settings: Settings = sources.load().await?;
        match verb {
            healthcheck::VERB => healthcheck::run(arguments, &settings.shared, PORT).await?,
            refresh::VERB => refresh::run(arguments, &settings.shared, PORT).await?,
            verb => encryption::run(verb, settings.decryption()?.key.as_ref())?,
        }
        return Ok(());
    }
    let (repository, profile) = (Repository::open(&folder)?, sources.profile.clone());
    sources.config_repo = Some(folder);
    let Some(begun) = startup::begin::<Settings>(sources, PORT).await? else { return Ok(()) };
    let Begun { live, instance, listener, stop } = begun;
    let settings = live.now();
    let shared = &settings.shared;
    let id = match &settings.bus_id {
        Some(id) => BusId::given(id),
        None => BusId::new(BUS_NAME, &profile, &instance.name),
    };
    let topology = Topology::default().with_exchange(&shared.config_event_bus);
    let options = AmqpOptions::new(live.shared(), &instance.name, topology)?;
    let mut registry = Registry::with_prefix("hops");
    let client = Arc::new(AmqpClient::new(options, Metrics::registered(&mut registry)));
    let refresher = Refresher { client, exchange: shared.config_event_bus.clone(), id };
    Ok(run(&live, &instance.name, repository, listener, refresher, registry, stop).await?)
}

/// Runs the service until `stop`.
///
/// # Errors
/// A setting that cannot be used, or what was left at the end of the grace period.
pub async fn run(
    live: &LiveSettings<Settings>,
    instance: &str,
    repository: Repository,
    listener: TcpListener,
    refresher: Refresher,
    mut registry: Registry,
    stop: CancellationToken,
) -> Result<(), String> {
    let settings = live.now();
    let client = Arc::clone(&refresher.client);
    let watch = settings.watch.then(|| Watch::new(&repository.folder()));
    let watch = watch.map(|watch| watch::run(watch, refresher.clone(), stop.clone()));
    let (secret, file) = (settings.monitor_secret.as_ref(), settings.monitor_secret_file.as_deref());
    let secret = Secret::given_or_in_file("monitor_secret", secret, file)?;
    let access = Access::new(&settings.shared)?;
    let monitor = Monitor { refresher: refresher.clone(), access: access.clone(), secret };
    let server = Arc::new(Server::new(&settings, repository)?);
    client.connect();
    let announcing = refresher.announce(stop.clone());
    let following = config_bus::follow(live, &client, instance, &mut registry);
    let folder = CachedCheck::new({
        let server = Arc::clone(&server);
        move || server.check()
    });
    // From its first answer on it says how things are.
    folder.run_once().await;
    let health = Health::default().with("configServer", {
        let folder = folder.clone();
        move || folder.last()
    });
    let looking = folder.run(stop.clone());
    // Without a broker nobody is told of changes; the files are served all the same.
    let health = health.with_shown("broker", {
        let client = Arc::clone(&client);
        move || client.status().check()
    });
    let health = Arc::new(health.with_note("settings", live.note()));
    let encryption = encryption::router(server.key(), access.clone());
    let routes = routes::router(Arc::clone(&server), encryption, Arc::clone(&health))
        .merge(monitor::router(monitor, &settings.monitor_prefix))
        .merge(http::settings::router(live.effective(), access));
    let router = http::router(routes, live.shared(), &health, registry);
    let subscriptions = following.into_iter().collect();
    let service = Service { listener, router, health, client, subscriptions, outbox: None };
    tokio::join!(service.run(live.shared(), stop), OptionFuture::from(watch), looking, announcing).0
}
