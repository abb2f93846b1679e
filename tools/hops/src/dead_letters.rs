//! The vipservice's command for dead letters, with the settings of its first task.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{binaries, failure::Result, plan::Plan, project::Project};

/// Runs `vipservice dead-letters` with these arguments, and returns what it prints.
///
/// # Errors
/// The command fails; the error is its own.
pub(crate) fn run(project: &Project, plan: &Plan, verb: &[&str]) -> Result<String> {
    let service = plan.services.iter().find(|service| service.name == "vipservice");
    let service = service.context("docker-compose.yml has no vipservice")?;
    let task = service.task(1, 0)?;
    let binary = binaries::in_use(project, &service.binary)?;
    let output = Command::new(&binary).arg("dead-letters").args(verb).envs(task.environment).output();
    let output = output.with_context(|| format!("cannot start {}", binary.display()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => bail!("dead-letters {}: {}", verb.join(" "), String::from_utf8_lossy(&output.stderr).trim()),
    }
}
