//! Docker's command: the services and the containers of the stack, and their logs.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use live::system::Inputs;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use crate::failure::Result;

/// Name of the stack, as `deploy.sh` deploys it.
pub(super) const STACK: &str = "hops";
/// Logs of a container from before the start of the page: those of the last minutes.
pub(super) const EARLIER_LOGS: &str = "10m";

/// Container of the stack on this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Container {
    pub(super) id: String,
    /// Name of the task, as in `vipservice.1`.
    pub(super) task: String,
}

/// Passes on the lines of a container's log until it ends.
pub(super) async fn follow_log(Container { id, task }: Container, inputs: Inputs) {
    let mut command = Command::new("docker");
    command.args(["logs", "--follow", "--since", EARLIER_LOGS, &id]).kill_on_drop(true);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return };
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            inputs.line(&task, &line).await;
        }
    }
    let _ = child.wait().await;
}

/// Returns the names of the stack's services, without the name of the stack.
pub(super) async fn services() -> Result<Vec<String>> {
    let filter = format!("label=com.docker.stack.namespace={STACK}");
    let text = docker(&["service", "ls", "--filter", &filter, "--format", "{{.Name}}"]).await?;
    Ok(text
        .lines()
        .filter_map(|name| Some(name.strip_prefix(STACK)?.strip_prefix('_')?.to_owned()))
        .collect())
}

/// Returns the containers of the stack on this machine.
pub(super) async fn containers() -> Result<Vec<Container>> {
    let filter = format!("label=com.docker.stack.namespace={STACK}");
    let format = r#"{{.ID}} {{.Label "com.docker.swarm.task.name"}}"#;
    let text = docker(&["ps", "--no-trunc", "--filter", &filter, "--format", format]).await?;
    let container = |line: &str| {
        let (id, name) = line.split_once(' ')?;
        // As in hops_vipservice.1.4qhz6rb0vcs7.
        let (task, _) = name.strip_prefix(STACK)?.strip_prefix('_')?.rsplit_once('.')?;
        Some(Container { id: id.to_owned(), task: task.to_owned() })
    };
    Ok(text.lines().filter_map(container).collect())
}

/// Returns the id of a task's container, if it runs on this machine.
pub(super) async fn container_of(task: &str) -> Option<String> {
    let containers = containers().await.ok()?;
    containers.into_iter().find(|container| container.task == task).map(|container| container.id)
}

/// Returns the name of a service of the stack, which goes into a command.
pub(super) fn named(service: &str) -> Result<&str> {
    let is_name = service.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_name = is_name && service.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if is_name { Ok(service) } else { bail!("there is no service {service}") }
}

/// Runs the docker command, and returns its output.
pub(super) async fn docker(arguments: &[&str]) -> Result<String> {
    docker_with(arguments, "").await
}

/// Runs the docker command with this standard input, and returns its output.
pub(super) async fn docker_with(arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("docker");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("cannot run docker")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that has failed already reads nothing; its error says more.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.context("cannot run docker")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => bail!("docker {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_services_go_into_no_command() {
        assert!(named("vipservice").is_ok());
        for name in ["", "--help", "a b", "a=1", "../a"] {
            assert!(named(name).is_err(), "{name}");
        }
    }
}
