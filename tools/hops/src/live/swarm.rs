//! The stack on Docker Swarm, through the docker command and so with the rights of the person who types it.
//!
//! - `docker`: the command, with services, containers and logs
//! - `management`: the broker, which publishes no port: its management API is asked inside its container
//! - `tasks`: tasks as events
//!
//! Logs come from each container, since `docker service logs --follow` stops after changes and forgets tasks that have
//! ended. So events are those of the containers on this machine; the tasks of other nodes are shown with their states.

mod docker;
mod management;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use live::{
    event::Queue,
    system::{Action, Description, Inputs, LogLine, System},
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use self::{
    docker::{EARLIER_LOGS, STACK, container_of, containers, docker, follow_log, named, services},
    management::Management,
    tasks::{task_changes, task_rows},
};
use super::{
    messages::{LISTED, queue},
    read, task_name,
};
use crate::{broker::WORK_QUEUE, failure::Result, logs, project::Project};

/// Time between two requests for containers and tasks, as each runs a process.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Stack that is deployed on the swarm of this machine.
pub struct Swarm {
    /// The stack's broker.
    pub broker: Management,
    client: reqwest::Client,
    broker_name: SyncMutex<String>,
}

impl Swarm {
    /// Checks that the stack is deployed.
    ///
    /// # Errors
    /// It is not, or Docker does not answer.
    pub async fn new(project: Project) -> Result<Self> {
        if services().await?.is_empty() {
            bail!("there is no stack {STACK} on this machine's swarm: `./deploy.sh` deploys it");
        }
        let client =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).pool_max_idle_per_host(0);
        let client = client.build().unwrap_or_default();
        Ok(Self { broker: Management::new(project), client, broker_name: SyncMutex::new("RabbitMQ".into()) })
    }

    /// Follows the log of each container of our services, also of those that start later.
    async fn follow_logs(&self, inputs: &Inputs) {
        let (mut followed, mut followers) = (BTreeSet::new(), JoinSet::new());
        loop {
            for container in containers().await.unwrap_or_default() {
                if !container.task.starts_with("rabbitmq.") && followed.insert(container.id.clone()) {
                    followers.spawn(follow_log(container, inputs.clone()));
                }
            }
            while followers.try_join_next().is_some() {}
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn follow_tasks(&self, inputs: &Inputs) {
        let mut known = BTreeMap::new();
        loop {
            if let Ok(rows) = task_rows().await {
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
                let name = format!("{STACK}_{}={replicas}", named(service)?);
                docker(&["service", "scale", "--detach", &name]).await.map(|text| text.trim().to_owned())
            }
            Action::Kill { task } => {
                let task = task_name(task)?.to_string();
                let container = container_of(&task).await;
                let container = container.with_context(|| format!("{task} does not run on this machine"))?;
                docker(&["kill", "--signal", "KILL", &container]).await?;
                Ok(format!("{task} killed (container {container:.12})"))
            }
            Action::RestartBroker {} => {
                let container =
                    container_of("rabbitmq.1").await.context("the broker does not run on this machine")?;
                docker(&["kill", "--signal", "KILL", &container]).await?;
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
                let all = containers().await?;
                let container = all.iter().find(|container| container.task.starts_with("vipservice."));
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
        let commands = [
            ("curl", "curl 127.0.0.1:6767/accounts/{account}"),
            ("read", "for n in $(seq {count}); do curl 127.0.0.1:6767/accounts/{account}; done"),
            (
                "rate",
                "while sleep $(echo 1/{perSecond} | bc -l); do curl 127.0.0.1:6767/accounts/{account}; done",
            ),
            ("scale", "docker service scale hops_{service}={replicas}"),
            ("kill", "docker kill --signal KILL $(docker ps --quiet --filter name=hops_{task}.)"),
            (
                "restart-broker",
                "docker kill --signal KILL $(docker ps --quiet --filter name=hops_rabbitmq.1)",
            ),
            ("cut", "cargo hops --swarm queues cut"),
            ("poison", "cargo hops --swarm queues poison"),
            (
                "redrive",
                "docker exec $(docker ps --quiet --filter name=hops_vipservice | head -n 1) /vipservice dead-letters redrive --all",
            ),
        ];
        let commands = commands.map(|(name, command)| (name.to_owned(), command.to_owned())).into();
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
        let containers = containers().await.unwrap_or_default();
        let texts = containers.iter().map(async |container| {
            let text = docker(&["logs", "--since", EARLIER_LOGS, &container.id]).await.unwrap_or_default();
            (container.task.clone(), text)
        });
        let mut lines = vec![];
        for (task, text) in join_all(texts).await {
            let all = text.lines().map(|line| logs::LogLine::new(&task, line, None));
            let of_request = all.filter(|line| line.belongs_to(request));
            lines.extend(of_request.map(|line| LogLine {
                at: line.at(),
                text: line.formatted(),
                task: task.clone(),
            }));
        }
        lines.sort_by_key(|line| line.at);
        lines
    }

    async fn read(&self, account: &str, request: &str) -> Result<u16, String> {
        read(&self.client, 6767, account, request).await
    }

    async fn act(&self, action: &Action) -> Result<String, String> {
        self.perform(action).await.map_err(|error| format!("{error:#}"))
    }
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swarm").field("broker", &self.broker).finish_non_exhaustive()
    }
}
