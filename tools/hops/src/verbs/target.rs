//! System that a command means: the processes of this checkout, or the stack on Docker Swarm.
//!
//! Verbs for both ask here for what differs: addresses, log lines, tasks, and how a person types a command.

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp};

use super::{address, unknown_service};
use crate::{
    cli::TaskName,
    control::{Phase, Request, ask, status},
    failure::Result,
    logs::{ContainerLogs, Lines, Tail},
    plan::Plan,
    project::Project,
    state,
    swarm::Stack,
};

/// Time before a command from which the lines of a stack are read, since its containers are followed after a moment.
const EARLIER_LINES: SignedDuration = SignedDuration::from_mins(1);

/// System that a command means.
#[derive(Debug)]
pub(crate) enum Target<'a> {
    /// Processes of this checkout.
    Local { project: &'a Project, plan: Box<Plan> },
    /// Stack that is deployed, with the names of its services.
    Swarm { stack: Stack, services: Vec<String> },
}

impl<'a> Target<'a> {
    /// Finds the processes of this checkout, or the stack.
    pub(crate) async fn find(project: &'a Project, is_swarm: bool) -> Result<Self> {
        if !is_swarm {
            return Ok(Self::Local { project, plan: Box::new(state::load_plan(project)?) });
        }
        let stack = Stack::of(project);
        let services = stack.deployed_services().await?;
        Ok(Self::Swarm { stack, services })
    }

    /// Returns the beginning of a command for this system.
    pub(crate) fn command(&self) -> &'static str {
        match self {
            Self::Local { .. } => "cargo hops",
            Self::Swarm { .. } => "cargo hops --swarm",
        }
    }

    /// Returns the URL of a service.
    pub(crate) fn address(&self, service: &str) -> Result<String> {
        match self {
            Self::Local { plan, .. } => address(plan, service),
            Self::Swarm { stack, .. } => {
                let port = stack.ports.iter().find(|(name, _)| *name == service);
                let (_, port) = port.with_context(|| format!("{service} has no port"))?;
                // Not localhost: over IPv6 a swarm's port never answers.
                Ok(format!("http://127.0.0.1:{port}"))
            }
        }
    }

    /// Returns the names of services and tasks without the name of the stack.
    pub(crate) fn known_names(&self, names: &[String]) -> Result<Vec<String>> {
        let services = match self {
            Self::Local { plan, .. } => &plan.service_names(),
            Self::Swarm { services, .. } => services,
        };
        let known = |name: &String| {
            let name = match self {
                Self::Swarm { stack, .. } => stack.without_prefix(name).unwrap_or(name),
                Self::Local { .. } => name,
            };
            let service = name.parse().map_or_else(|_| name.to_owned(), |task: TaskName| task.service);
            match services.contains(&service) {
                true => Ok(name.to_owned()),
                false => Err(unknown_service(&service, services.iter().map(String::as_str))),
            }
        };
        names.iter().map(known).collect()
    }

    /// Returns the lines of these tasks and of the tasks of these services; of all processes, or of our services of a stack,
    /// if none is named. Of a stack, earlier lines than `since` may be left out.
    pub(crate) fn lines(&self, names: &[String], since: Option<Timestamp>) -> Lines {
        match self {
            Self::Local { project, .. } => Lines::Files(Tail::new(project.path("logs"), names)),
            Self::Swarm { stack, .. } => Lines::Containers(ContainerLogs::new(stack.clone(), names, since)),
        }
    }

    /// Returns the lines from now on, and of a stack some earlier ones, too.
    pub(crate) fn new_lines(&self) -> Lines {
        let mut lines = self.lines(&[], Timestamp::now().checked_sub(EARLIER_LINES).ok());
        match &mut lines {
            Lines::Files(tail) => tail.skip(),
            // Begins to follow the containers.
            Lines::Containers(logs) => drop(logs.read_new()),
        }
        lines
    }

    /// Returns the names of the tasks, those of a stack only on this machine.
    pub(crate) async fn tasks(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::Local { .. } => {
                let tasks = status().await?.services.into_iter().flat_map(|service| service.tasks);
                tasks.filter(|task| task.phase != Phase::Complete).map(|task| task.name).collect()
            }
            Self::Swarm { stack, .. } => {
                let containers = stack.containers().await?.into_iter().filter(|it| it.is_running);
                containers.map(|container| container.task).collect()
            }
        })
    }

    /// Checks that a task is there.
    pub(crate) async fn must_run(&self, task: &TaskName) -> Result<()> {
        let tasks = self.tasks().await?;
        if tasks.contains(&task.to_string()) {
            return Ok(());
        }
        bail!("there is no task {task}; the tasks are {}", tasks.join(", "))
    }

    /// Kills a task with SIGKILL.
    pub(crate) async fn kill(&self, task: &TaskName) -> Result<()> {
        match self {
            Self::Local { .. } => {
                let (service, slot) = (task.service.clone(), task.slot);
                ask(&Request::Kill { service, slot }, |_| true).await.map(drop)
            }
            Self::Swarm { stack, .. } => stack.kill(&task.to_string()).await.map(drop),
        }
    }
}
