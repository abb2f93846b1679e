//! `kill`, `pause` and `unpause`: signals to one task.

use anyhow::bail;
use serde_json::json;

use crate::{
    cli::TaskName,
    control::{OTHER_VERSION, Reply, Request, ask},
    failure::Result,
    render::Screen,
};

/// Kills one task with SIGKILL.
///
/// # Errors
/// It does not run.
pub async fn kill(screen: Screen, task: &TaskName) -> Result<()> {
    let (service, slot) = (task.service.clone(), task.slot);
    signal(screen, task, &Request::Kill { service, slot }, "killed").await
}

/// Freezes one task.
///
/// # Errors
/// It does not run, or is paused already.
pub async fn pause(screen: Screen, task: &TaskName) -> Result<()> {
    let (service, slot) = (task.service.clone(), task.slot);
    signal(screen, task, &Request::Pause { service, slot }, "paused").await
}

/// Resumes one task.
///
/// # Errors
/// It is not paused.
pub async fn unpause(screen: Screen, task: &TaskName) -> Result<()> {
    let (service, slot) = (task.service.clone(), task.slot);
    signal(screen, task, &Request::Unpause { service, slot }, "unpaused").await
}

async fn signal(screen: Screen, task: &TaskName, request: &Request, done: &str) -> Result<()> {
    match ask(request, |_| true).await? {
        Reply::Done(text) => screen.text(&text),
        _ => bail!(OTHER_VERSION),
    }
    screen.value(&json!({done: task.to_string()}));
    Ok(())
}
