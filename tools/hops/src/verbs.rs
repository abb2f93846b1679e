//! What each command does.
//!
//! - [`up`], [`down`]: the system's beginning and end
//! - [`service`]: Docker's `service` verbs, and `kill`
//! - [`mod@status`]: everything at a glance
//! - [`walk`], [`queues`], [`mod@verify`]: what becomes of a message, of messages, and of all of them

pub mod up;
pub mod down;
pub mod service;
pub mod status;
pub mod walk;
pub mod queues;
pub mod verify;

use crate::{
    control::{Snapshot, status},
    failure::{Failure, Result},
    plan::{Plan, ServicePlan},
    project::Project,
    state,
};

/// Recognizes what a supervisor has left that was killed, and ends it.
///
/// # Errors
/// Nothing is up, with what to type.
pub(crate) async fn must_be_up(project: &Project) -> Result<()> {
    if state::is_supervised(project) {
        return Ok(());
    }
    let ended = state::end_orphans_if_any(project).await?;
    if ended.is_empty() {
        return Err("nothing is up here: type `cargo hops up`".into());
    }
    Err(Failure::Why(format!(
        "the supervisor was killed; it had left {}, which are ended now: `cargo hops up` starts the system again",
        ended.join(", ")
    )))
}

/// A service of the plan that is up.
fn service_of<'a>(plan: &'a Plan, name: &str) -> Result<&'a ServicePlan> {
    plan.services.iter().find(|service| service.name == name).ok_or_else(|| {
        let names: Vec<_> = plan.services.iter().map(|service| service.name.as_str()).collect();
        Failure::Why(format!("there is no service {name}; there are {}", names.join(", ")))
    })
}

/// Where a service of the system that is up is found.
fn address(plan: &Plan, service: &str) -> Result<String> {
    let port = service_of(plan, service)?.local_port();
    port.map(|port| format!("http://localhost:{port}")).ok_or_else(|| format!("{service} has no port").into())
}

/// How things are, checked to be about these names.
async fn snapshot_with(name: &str) -> Result<Snapshot> {
    let snapshot = status().await?;
    if !snapshot.services.iter().any(|service| service.name == name) {
        let names: Vec<_> = snapshot.services.iter().map(|service| service.name.as_str()).collect();
        return Err(Failure::Why(format!("there is no service {name}; there are {}", names.join(", "))));
    }
    Ok(snapshot)
}
