//! Process that starts, probes, restarts and stops all tasks. It outlives the command and the terminal.
//!
//! - `process`: one process, from its start to its exit
//! - `probe`: checks whether a task is alive and ready
//! - `replica`: one slot of a service, process after process
//! - `change`: scaling, updating, killing, pausing
//! - `events`: events for the commands
//! - `server`: commands over the socket
//!
//! It does not build, does not print, and decides nothing that the compose file decides.

pub(crate) mod process;
pub(crate) mod probe;
mod replica;
mod change;
mod events;
mod server;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use forwarder::{Replicas, connections_per_port, forward};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    events::Events,
    replica::{NotReady, Replica},
};
use crate::{
    control::{Event, Phase, Reply, SOCKET, STOPPING, ServiceStatus, Snapshot, TaskStatus},
    failure::Result,
    plan::{Kind, Plan, ServicePlan},
    ports,
    project::Project,
    state,
};

/// Time that the services wait for the broker before they start without it.
const BROKER_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time after which a task is reported as not ready; it may still become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for connections through a forwarder to close after their tasks have exited.
const FORWARDER_CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// State of the supervisor.
#[derive(Debug)]
pub struct Supervisor {
    project: Project,
    plan: Plan,
    since: Timestamp,
    services: Mutex<Vec<Running>>,
    events: Events,
    background: TaskTracker,
    /// Held during a change, so that there is one at a time.
    change: tokio::sync::Mutex<()>,
    /// Cancelled when all tasks were ready, or were not in time.
    started: CancellationToken,
    /// Cancelled when the system is to stop.
    stop: CancellationToken,
    /// Cancelled when all tasks have exited.
    stopped: CancellationToken,
}

/// Service that runs.
#[derive(Debug)]
struct Running {
    plan: Arc<ServicePlan>,
    binaries: String,
    wanted: u32,
    replicas: Vec<Arc<Replica>>,
    /// Targets of the service's forwarders.
    targets: Arc<Replicas>,
    /// Exited tasks of replicas that were removed, the latest first.
    past: Vec<TaskStatus>,
}

/// Runs the stored plan with the binaries from this folder, until a command, SIGTERM or the removal of `.hops` stops it.
///
/// # Errors
/// Another supervisor runs, or another program has taken a port since the plan was made.
pub async fn run(project: Project, binaries: &Path) -> Result<()> {
    // Held until the process has ended, and not only this function: `down` waits for it.
    std::mem::forget(state::lock_supervisor(&project)?);
    accept::raise_file_limit();
    let plan = state::load_plan(&project)?;
    let binaries = binaries.to_string_lossy().into_owned();
    let running = plan.services.iter().map(|service| Running {
        plan: Arc::new(service.clone()),
        binaries: binaries.clone(),
        wanted: service.replicas,
        replicas: vec![],
        targets: Arc::default(),
        past: vec![],
    });
    let supervisor = Arc::new(Supervisor {
        project,
        since: Timestamp::now(),
        services: Mutex::new(running.collect()),
        events: Events::default(),
        background: TaskTracker::new(),
        change: tokio::sync::Mutex::default(),
        started: CancellationToken::new(),
        stop: CancellationToken::new(),
        stopped: CancellationToken::new(),
        plan,
    });
    supervisor.start_forwarders().await?;
    let listener = server::listen()?;
    let serving = supervisor.background.spawn(Arc::clone(&supervisor).serve(listener));
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    supervisor.background.spawn(Arc::clone(&supervisor).start_all());
    tokio::select! {
        () = supervisor.stop.cancelled() => {}
        _ = terminate.recv() => supervisor.stop.cancel(),
        () = state::wait_until_removed(&supervisor.project) => supervisor.stop.cancel(),
    }
    supervisor.stop_all().await;
    serving.abort();
    let _ = fs::remove_file(SOCKET);
    supervisor.stopped.cancel();
    // Commands that follow the events still receive their final reply.
    supervisor.background.close();
    let _ = tokio::time::timeout(Duration::from_secs(1), supervisor.background.wait()).await;
    Ok(())
}

impl Supervisor {
    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    /// Sends an event about a task, a service or `hops`, the system.
    pub(crate) fn announce(&self, who: &str, what: &str) {
        let event = Event { at: Timestamp::now(), who: who.to_owned(), what: what.to_owned() };
        self.events.send(&Reply::Event(event));
    }

    fn with<T>(&self, access: impl FnOnce(&mut Vec<Running>) -> T) -> T {
        access(&mut self.services.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the index of a service.
    fn service(&self, name: &str) -> Result<usize> {
        let names: Vec<_> = self.with(|services| services.iter().map(|s| s.plan.name.clone()).collect());
        names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| anyhow!("there is no service {name}; there are {}", names.join(", ")))
    }

    /// Opens the ports of this machine. A broker, of which there is one task, has its ports on 127.0.0.1 itself, so only the
    /// other address of `localhost` leads to it. All connections through these ports have half of the open files, so that
    /// the others are left for commands and tasks.
    async fn start_forwarders(&self) -> Result<()> {
        let services = self.with(|services| {
            services.iter().map(|it| (Arc::clone(&it.plan), Arc::clone(&it.targets))).collect::<Vec<_>>()
        });
        // Each port has two listeners: see `ports`.
        let listeners = services.iter().map(|(plan, _)| 2 * plan.ports.len()).sum();
        let connections = connections_per_port(listeners, accept::file_limit() / 2);
        for (plan, targets) in services {
            for port in plan.served_ports() {
                let (addresses, targets) = match plan.kind {
                    Kind::Service => (&ports::LOCALHOST[..], Arc::clone(&targets)),
                    Kind::Broker => {
                        let own = Arc::<Replicas>::default();
                        own.set(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port.local))]);
                        (&ports::LOCALHOST[1..], own)
                    }
                };
                let listeners = ports::listen(addresses, port.local).await;
                let listeners = listeners
                    .with_context(|| format!("cannot listen on port {} for {}", port.local, plan.name))?;
                for listener in listeners {
                    let (targets, stop) = (Arc::clone(&targets), self.stopped.clone());
                    let limit = FORWARDER_CLOSE_TIMEOUT;
                    self.background.spawn(forward(listener, targets, connections, limit, stop));
                }
            }
        }
        Ok(())
    }

    /// Starts all tasks, brokers first, and announces when they are ready.
    async fn start_all(self: Arc<Self>) {
        let all = self.with(|services| {
            for service in services.iter_mut() {
                service.replicas = (1..=service.wanted)
                    .map(|slot| Arc::new(Replica::new(Arc::clone(&service.plan), slot, &service.binaries)))
                    .collect();
            }
            services.iter().flat_map(|service| service.replicas.clone()).collect::<Vec<_>>()
        });
        let (brokers, services): (Vec<_>, Vec<_>) = all.iter().partition(|r| r.plan.kind == Kind::Broker);
        for broker in &brokers {
            self.start(broker);
        }
        for broker in &brokers {
            let _ = broker.wait_until_ready(BROKER_START_TIMEOUT).await;
        }
        services.iter().for_each(|replica| self.start(replica));
        let ready = all.iter().map(async |replica| {
            let ready = replica.wait_until_ready(READY_TIMEOUT).await;
            if let Err(why @ NotReady { cannot_start: true, .. }) = &ready {
                self.events.send(&Reply::CannotStart(why.to_string()));
            }
            ready
        });
        let not_ready = futures_util::future::join_all(ready).await.into_iter().filter_map(Result::err);
        self.started.cancel();
        if self.stop.is_cancelled() {
            return;
        }
        self.events.send(&Reply::Started(not_ready.map(|why| why.to_string()).collect()));
    }

    fn start(self: &Arc<Self>, replica: &Arc<Replica>) {
        if self.stop.is_cancelled() {
            replica.stopped.cancel();
            return;
        }
        self.background.spawn(Arc::clone(replica).run(Arc::clone(self)));
    }

    /// Stops all tasks, the broker last, because the services need it for their shutdown.
    async fn stop_all(&self) {
        self.announce("hops", STOPPING);
        for kind in [Kind::Service, Kind::Broker] {
            let replicas = self.with(|services| {
                let of_kind = services.iter().filter(|service| service.plan.kind == kind);
                of_kind.flat_map(|service| service.replicas.clone()).collect::<Vec<_>>()
            });
            replicas.iter().for_each(|replica| replica.stop.cancel());
            for replica in replicas {
                replica.stopped.cancelled().await;
            }
        }
        self.announce("hops", "down: all tasks have exited");
    }

    /// Removes a replica, and keeps its exited tasks.
    fn remove(&self, service: usize, replica: &Arc<Replica>) {
        self.with(|services| {
            let service = &mut services[service];
            service.replicas.retain(|other| !Arc::ptr_eq(other, replica));
            service.past.splice(0..0, replica.past());
            service.past.truncate(20);
        });
    }

    /// Forwards new connections to the ready tasks, or to the running ones while none is ready: a service without its
    /// broker still answers. If all tasks are paused, a client waits for them, as for a paused container.
    pub(crate) fn update_targets(&self, name: &str) {
        self.with(|services| {
            let Some(service) = services.iter().find(|service| service.plan.name == name) else { return };
            let addresses = |phase: Phase| {
                let tasks = service.replicas.iter().map(|replica| replica.status());
                let ports = tasks.filter(|task| task.phase == phase).filter_map(|task| task.port);
                ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect::<Vec<_>>()
            };
            let mut by_phase = [Phase::Ready, Phase::Running, Phase::Paused].into_iter().map(addresses);
            service.targets.set(by_phase.find(|targets| !targets.is_empty()).unwrap_or_default());
        });
    }

    fn snapshot(&self) -> Snapshot {
        let services = self.with(|services| services.iter().map(Running::status).collect());
        Snapshot {
            pid: std::process::id(),
            since: self.since,
            broker: self.plan.broker.as_ref().map(ToString::to_string),
            services,
        }
    }
}

impl Running {
    fn status(&self) -> ServiceStatus {
        let mut tasks: Vec<_> = self.replicas.iter().map(|replica| replica.status()).collect();
        tasks.sort_by_key(|task| task.slot);
        let ready = tasks.iter().filter(|task| task.phase == Phase::Ready).count();
        let mut past: Vec<_> = self.replicas.iter().flat_map(|replica| replica.past()).collect();
        past.extend(self.past.iter().cloned());
        past.sort_by_key(|task| std::cmp::Reverse(task.since));
        ServiceStatus {
            name: self.plan.name.clone(),
            image: self.plan.shown_image().to_owned(),
            replicas: self.wanted,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            ports: self.plan.ports.clone(),
            tasks,
            past,
        }
    }
}

/// Detaches this process from its terminal, so that it survives the terminal's end.
pub(crate) fn detach_from_terminal() -> Result<()> {
    rustix::process::setsid().map(drop).context("cannot detach from the terminal")
}
