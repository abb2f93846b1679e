//! `down`: stops everything.

use std::time::Duration;

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    command_lock::CommandLock,
    control::{Reply, Request, ask, status},
    failure::Result,
    live,
    project::Project,
    render::Screen,
    state,
};

/// Time within which the supervisor stops all tasks; longer than any grace period.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// Time within which the supervisor exits after its final reply.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Stops all processes; with `all` also removes their data.
///
/// # Errors
/// A process does not exit, or the data cannot be removed.
pub async fn down(project: &Project, screen: Screen, all: bool) -> Result<()> {
    let lock = CommandLock::take_if_used(project).await?;
    if !stop_processes(project, screen).await? {
        screen.text("nothing was up here");
    }
    if all {
        project.remove_data()?;
        screen.text("no data is left: .hops is removed");
    }
    drop(lock);
    screen.value(&serde_json::json!({"down": true, "dataRemoved": all}));
    Ok(())
}

/// Stops the system, as `down` does.
///
/// # Errors
/// A process does not exit.
pub(super) async fn stop(project: &Project, screen: Screen) -> Result<()> {
    let _lock = CommandLock::take_if_used(project).await?;
    stop_processes(project, screen).await.map(drop)
}

/// Stops all processes. Returns false if there were none.
async fn stop_processes(project: &Project, screen: Screen) -> Result<bool> {
    let is_up = state::is_supervisor_running(project);
    if is_up {
        let asked = ask(&Request::Down, |reply| {
            if let Reply::Event(event) = reply {
                screen.event(event);
            }
            true
        });
        // A supervisor that does not even answer a status request does not stop by itself.
        let answered =
            status().await.is_ok() && timeout(STOP_TIMEOUT, asked).await.is_ok_and(|answer| answer.is_ok());
        if answered {
            wait_until_exited(project).await?;
        } else if let Some(pid) = state::supervisor_pid(project).and_then(Pid::from_raw) {
            screen.text("the supervisor does not answer: killed");
            let _ = kill_process(pid, Signal::KILL);
            wait_until_exited(project).await?;
        }
    }
    live::wait_until_exited(project).await;
    let stopped = state::stop_orphans(project).await?;
    if !stopped.is_empty() {
        screen.text(&format!("the supervisor was killed; stopped its tasks: {}", stopped.join(", ")));
    }
    Ok(is_up || !stopped.is_empty())
}

/// Waits until the supervisor has exited.
async fn wait_until_exited(project: &Project) -> Result<()> {
    let deadline = Instant::now() + EXIT_TIMEOUT;
    while state::is_supervisor_running(project) {
        if Instant::now() > deadline {
            bail!("the supervisor does not exit: `cargo hops down` again kills it");
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
