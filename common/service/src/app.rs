//! A service put together, once for all services: from the command line to the exit code.
//!
//! [`Program::run`] reads the command line and runs a verb, or makes an [`App`] and hands it to the service's own code.
//! That adds its consumers, checks and routes, and [`App::run`] runs them with all that surrounds them.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    process::ExitCode,
    sync::Arc,
};

use axum::Router;
use browser_guard::Hosts;
use clap::{ArgMatches, Command};
use config_bus::SPRING_CLOUD_BUS;
use futures_util::future::LocalBoxFuture;
use hops_config::{LiveSettings, ServiceSettings, Sources, command, verb};
use messaging::{
    MessagingClient, Subscription,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
    topology::Topology,
};
use outbox::Outbox;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    Instance, Settings, healthcheck,
    http::{self, Access, Health},
    shutdown::Service,
    signals,
    startup::{self, Failure},
};

type Verb = Box<dyn FnOnce(ArgMatches, Sources) -> LocalBoxFuture<'static, Result<(), Failure>>>;

/// A service's command line: what it can be asked to do.
#[expect(missing_debug_implementations, reason = "its verbs are functions; nobody prints it")]
pub struct Program {
    port: u16,
    about: &'static str,
    configure: fn(Command) -> Command,
    verbs: Vec<(Command, Verb)>,
}

impl Program {
    /// Returns a program that runs a service. `port` is its default, `about` its line in `--help`.
    #[must_use]
    pub fn new(port: u16, about: &'static str) -> Self {
        Self { port, about, configure: |command| command, verbs: vec![] }
    }

    /// Changes the command line that follows from the settings.
    #[must_use]
    pub fn configure(self, configure: fn(Command) -> Command) -> Self {
        Self { configure, ..self }
    }

    /// Adds a verb beside `healthcheck`, which every service has.
    #[must_use]
    pub fn verb<F>(mut self, command: Command, run: impl FnOnce(ArgMatches, Sources) -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), Failure>> + 'static,
    {
        self.verbs.push((command, Box::new(|matches, sources| Box::pin(run(matches, sources)))));
        self
    }

    /// Runs the verb of the command line, or the service, to the exit code.
    pub fn run<S>(
        self,
        args: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        run: impl AsyncFnOnce(App<S>) -> Result<(), String>,
    ) -> ExitCode
    where
        S: ServiceSettings + AsRef<Settings>,
    {
        startup::run(async {
            let verbs = self.verbs.iter().map(|(command, _)| command.clone());
            let verbs = verbs.chain([healthcheck::command()]).map(verb::<S>);
            let command = (self.configure)(command::<S>()).about(self.about).subcommands(verbs);
            let (sources, mut matches) = Sources::parse::<S>(command, args, environment)?;
            if let Some((name, arguments)) = matches.remove_subcommand() {
                let own = self.verbs.into_iter().find(|(command, _)| command.get_name() == name);
                return match own {
                    Some((_, verb)) => verb(arguments, sources).await,
                    None => healthcheck::of_service::<S>(&arguments, sources, self.port).await,
                };
            }
            match App::bootstrap(sources, self.port).await? {
                Some(app) => Ok(run(app).await?),
                None => Ok(()),
            }
        })
    }
}

/// A process that is ready to run its service.
#[derive(Debug)]
pub struct App<S> {
    /// Its settings.
    pub settings: LiveSettings<S>,
    /// Its name and its folder.
    pub instance: Instance,
    /// Its metrics.
    pub registry: Registry,
    /// Cancelled by the first stop signal.
    pub stop: CancellationToken,
    listener: TcpListener,
}

/// The parts that a service adds.
#[expect(missing_debug_implementations, reason = "its parts are traits and futures; nobody prints it")]
pub struct Parts {
    /// Its messaging client, connecting already.
    pub client: Arc<dyn MessagingClient>,
    /// Its checks.
    pub health: Arc<Health>,
    /// Its routes.
    pub routes: Router,
    /// Its consumers.
    pub subscriptions: Vec<Subscription>,
    /// Its outbox, if it has one, in the folder of the instance.
    pub outbox: Option<Arc<Outbox>>,
    /// The largest request body, in bytes.
    pub body_limit: usize,
}

impl Parts {
    /// Returns the parts of a service without routes, consumers and outbox, whose requests have small bodies.
    #[must_use]
    pub fn new(client: Arc<dyn MessagingClient>, health: impl Into<Arc<Health>>) -> Self {
        let (health, routes) = (health.into(), Router::new());
        Self { client, health, routes, subscriptions: vec![], outbox: None, body_limit: http::BODY_LIMIT }
    }
}

impl<S: ServiceSettings + AsRef<Settings>> App<S> {
    /// Loads the settings, opens the log, and listens where the settings say, or on the service's default `port`. Returns
    /// `None` if a stop signal arrived during start-up.
    async fn bootstrap(sources: Sources, port: u16) -> Result<Option<Self>, Failure> {
        // First of all, since a config server may be waited for.
        let stop = signals::listen().map_err(|e| format!("cannot listen to signals: {e}"))?;
        let (profile, given) = (sources.profile.clone(), sources.instance_name().map(str::to_owned));
        let Some(loaded) = stop.run_until_cancelled(LiveSettings::<S>::load(sources)).await else {
            return Ok(None);
        };
        let live = loaded?;
        let started = live.started();
        let Settings { process, .. } = (*started).as_ref();
        let log = live.section(|settings| &settings.as_ref().log);
        let instance = Instance::new(S::SERVICE, &profile, given.as_deref(), &process.data_dir)?;
        let level = log.live(|log, moment| *log.log_level.at(moment));
        let filter = telemetry::init(S::SERVICE, &instance.name, level.get(), log.started().log_format);
        let live = live.on_apply(move || filter.set(level.get()));
        let listener = startup::listen(S::SERVICE, process, port).await?;
        live.announce(
            Some(process.server_name.as_str()).filter(|name| !name.is_empty()).unwrap_or(S::SERVICE),
        );
        Ok(Some(Self::new(live, instance, listener, stop)))
    }

    /// Makes an app of a process that is ready to run its service. It has no metrics yet.
    #[must_use]
    pub fn new(
        settings: LiveSettings<S>,
        instance: Instance,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Self {
        Self { settings, instance, registry: Registry::with_prefix("hops"), stop, listener }
    }

    /// Connects to the broker, in the background, and declares `topology` there.
    ///
    /// # Errors
    /// Settings of the broker that cannot be used.
    pub fn connect(&mut self, topology: Topology) -> Result<Arc<AmqpClient>, String> {
        let started = self.settings.started();
        let topology = topology.with_exchange(SPRING_CLOUD_BUS);
        let options = AmqpOptions::new(&(*started).as_ref().broker, &self.instance.name, topology)?;
        let client = AmqpClient::new(options, Metrics::registered(&mut self.registry));
        client.connect();
        Ok(Arc::new(client))
    }

    /// Returns checks that show where the settings came from; the service adds its own.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::default().with_note("settings", self.settings.note())
    }

    /// Returns the rule for operators' routes.
    ///
    /// # Errors
    /// A token that cannot be read.
    pub fn access(&self) -> Result<Access, String> {
        Ok(Access::new(&(*self.settings.started()).as_ref().access)?)
    }

    /// Returns the names under which routes with secrets answer, for [`http::hosts::guard`].
    #[must_use]
    pub fn hosts_of_secrets(&self) -> Hosts {
        (*self.settings.started()).as_ref().http.hosts_of_secrets(self.address())
    }

    fn address(&self) -> IpAddr {
        self.listener.local_addr().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
    }

    /// Runs the service until the stop signal, then shuts down in order.
    ///
    /// # Errors
    /// A setting that cannot be used, or what was left at the end of the grace period.
    pub async fn run(mut self, parts: Parts) -> Result<(), String> {
        let Parts { client, health, routes, mut subscriptions, outbox, body_limit } = parts;
        let routes = routes.merge(http::effective::router(self.settings.effective(), self.access()?));
        subscriptions.extend(config_bus::follow(
            &self.settings,
            &client,
            &self.instance.name,
            &mut self.registry,
        ));
        let http = self.settings.section(|settings| &settings.as_ref().http);
        let hosts = http.started().hosts(self.address());
        let router =
            http::router(routes, &http, &health, self.registry).with_body_limit(body_limit).with_hosts(hosts);
        let shutdown = self.settings.section(|settings| &settings.as_ref().shutdown);
        let (listener, folder) = (self.listener, self.instance.folder);
        let service = Service { listener, router, health, client, subscriptions, outbox, folder };
        service.run(&shutdown, &http, self.stop).await
    }
}
