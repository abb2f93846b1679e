//! The process that starts, watches and ends all others. It outlives the command and the terminal.
//!
//! - `process`: one process, from its start to its end
//! - `probe`: whether it lives and works
//! - `replica`: one slot of a service, process after process
//! - `change`: scaling, updating, killing
//! - `server`: commands over the socket
//!
//! It does not build, does not print, and decides nothing that the compose file decides.

mod process;
mod probe;
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

use forwarder::{Replicas, forward};
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{events::Events, replica::Replica};
use crate::{
    control::{Event, Phase, Reply, SOCKET, ServiceStatus, Snapshot},
    failure::{Doing as _, Failure, Result},
    plan::{Kind, Plan, ServicePlan},
    project::Project,
    state,
};

/// How long a service waits for the broker's first word before it starts without it.
const BROKER_FIRST: Duration = Duration::from_secs(10);
/// Until all is ready for the first time; later is not too late, it is only said.
const UNTIL_READY: Duration = Duration::from_secs(60);
/// At the end, for connections through a forwarder: what they led to has ended by then.
const FINISH: Duration = Duration::from_millis(200);

/// All that runs.
#[derive(Debug)]
pub struct Supervisor {
    project: Project,
    plan: Plan,
    since: Timestamp,
    services: Mutex<Vec<Running>>,
    events: Events,
    tasks: TaskTracker,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Asked to end.
    down: CancellationToken,
    /// Ended.
    is_down: CancellationToken,
}

/// A service that runs.
#[derive(Debug)]
struct Running {
    plan: Arc<ServicePlan>,
    binaries: String,
    wanted: u32,
    replicas: Vec<Arc<Replica>>,
    behind: Arc<Replicas>,
    past: Vec<crate::control::TaskStatus>,
}

/// Runs the plan that was written down, with binaries from this folder, until someone says that it is enough.
///
/// # Errors
/// Another supervisor runs, or a port was taken in the meantime.
pub async fn run(project: Project, binaries: &Path) -> Result<()> {
    let _lock = state::become_supervisor(&project)?;
    let plan = state::load_plan(&project)?;
    let binaries = binaries.to_string_lossy().into_owned();
    let running = plan.services.iter().map(|service| Running {
        plan: Arc::new(service.clone()),
        binaries: binaries.clone(),
        wanted: service.replicas,
        replicas: vec![],
        behind: Arc::default(),
        past: vec![],
    });
    let supervisor = Arc::new(Supervisor {
        project,
        since: Timestamp::now(),
        services: Mutex::new(running.collect()),
        events: Events::default(),
        tasks: TaskTracker::new(),
        changing: tokio::sync::Mutex::default(),
        down: CancellationToken::new(),
        is_down: CancellationToken::new(),
        plan,
    });
    supervisor.forward().await?;
    let listener = server::listen()?;
    let serving = supervisor.tasks.spawn(Arc::clone(&supervisor).serve(listener));
    let mut terminate = signal(SignalKind::terminate()).doing(|| "listen to signals".into())?;
    supervisor.tasks.spawn(Arc::clone(&supervisor).bring_up());
    tokio::select! {
        () = supervisor.down.cancelled() => {}
        _ = terminate.recv() => supervisor.down.cancel(),
        () = state::until_removed(&supervisor.project) => supervisor.down.cancel(),
    }
    supervisor.bring_down().await;
    serving.abort();
    let _ = fs::remove_file(SOCKET);
    supervisor.is_down.cancel();
    // Whoever follows is told so.
    supervisor.tasks.close();
    let _ = tokio::time::timeout(Duration::from_secs(1), supervisor.tasks.wait()).await;
    Ok(())
}

impl Supervisor {
    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    /// Says what happened.
    pub(crate) fn tell(&self, who: &str, what: &str) {
        let event = Event { at: Timestamp::now(), who: who.to_owned(), what: what.to_owned() };
        self.events.tell(&Reply::Event(event));
    }

    fn with<T>(&self, read: impl FnOnce(&mut Vec<Running>) -> T) -> T {
        read(&mut self.services.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The place of a service.
    fn service(&self, name: &str) -> Result<usize, String> {
        let names: Vec<_> = self.with(|services| services.iter().map(|s| s.plan.name.clone()).collect());
        names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| format!("there is no service {name}; there are {}", names.join(", ")))
    }

    /// Opens the services' ports. A broker has its own: its clients stay for long, and there is one of it.
    async fn forward(&self) -> Result<()> {
        let services = self.with(|services| {
            let services = services.iter().filter(|service| service.plan.kind == Kind::Service);
            services
                .map(|service| (Arc::clone(&service.plan), Arc::clone(&service.behind)))
                .collect::<Vec<_>>()
        });
        for (plan, behind) in services {
            for port in &plan.ports {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.local)).await;
                let listener =
                    listener.doing(|| format!("listen on port {} for {}", port.local, plan.name))?;
                let stop = self.is_down.clone();
                self.tasks.spawn(forward(listener, Arc::clone(&behind), FINISH, stop));
            }
        }
        Ok(())
    }

    /// Starts all, brokers first, and says when all is ready.
    async fn bring_up(self: Arc<Self>) {
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
            let _ = broker.until_ready(BROKER_FIRST).await;
        }
        services.iter().for_each(|replica| self.start(replica));
        let ready = all.iter().map(|replica| replica.until_ready(UNTIL_READY));
        let late = futures_util::future::join_all(ready).await.into_iter().filter_map(Result::err);
        self.events.tell(&Reply::Started(late.collect()));
    }

    fn start(self: &Arc<Self>, replica: &Arc<Replica>) {
        if self.down.is_cancelled() {
            replica.done.cancel();
            return;
        }
        self.tasks.spawn(Arc::clone(replica).run(Arc::clone(self)));
    }

    /// Ends all: services first, and the broker that they need for it last.
    async fn bring_down(&self) {
        self.tell("hops", "going down");
        for kind in [Kind::Service, Kind::Broker] {
            let these = self.with(|services| {
                let of_kind = services.iter().filter(|service| service.plan.kind == kind);
                of_kind.flat_map(|service| service.replicas.clone()).collect::<Vec<_>>()
            });
            these.iter().for_each(|replica| replica.stop.cancel());
            for replica in these {
                replica.done.cancelled().await;
            }
        }
        self.tell("hops", "down: no process is left");
    }

    /// Takes a replica out for good; what it was is remembered.
    fn remove(&self, service: usize, replica: &Arc<Replica>) {
        self.with(|services| {
            let service = &mut services[service];
            service.replicas.retain(|other| !Arc::ptr_eq(other, replica));
            service.past.splice(0..0, replica.past());
            service.past.truncate(20);
        });
    }

    /// New connections go to who is ready, or, while nobody is, to all who run: a service without its broker
    /// still answers.
    pub(crate) fn replicas_changed(&self, name: &str) {
        self.with(|services| {
            let Some(service) = services.iter().find(|service| service.plan.name == name) else { return };
            let those = |wanted: Phase| {
                let tasks = service.replicas.iter().map(|replica| replica.status());
                let ports = tasks.filter(|task| task.phase == wanted).filter_map(|task| task.port);
                ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect::<Vec<_>>()
            };
            let ready = those(Phase::Ready);
            service.behind.set(if ready.is_empty() { those(Phase::Running) } else { ready });
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
            image: self.plan.image.clone(),
            replicas: self.wanted,
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
            ports: self.plan.ports.clone(),
            tasks,
            past,
        }
    }
}

/// What the supervisor's process does: it leaves the terminal, and its own log says why it could not stay.
pub(crate) fn leave_terminal() -> Result<()> {
    rustix::process::setsid().map(drop).map_err(|e| Failure::Why(format!("cannot leave the terminal: {e}")))
}
