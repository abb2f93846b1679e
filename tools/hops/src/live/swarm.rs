//! The stack on Docker Swarm as the page's system.
//!
//! - `tasks`: tasks as events
//!
//! Events are those of the containers on this machine; the tasks of other nodes are shown with their states.

mod tasks;

use std::{
    collections::BTreeMap,
    sync::{Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use live::{
    event::Queue,
    system::{Action, Description, Inputs, LogLine, System},
};
use serde_json::Value;
use tokio::{sync::watch, time::sleep};

use self::tasks::task_changes;
use super::{
    messages::{LISTED, queue},
    read, task_name,
};
use crate::{
    broker::WORK_QUEUE,
    failure::Result,
    logs::ContainerLogs,
    project::Project,
    swarm::{Management, Stack, docker},
};

/// Time between two readings of the lines that have come.
const LOG_INTERVAL: Duration = Duration::from_millis(50);
/// Logs from before the start of the page: those of the last minutes.
const EARLIER_LOGS: SignedDuration = SignedDuration::from_mins(10);
/// Time between two requests for the tasks, as each runs a process.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Stack that is deployed on the swarm of this machine.
pub struct Swarm {
    stack: Stack,
    broker: Management,
    client: reqwest::Client,
    broker_name: SyncMutex<String>,
}

impl Swarm {
    /// Checks that the stack is deployed.
    ///
    /// # Errors
    /// It is not, or Docker does not answer.
    pub async fn new(project: &Project) -> Result<Self> {
        let stack = Stack::of(project);
        stack.deployed_services().await?;
        let client =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).pool_max_idle_per_host(0);
        let client = client.build().unwrap_or_default();
        let broker = Management::new(stack.clone());
        Ok(Self { stack, broker, client, broker_name: SyncMutex::new("RabbitMQ".into()) })
    }

    /// Returns the logs of our services, from before the start of the page, too.
    fn logs(&self) -> ContainerLogs {
        ContainerLogs::new(self.stack.clone(), &[], Timestamp::now().checked_sub(EARLIER_LOGS).ok())
    }

    async fn follow_logs(&self, inputs: &Inputs) {
        let mut logs = self.logs();
        loop {
            for line in logs.read_new() {
                inputs.line(&line.task, &line.text).await;
            }
            sleep(LOG_INTERVAL).await;
        }
    }

    async fn follow_tasks(&self, inputs: &Inputs) {
        let mut known = BTreeMap::new();
        loop {
            let rows = async { self.stack.task_rows(&self.stack.services().await?).await };
            if let Ok(rows) = rows.await {
                for task in task_changes(&mut known, &rows) {
                    inputs.task(Timestamp::now(), task).await;
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn numbers(&self) -> Result<Vec<Queue>> {
        let rows = self.broker.queue_rows().await?;
        let is_named = self.broker_name.lock().unwrap_or_else(PoisonError::into_inner).contains(' ');
        if !is_named && let Ok(name) = self.broker.product().await {
            *self.broker_name.lock().unwrap_or_else(PoisonError::into_inner) = name;
        }
        Ok(rows.iter().filter_map(queue).collect())
    }

    async fn perform(&self, action: &Action) -> Result<String> {
        match action {
            Action::Scale { service, replicas } => {
                let name = format!("{}_{}={replicas}", self.stack.name, named(service)?);
                docker(&["service", "scale", "--detach", &name]).await.map(|text| text.trim().to_owned())
            }
            Action::Kill { task } => {
                let task = task_name(task)?.to_string();
                let container = self.stack.kill(&task).await?;
                Ok(format!("{task} killed (container {container:.12})"))
            }
            Action::RestartBroker {} => {
                self.stack.kill("rabbitmq.1").await?;
                Ok("the broker is killed, and the swarm starts it again".into())
            }
            Action::Cut {} => {
                let closed = self.broker.close_connections().await?;
                Ok(format!("{closed} connections of the services are closed"))
            }
            Action::Poison {} => {
                let id = self.broker.publish_poison(WORK_QUEUE).await?;
                Ok(format!("{id} is in {WORK_QUEUE}"))
            }
            Action::Redrive {} => {
                let mut containers = self.stack.containers().await?.into_iter();
                let container = containers.find(|it| it.is_running && it.service() == "vipservice");
                let container = container.context("no vipservice runs on this machine")?;
                let done =
                    docker(&["exec", &container.id, "/vipservice", "dead-letters", "redrive", "--all"])
                        .await?;
                Ok(done.trim().lines().last().unwrap_or_default().to_owned())
            }
            _ => bail!("this is not possible on a swarm"),
        }
    }
}

#[async_trait]
impl System for Swarm {
    fn description(&self) -> Description {
        let paused = "a swarm replaces a paused container, since it fails its health check".to_owned();
        let settings = "config-repo is part of the stack: edit it, and type `./deploy.sh refresh`".to_owned();
        let disabled = [("pause", paused.clone()), ("unpause", paused), ("offer-text", settings)];
        let (stack, account) =
            (&self.stack.name, format!("127.0.0.1:{}/accounts/{{account}}", self.stack.account_port()));
        let container = |task: &str| format!("$(docker ps --quiet --filter name={stack}_{task} | head -n 1)");
        let kill = |task: &str| format!("docker kill --signal KILL {}", container(task));
        let redrive = "/vipservice dead-letters redrive --all";
        let commands = [
            ("curl", format!("curl {account}")),
            ("read", format!("for n in $(seq {{count}}); do curl {account}; done")),
            ("rate", format!("while sleep $(echo 1/{{perSecond}} | bc -l); do curl {account}; done")),
            ("scale", format!("docker service scale {stack}_{{service}}={{replicas}}")),
            ("kill", kill("{task}.")),
            ("restart-broker", kill("rabbitmq.1")),
            ("cut", "cargo hops --swarm queues cut".into()),
            ("poison", "cargo hops --swarm queues poison".into()),
            ("redrive", format!("docker exec {} {redrive}", container("vipservice"))),
        ];
        let commands = commands.map(|(name, command)| (name.to_owned(), command)).into();
        let broker_name = self.broker_name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let broker = "amqp://rabbitmq:5672".to_owned();
        Description { kind: "swarm", broker, broker_name, commands, ..Description::default() }
            .with_actions(&disabled)
    }

    async fn follow(&self, inputs: &Inputs, _: watch::Receiver<usize>) {
        tokio::join!(self.follow_tasks(inputs), self.follow_logs(inputs));
    }

    async fn queues(&self) -> Result<Vec<Queue>, String> {
        self.numbers().await.map_err(|error| format!("{error:#}"))
    }

    async fn messages(&self, queue: &str) -> Result<(Vec<Value>, u64), String> {
        self.broker.first_messages(queue, LISTED).await.map_err(|error| format!("{error:#}"))
    }

    async fn lines(&self, request: &str) -> Vec<LogLine> {
        let lines = self.logs().read_existing().await.unwrap_or_default();
        let of_request = lines.into_iter().filter(|line| line.belongs_to(request));
        of_request.map(|line| LogLine { at: line.at(), text: line.formatted(), task: line.task }).collect()
    }

    async fn read(&self, account: &str, request: &str) -> Result<u16, String> {
        read(&self.client, self.stack.account_port(), account, request).await
    }

    async fn act(&self, action: &Action) -> Result<String, String> {
        self.perform(action).await.map_err(|error| format!("{error:#}"))
    }
}

/// Returns the name of a service of the stack, which goes into a command.
fn named(service: &str) -> Result<&str> {
    let is_name = service.starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_name = is_name && service.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if is_name { Ok(service) } else { bail!("there is no service {service}") }
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swarm").field("broker", &self.broker).finish_non_exhaustive()
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
