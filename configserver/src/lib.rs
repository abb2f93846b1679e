//! Serves the folder `config-repo` over HTTP, as Spring Cloud Config does with its native backend.
//!
//! In the order of a request:
//! - [`routes`]: from a request to an answer
//! - [`read_permits`]: permits to read files, a few at once
//! - [`repository`]: the files, read for each request
//! - [`answers`]: the settings of the answers
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
pub mod answers;
pub mod encryption;
pub mod monitor;
pub mod watch;
pub mod refresh;
pub mod check;
pub mod settings;

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use config_bus::BusId;
use futures_util::future::OptionFuture;
use hops_config::Sources;
use messaging::{MessagingClient, topology::Topology};
use service::{App, Parts, Program, http::health, startup::Failure};

use crate::{
    check::CachedCheck,
    monitor::{Monitor, Refresher},
    repository::Repository,
    routes::Server,
    settings::Settings,
    watch::Watch,
};

/// The default port.
const PORT: u16 = 8888;
/// The help of `--config-repo`, which is more to this service than to others.
const FOLDER_HELP: &str = "The folder that is served (default config-repo)";
/// Beginning of its name on the bus, as with Spring's.
const BUS_NAME: &str = "config-server";
/// The largest request body, in bytes: after a push, a repository's host sends `/monitor` the name of each changed file.
const BODY_LIMIT: usize = 1024 * 1024;

/// Runs the service, or one of its verbs, as the command line says, to the exit code.
pub fn start(
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let [encrypt, decrypt] = encryption::commands();
    Program::new(PORT, "Serves the files in --config-repo (default: config-repo) as Spring Cloud Config does")
        .configure(|command| command.mut_arg("config_repo", |folder| folder.help(FOLDER_HELP)))
        .verb(encrypt, |_, sources| crypt("encrypt", sources))
        .verb(decrypt, |_, sources| crypt("decrypt", sources))
        .verb(refresh::command(), refresh::run)
        .run(args, environment, async |mut app: App<Settings>| {
            let folder = app.settings.sources().config_repo.as_deref().unwrap_or(settings::FOLDER.as_ref());
            let repository = Repository::open(folder)?;
            let client = app.connect(Topology::default())?;
            run(app, repository, client).await
        })
}

async fn crypt(verb: &'static str, sources: Sources) -> Result<(), Failure> {
    Ok(encryption::run(verb, &sources.load::<Settings>().await?.encryption)?)
}

/// Runs the service until the stop signal.
///
/// # Errors
/// A setting that cannot be used, or what was left at the end of the grace period.
pub async fn run(
    app: App<Settings>,
    repository: Repository,
    client: Arc<dyn MessagingClient>,
) -> Result<(), String> {
    let (settings, stop) = (app.settings.started(), app.stop.clone());
    let id = match &settings.monitor.bus_id {
        Some(id) => BusId::given(id),
        None => BusId::new(BUS_NAME, &app.settings.sources().profile, &app.instance.name),
    };
    let refresher = Refresher { client: Arc::clone(&client), id };
    let watch = settings.watch.watch.then(|| Watch::new(&repository.folder()));
    let watch = watch.map(|watch| watch::run(watch, refresher.clone(), stop.clone()));
    let announcing = refresher.clone().announce(stop.clone());

    let access = app.access()?;
    let monitor = Monitor { refresher, access: access.clone(), secret: settings.monitor.secret()? };
    let decryption = settings.encryption.decryption()?;
    let server = Arc::new(Server::new(
        &settings.answers,
        &settings.access,
        decryption,
        repository,
        app.hosts_of_secrets(),
    )?);
    let folder = CachedCheck::new({
        let server = Arc::clone(&server);
        move || server.check()
    });
    // The first answer about its health is up to date.
    folder.run_once().await;
    let health = app.health().with("configServer", {
        let folder = folder.clone();
        move || folder.last()
    });
    // Without a broker no refresh events are sent; the files are served all the same.
    let health = Arc::new(health.with_shown("broker", health::broker(&client)));
    let checking = folder.run(stop);

    let encryption = encryption::router(server.keys(), access);
    let routes = routes::router(server, encryption, Arc::clone(&health)).merge(monitor::router(monitor));
    let parts = Parts { routes, body_limit: BODY_LIMIT, ..Parts::new(client, health) };
    tokio::join!(app.run(parts), OptionFuture::from(watch), checking, announcing).0
}
