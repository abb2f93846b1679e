//! The stack on Docker Swarm, through the docker command and so with the rights of the person who types it.
//!
//! - `docker`: the command, with services, containers and logs
//! - `tasks`: tasks as events
//!
//! Logs come from each container, since `docker service logs --follow` stops after changes and forgets tasks that have
//! ended. So events are those of the containers on this machine; the tasks of other nodes are shown with their states.
//! The broker publishes no port: its management API is asked inside its container.

mod docker;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use jiff::Timestamp;
use live::{
    event::Queue,
    system::{Action, Description, Inputs, LogLine, System},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use self::{
    docker::{
        EARLIER_LOGS, STACK, container_of, containers, docker, docker_with, follow_log, named, services,
    },
    tasks::{task_changes, task_rows},
};
use super::{
    messages::{LISTED, message, queue},
    read, task_name,
};
use crate::{
    broker::{self, WORK_QUEUE, is_of_a_service, poison_id},
    broker_url::encode,
    failure::Result,
    logs,
    project::Project,
};

/// Time between two requests for containers and tasks, as each runs a process.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Path of the management API's virtual host `/`.
const VHOST: &str = "%2F";
/// Script in the broker's container that passes a request on to the management API, and its answer back.
const PASS_ON: &str = "exec 3<>/dev/tcp/127.0.0.1/15672 && cat >&3 && cat <&3";

/// Stack that is deployed on the swarm of this machine.
pub struct Swarm {
    project: Project,
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
        Ok(Self { project, client, broker_name: SyncMutex::new("RabbitMQ".into()) })
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

    /// Sends a request to the broker's management API, and returns its answer.
    async fn manage(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let secret = |name: &str| {
            let path = self.project.root().join(".secrets").join(name);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            anyhow::Ok(text.trim().to_owned())
        };
        let login = format!("{}:{}", secret("amqp_username")?, secret("amqp_password")?);
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /api/{path} HTTP/1.0\r\nhost: localhost\r\nauthorization: Basic {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            BASE64_STANDARD.encode(login),
            body.len()
        );
        let broker =
            container_of("rabbitmq.1").await.context("the broker runs on no node that this machine sees")?;
        // The request with its password is on the standard input, and so in no command line.
        let answer =
            docker_with(&["exec", "--interactive", &broker, "bash", "-c", PASS_ON], &request).await?;
        let (head, body) =
            answer.split_once("\r\n\r\n").context("the broker's management API does not answer")?;
        match head.split(' ').nth(1) {
            Some("200" | "201" | "204") => Ok(serde_json::from_str(body).unwrap_or_default()),
            _ => bail!(
                "the broker's management API answered {}: {body}",
                head.lines().next().unwrap_or_default()
            ),
        }
    }

    async fn numbers(&self) -> Result<Vec<Queue>> {
        let rows = self.queue_rows().await?;
        let is_named = self.broker_name.lock().unwrap_or_else(PoisonError::into_inner).contains(' ');
        if !is_named && let Ok(overview) = self.manage("GET", "overview", None).await {
            let name = format!("RabbitMQ {}", overview["rabbitmq_version"].as_str().unwrap_or_default());
            *self.broker_name.lock().unwrap_or_else(PoisonError::into_inner) = name;
        }
        Ok(rows.iter().filter_map(queue).collect())
    }

    async fn queue_rows(&self) -> Result<Vec<Value>> {
        let rows = self.manage("GET", &format!("queues/{VHOST}"), None).await?;
        Ok(rows.as_array().cloned().unwrap_or_default())
    }

    /// Returns the broker's queues.
    ///
    /// # Errors
    /// The broker does not run, or does not answer.
    pub async fn all_queues(&self) -> Result<Vec<broker::Queue>> {
        Ok(self.queue_rows().await?.iter().filter_map(broker::Queue::of_row).collect())
    }

    /// Returns the first messages of a queue, at most `count`, and the number of the others. The messages stay in the queue.
    ///
    /// # Errors
    /// There is no such queue, it is a stream, or the broker does not answer.
    pub async fn first_messages(&self, name: &str, count: usize) -> Result<(Vec<Value>, u64)> {
        let rows = self.queue_rows().await?;
        let row = rows.iter().find(|row| row["name"] == name).with_context(|| no_queue(name))?;
        if row["type"] == "stream" {
            bail!(
                "{name} is a stream, whose entries the broker's management API does not show; the vipservice shows the \
                 offers in it: `curl 127.0.0.1:6868/offers`"
            );
        }
        let ready = row["messages_ready"].as_u64().unwrap_or_default();
        let get = json!({"count": count, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let path = format!("queues/{VHOST}/{}/get", encode(name));
        let got = self.manage("POST", &path, Some(&get)).await?;
        let messages: Vec<_> = got.as_array().into_iter().flatten().map(message).collect();
        let more = ready.saturating_sub(messages.len() as u64);
        Ok((messages, more))
    }

    /// Publishes a message that nobody can read, and returns its id.
    ///
    /// # Errors
    /// There is no such queue, or the broker does not answer.
    pub async fn publish_poison(&self, queue: &str) -> Result<String> {
        let id = poison_id();
        let properties = json!({"message_id": id, "delivery_mode": 2, "content_type": "application/json"});
        let message = json!({"properties": properties, "routing_key": queue, "payload": "poison", "payload_encoding": "string"});
        let path = format!("exchanges/{VHOST}/amq.default/publish");
        let published = self.manage("POST", &path, Some(&message)).await?;
        match published["routed"].as_bool() {
            Some(true) => Ok(id),
            _ => bail!(no_queue(queue)),
        }
    }

    /// Closes the connections of the services, as an operator does, and returns how many there were.
    ///
    /// # Errors
    /// The broker does not answer.
    pub async fn close_connections(&self) -> Result<usize> {
        let services = services().await?;
        let rows = self.manage("GET", "connections", None).await?;
        let mut closed = 0;
        for row in rows.as_array().into_iter().flatten() {
            let name = row["client_properties"]["connection_name"].as_str().unwrap_or_default();
            if is_of_a_service(name, &services) {
                let path = format!("connections/{}", encode(row["name"].as_str().unwrap_or_default()));
                closed += usize::from(self.manage("DELETE", &path, None).await.is_ok());
            }
        }
        Ok(closed)
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
                let closed = self.close_connections().await?;
                Ok(format!("{closed} connections of the services are closed"))
            }
            Action::Poison {} => {
                let id = self.publish_poison(WORK_QUEUE).await?;
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

fn no_queue(name: &str) -> String {
    format!("there is no queue {name}: `cargo hops --swarm queues` lists all")
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
        self.first_messages(queue, LISTED).await.map_err(|error| format!("{error:#}"))
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
        f.debug_struct("Swarm").field("project", &self.project).finish_non_exhaustive()
    }
}
