//! The vipservice's command for dead letters, with the settings of its first task.

use std::{
    fs::{self, File},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::{
    binaries,
    failure::Result,
    plan::Plan,
    project::Project,
    supervisor::process::{last_error, new_log},
};

/// Name of the command's log, beside those of the tasks. The page and `service logs` read there what it redrives.
const LOG: &str = "vipservice.dead-letters";

/// Runs `vipservice dead-letters` with these arguments, and returns what it prints.
///
/// # Errors
/// The command fails; the error is its own.
pub(crate) fn run(project: &Project, plan: &Plan, verb: &[&str]) -> Result<String> {
    let service = plan.services.iter().find(|service| service.name == "vipservice");
    let service = service.context("docker-compose.yml has no vipservice")?;
    let task = service.task(1, 0)?;
    let binary = binaries::in_use(project, &service.binary)?;
    let log = new_log(project, LOG, &format!("{:08x}", rand::random::<u32>()))?;
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(&binary);
    command.arg("dead-letters").args(verb).envs(task.environment).env("APP_LOG_FORMAT", "json").stderr(file);
    let output = command.output().with_context(|| format!("cannot start {}", binary.display()))?;
    if !output.status.success() {
        bail!("dead-letters {}: {}", verb.join(" "), last_error(&log).unwrap_or_default());
    }
    if fs::metadata(&log).is_ok_and(|log| log.len() == 0) {
        let _ = fs::remove_file(&log);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
