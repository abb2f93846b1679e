//! Serves the folder `config-repo` over HTTP, as Spring Cloud Config does with its native backend.
//!
//! In the order of a request:
//! - [`routes`]: from a request to an answer
//! - [`repository`]: the files, read for each request
//! - [`spring`]: the protocol's rules, pure
//!
//! Beside them, for operators and the hosts of repositories:
//! - [`encryption`]: `/encrypt` and `/decrypt`, over HTTP and from a shell
//! - [`monitor`]: `/monitor` and `/actuator/busrefresh`, which tell services over the bus to read again
//! - [`watch`]: a saved file does so, too
//! - [`refresh`]: and so does an operator, from a shell
//!
//! Around them: [`settings`].
//! It keeps nothing, and the files are all that it knows: what is saved is what the next request gets.
//! Left out of the protocol: the git backend, files as they are, the second version of the JSON (with origins), RSA.

pub mod routes;
pub mod repository;
pub mod spring;
pub mod encryption;
pub mod monitor;
pub mod watch;
pub mod refresh;
pub mod settings;

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use clap::parser::ValueSource;
use common::{
    bus::BusId,
    healthcheck,
    http::{self, Access, Health},
    messaging::{
        MessagingClient,
        amqp::{AmqpClient, AmqpOptions},
        metrics::Metrics,
        topology::Topology,
    },
    settings::{ServiceSettings as _, Sources, command, secret::Secret},
    shutdown::{self, Service},
    startup::{self, Failure, Instance},
    telemetry,
};
use futures_util::future::OptionFuture;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    monitor::{Monitor, Refresher},
    repository::Repository,
    routes::Server,
    settings::Settings,
    watch::Watch,
};

/// Where it listens if nothing else is said.
const PORT: u16 = 8888;
/// What it serves if nothing else is said.
const FOLDER: &str = "config-repo";
/// What its name on the bus begins with, as with Spring's.
const BUS_NAME: &str = "config-server";

/// From the command line and the environment to a running service.
///
/// # Errors
/// What is wrong, in a sentence.
pub async fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Failure> {
    let command = command::<Settings>()
        .about("Serves the files in --config-repo (default: config-repo) as Spring Cloud Config does")
        .mut_arg("config-repo", |argument| argument.default_value(FOLDER).help("The folder that is served"))
        .subcommands(encryption::commands())
        .subcommands([healthcheck::command(), refresh::command()]);
    let (mut sources, matches) = Sources::parse::<Settings>(command, args, environment)?;
    let verb = matches.subcommand_name();
    if verb.is_some() && matches.value_source("config-repo") == Some(ValueSource::DefaultValue) {
        // The key may come from the environment alone, wherever one is.
        sources.config_repo.take_if(|folder| !folder.is_dir());
    }
    let settings: Settings = sources.load()?;
    if let Some((verb, arguments)) = matches.subcommand() {
        match verb {
            healthcheck::VERB => healthcheck::run(arguments, &settings.shared, PORT).await?,
            refresh::VERB => refresh::run(arguments, &settings.shared, PORT).await?,
            verb => encryption::run(verb, settings.decryption()?.key.as_ref())?,
        }
        return Ok(());
    }
    let shared = &settings.shared;
    let instance =
        Instance::new(Settings::SERVICE, &sources.profile, sources.instance_name(), &shared.data_dir)?;
    let folder = sources.config_repo.clone().unwrap_or_else(|| PathBuf::from(FOLDER));
    let repository = Repository::open(&folder)?;
    let id = match &settings.bus_id {
        Some(id) => BusId::given(id),
        None => BusId::new(BUS_NAME, &sources.profile, &instance.name),
    };
    let topology = Topology::default().with_bus(&shared.config_event_bus);
    let options = AmqpOptions::new(shared, &instance.name, topology)?;
    let mut registry = Registry::with_prefix("hops");
    let client = Arc::new(AmqpClient::new(options, Metrics::registered(&mut registry)));

    telemetry::init(Settings::SERVICE, &instance.name, shared.log_level, shared.log_format);
    let stop = shutdown::signals().map_err(|e| format!("cannot listen to signals: {e}"))?;
    let listener = startup::listen(Settings::SERVICE, shared, PORT).await?;
    sources.announce(&settings);
    Ok(run(&settings, repository, id, listener, client, registry, stop).await?)
}

/// Runs the service until `stop`.
///
/// # Errors
/// A setting that cannot be used, or what was left at the end of the grace period.
pub async fn run(
    settings: &Settings,
    repository: Repository,
    id: BusId,
    listener: TcpListener,
    client: Arc<dyn MessagingClient>,
    registry: Registry,
    stop: CancellationToken,
) -> Result<(), String> {
    let refresher =
        Refresher { client: Arc::clone(&client), exchange: settings.shared.config_event_bus.clone(), id };
    let watch = settings.watch.then(|| Watch::new(repository.root()));
    let watch = watch.map(|watch| watch::run(watch, refresher.clone(), stop.clone()));
    let (secret, file) = (settings.monitor_secret.as_ref(), settings.monitor_secret_file.as_deref());
    let secret = Secret::given_or_in_file("monitor_secret", secret, file)?;
    let access = Access::new(&settings.shared)?;
    let monitor = Monitor { refresher, access: access.clone(), secret };
    let server = Arc::new(Server::new(settings, repository)?);
    client.connect();
    let health = Health::default().with("configServer", {
        let server = Arc::clone(&server);
        move || server.check()
    });
    // Without a broker nobody is told of changes; the files are served all the same.
    let health = Arc::new(health.with_shown("broker", {
        let client = Arc::clone(&client);
        move || client.status().check()
    }));
    let encryption = encryption::router(server.key(), access);
    let routes = routes::router(Arc::clone(&server), encryption, Arc::clone(&health));
    let routes = routes.merge(monitor::router(monitor, &settings.monitor_prefix));
    let router = http::router(routes, &settings.shared, &health, registry);
    let service = Service { listener, router, health, client, subscriptions: vec![], outbox: None };
    tokio::join!(service.run(&settings.shared, stop), OptionFuture::from(watch)).0
}
