//! The commands.
//!
//! - `target`: the system that a command means, of processes or on a swarm
//! - [`up`], [`down`]: start and stop the system
//! - [`mod@env`]: prints a shell's settings for this checkout's ports
//! - [`mod@live`]: shows the page's address
//! - [`service`], [`logs`]: Docker's `service` verbs
//! - [`task`]: `kill`, `pause` and `unpause`
//! - [`mod@status`]: lists everything that runs
//! - [`stats`]: shows the CPU and memory of each task
//! - [`mod@read`]: reads an account some times
//! - [`walk`]: follows one message
//! - [`mod@wait`]: waits until something is so
//! - [`queues`]: shows waiting messages
//! - [`mod@verify`]: matches reads with offers
//! - [`mod@tour`]: plays what the system does, in five steps
//! - [`mod@check`]: checks the exercises of the chapters
//! - [`guarantee`]: `break` and `mend`
//! - [`mod@new`]: creates a service

mod target;
pub mod env;
pub mod live;
pub mod up;
pub mod down;
pub mod service;
pub mod logs;
pub mod task;
pub mod status;
pub mod stats;
pub mod read;
pub mod walk;
pub mod wait;
pub mod queues;
pub mod verify;
pub mod tour;
pub mod check;
pub mod guarantee;
pub mod new;

use std::net::Ipv4Addr;

use anyhow::{Context as _, anyhow, bail};

pub(crate) use self::target::Target;
use crate::{
    command_lock::CommandLock,
    failure::Result,
    plan::{Plan, ServicePlan},
    project::Project,
    state,
};

/// Checks that the system is up. If its supervisor was killed, stops the tasks that still run.
///
/// # Errors
/// Nothing is up; the error says what to type.
pub(crate) async fn require_up(project: &Project) -> Result<()> {
    if require_running(project).is_ok() || state::orphans(project).is_empty() {
        return require_running(project);
    }
    // They may be the tasks of an `up` that has started its supervisor just now.
    let _lock = CommandLock::take(project).await?;
    let stopped =
        if state::is_supervisor_running(project) { vec![] } else { state::stop_orphans(project).await? };
    if stopped.is_empty() {
        return require_running(project);
    }
    bail!(
        "the supervisor was killed, so its tasks have been stopped now ({}): `cargo hops up` starts the system again",
        stopped.join(", ")
    )
}

/// Checks that a supervisor runs.
fn require_running(project: &Project) -> Result<()> {
    if !state::is_supervisor_running(project) {
        bail!("nothing is up here: type `cargo hops up`");
    }
    Ok(())
}

/// Returns a service of the plan.
fn service_of<'a>(plan: &'a Plan, name: &str) -> Result<&'a ServicePlan> {
    let service = plan.services.iter().find(|service| service.name == name);
    service.ok_or_else(|| unknown_service(name, plan.services.iter().map(|service| service.name.as_str())))
}

/// Returns the URL of a service.
fn address(plan: &Plan, service: &str) -> Result<String> {
    let port = service_of(plan, service)?.local_port();
    let port = port.with_context(|| format!("{service} has no port: add one in docker-compose.yml"))?;
    Ok(format!("http://localhost:{port}"))
}

/// Returns the beginning of a client for the system's own addresses: it connects to 127.0.0.1 for `localhost`, where the
/// system listens whatever the machine's resolver says.
fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().resolve("localhost", (Ipv4Addr::LOCALHOST, 0).into())
}

fn unknown_service<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> anyhow::Error {
    anyhow!("there is no service {name}; there are {}", known.collect::<Vec<_>>().join(", "))
}
