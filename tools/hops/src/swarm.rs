//! The stack on Docker Swarm, through the docker command and so with the rights of the person who types it.
//!
//! - `docker`: runs the command
//! - `tasks`: tasks with the states that a swarm has for them
//! - `management`: the broker, which publishes no port: its management API is asked inside its container
//!
//! Only containers of this machine can be asked, read and killed; the tasks of other nodes have their states.

mod docker;
mod tasks;
mod management;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::timeout;

use self::docker::output;
pub(crate) use self::{
    docker::{docker, log_command, log_lines},
    management::{Management, NUMBERS_LAG},
    tasks::TaskRow,
};
use crate::{failure::Result, project::Project};

/// Time limit for a service's answer to the question whether it is ready.
const READINESS_TIMEOUT: Duration = Duration::from_secs(10);
/// Services of other programs: the broker, and the forwarder of docker-compose.noipvs.yml.
const FOREIGN: [&str; 2] = ["rabbitmq", "edge"];

/// Stack that is deployed on the swarm of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    /// Name that `deploy.sh` gives it.
    pub(crate) name: String,
    /// Services whose ports are published, with these.
    pub(crate) ports: [(&'static str, u16); 2],
    /// Folder with the logins that `deploy.sh` has created.
    secrets: PathBuf,
}

/// Container of the stack on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// Name of the task, as in `vipservice.1`.
    pub(crate) task: String,
    /// Id of the task, in which it differs from the earlier tasks of its slot.
    pub(crate) task_id: String,
    pub(crate) is_running: bool,
}

/// The stack `hops`, as `deploy.sh` deploys it if no variable says otherwise.
impl Default for Stack {
    fn default() -> Self {
        let ports = [("accountservice", 6767), ("vipservice", 6868)];
        Self { name: "hops".into(), ports, secrets: ".secrets".into() }
    }
}

impl Stack {
    /// Returns the stack of a checkout, with the name in `HOPS_STACK`, whether or not it is deployed.
    pub(crate) fn of(project: &Project) -> Self {
        let Self { name, ports, secrets } = Self::default();
        Self {
            name: project.variable("HOPS_STACK").map_or(name, str::to_owned),
            ports: ports.map(|(service, port)| (service, project.shifted(port))),
            secrets: project.root().join(secrets),
        }
    }

    /// Returns the port of the accountservice.
    pub(crate) fn account_port(&self) -> u16 {
        self.ports[0].1
    }

    /// Returns a name without the name of the stack, as in `hops_vipservice`.
    pub(crate) fn without_prefix<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.name.as_str())?.strip_prefix('_')
    }

    fn filter(&self) -> String {
        format!("label=com.docker.stack.namespace={}", self.name)
    }

    /// Returns the names of the stack's services; none if it is not deployed.
    pub(crate) async fn services(&self) -> Result<Vec<String>> {
        let arguments = ["service", "ls", "--filter", &self.filter(), "--format", "{{.Name}}"];
        Ok(docker(&arguments)
            .await?
            .lines()
            .filter_map(|name| self.without_prefix(name))
            .map(str::to_owned)
            .collect())
    }

    /// Returns the names of the stack's services.
    pub(crate) async fn deployed_services(&self) -> Result<Vec<String>> {
        let services = self.services().await?;
        if services.is_empty() {
            bail!("there is no stack {} on this machine's swarm: `./deploy.sh` deploys it", self.name);
        }
        Ok(services)
    }

    /// Returns the containers of the stack on this machine, including those that have stopped.
    pub(crate) async fn containers(&self) -> Result<Vec<Container>> {
        let format = r#"{{.ID}} {{.State}} {{.Label "com.docker.swarm.task.name"}}"#;
        let arguments = ["ps", "--all", "--no-trunc", "--filter", &self.filter(), "--format", format];
        Ok(docker(&arguments).await?.lines().filter_map(|line| self.container(line)).collect())
    }

    /// Parses a line of `docker ps`, as in `0a1b running hops_vipservice.1.4qhz6rb0vcs7`.
    fn container(&self, line: &str) -> Option<Container> {
        let (id, rest) = line.split_once(' ')?;
        let (state, name) = rest.split_once(' ')?;
        let (task, task_id) = self.without_prefix(name)?.rsplit_once('.')?;
        let is_running = matches!(state, "running" | "paused");
        Some(Container { id: id.into(), task: task.into(), task_id: task_id.into(), is_running })
    }

    /// Returns the id of a task's container.
    pub(crate) async fn container_of(&self, task: &str) -> Result<String> {
        let mut containers = self.containers().await?.into_iter();
        let found = containers.find(|container| container.is_running && container.task == task);
        found.map(|container| container.id).with_context(|| {
            format!("{task} does not run on this machine: `docker stack ps {}` shows all tasks", self.name)
        })
    }

    /// Kills a task with SIGKILL, and returns the id of its container.
    pub(crate) async fn kill(&self, task: &str) -> Result<String> {
        let container = self.container_of(task).await?;
        docker(&["kill", "--signal", "KILL", &container]).await?;
        Ok(container)
    }
}

impl Container {
    /// Returns the name of the container's service.
    pub(crate) fn service(&self) -> &str {
        self.task.split_once('.').map_or(self.task.as_str(), |(service, _)| service)
    }

    /// Returns true for a container of a service of this repository, which logs JSON lines and knows `healthcheck`.
    pub(crate) fn is_ours(&self) -> bool {
        is_ours(self.service())
    }

    /// Asks the service whether it is ready. The error is its reason.
    pub(crate) async fn readiness(&self) -> Result<(), String> {
        let program = format!("/{}", self.service());
        let arguments = ["exec", &self.id, &program, "healthcheck", "--ready"];
        let asked = match timeout(READINESS_TIMEOUT, output(&arguments, "")).await {
            Ok(asked) => asked.map_err(|why| format!("{why:#}"))?,
            Err(_) => return Err(format!("no answer within {} s", READINESS_TIMEOUT.as_secs())),
        };
        if asked.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&asked.stderr);
        Err(said.trim().trim_start_matches("error: ").to_owned())
    }
}

/// Returns true for a service of this repository.
pub(crate) fn is_ours(service: &str) -> bool {
    !FOREIGN.contains(&service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_the_task_in_its_label() {
        let stack = Stack::default();
        for (line, expected) in [
            ("0a1b running hops_vipservice.1.4qhz", Some(("vipservice.1", "4qhz", true))),
            ("0a1b paused hops_vipservice.2.4qhz", Some(("vipservice.2", "4qhz", true))),
            ("0a1b exited hops_rabbitmq.1.4qhz", Some(("rabbitmq.1", "4qhz", false))),
            ("0a1b running hopscotch_vipservice.1.4qhz", None),
            ("0a1b running ", None),
            ("", None),
        ] {
            let container = stack.container(line);
            let found = container.as_ref().map(|it| (it.task.as_str(), it.task_id.as_str(), it.is_running));
            assert_eq!(found, expected, "{line}");
        }
        let ours = ["vipservice.1", "rabbitmq.1", "edge.1"].map(|task| {
            let line = format!("0a1b running hops_{task}.4qhz");
            stack.container(&line).unwrap().is_ours()
        });
        assert_eq!(ours, [true, false, false]);
    }
}
