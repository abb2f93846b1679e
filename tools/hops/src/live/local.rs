//! The system of processes: tasks from the supervisor, events from the logs, numbers from the broker.

mod tasks;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use live::{
    event::Queue,
    system::{Action, Description, Inputs, LogLine, System},
};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{Mutex, Notify, watch},
    time::{sleep, timeout},
};

use self::tasks::task_changes;
use super::{messages::LISTED, read, task_name};
use crate::{
    broker::{Broker, WORK_QUEUE},
    cli::TaskName,
    control::{Reply, Request, STOPPING, ask, status},
    dead_letters,
    failure::Result,
    logs::Tail,
    plan::{DEVBROKER, Kind, Plan},
    project::{Project, write_atomically},
    state,
};

/// Time between two looks at the logs while somebody watches, and while nobody does.
const LOG_INTERVAL: Duration = Duration::from_millis(50);
const IDLE_LOG_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two requests for the status; an event of the supervisor asks for it at once.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// Most bytes of each log that are read from before the server's start.
const EARLIER_LOG: u64 = 8 * 1024 * 1024;
/// Time limit for one read.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Name of the folder with the settings, and of the file with `offer_text`.
const OFFER_TEXT_FILE: &str = "config-repo/vipservice-test.yml";

/// System that is up in a checkout.
pub struct Local {
    project: Project,
    plan: Plan,
    admin_port: u16,
    client: reqwest::Client,
    /// Connection for the queues' numbers, while somebody watches.
    broker: Mutex<Option<Broker>>,
    /// Name of the broker's product, which its management API knows.
    product: SyncMutex<Option<String>>,
}

impl Local {
    /// Finds the system that is up.
    ///
    /// # Errors
    /// Nothing is up.
    pub fn new(project: Project) -> Result<Self> {
        let plan = state::load_plan(&project)?;
        let client = reqwest::Client::builder().no_proxy().timeout(READ_TIMEOUT).pool_max_idle_per_host(0);
        Ok(Self {
            project,
            admin_port: plan.admin_port(),
            product: SyncMutex::new((!plan.broker_is_external).then(|| DEVBROKER.into())),
            plan,
            client: client.build().unwrap_or_default(),
            broker: Mutex::default(),
        })
    }

    async fn connect(&self) -> Result<Broker> {
        let url = self.plan.broker.as_ref().context("docker-compose.yml has no broker")?;
        let broker = Broker::connect(url, self.admin_port).await?;
        if self.product().is_none() {
            *self.product.lock().unwrap_or_else(PoisonError::into_inner) = broker.product().await;
        }
        Ok(broker)
    }

    fn product(&self) -> Option<String> {
        self.product.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finds out what a foreign broker is, before anybody asks what can be done with it.
    async fn ask_for_product(&self) {
        if self.product().is_none()
            && let Ok(broker) = self.connect().await
        {
            broker.close().await;
        }
    }

    /// Reports the tasks' states until the supervisor stops the system, or is killed.
    async fn follow_tasks(&self, inputs: &Inputs) {
        let changed = Notify::new();
        let following = ask(&Request::Follow, |reply| {
            changed.notify_one();
            !matches!(reply, Reply::Event(event) if event.who == "hops" && event.what == STOPPING)
        });
        let reporting = async {
            let mut known = BTreeMap::new();
            loop {
                if let Ok(snapshot) = status().await {
                    for (at, task) in task_changes(&mut known, &snapshot) {
                        inputs.task(at, task).await;
                    }
                }
                let _ = timeout(STATUS_INTERVAL, changed.notified()).await;
            }
        };
        tokio::select! {
            _ = following => {}
            () = reporting => {}
        }
    }

    async fn follow_logs(&self, inputs: &Inputs, viewers: &watch::Receiver<usize>) {
        let mut tail = Tail::new(self.project.path("logs"), &[]);
        tail.skip_all_but(EARLIER_LOG);
        loop {
            for (task, line) in tail.read_new_text() {
                inputs.line(&task, &line).await;
            }
            let is_watched = *viewers.borrow() > 0;
            sleep(if is_watched { LOG_INTERVAL } else { IDLE_LOG_INTERVAL }).await;
        }
    }

    /// Closes the connection for the numbers when nobody watches any more.
    async fn close_unused_connection(&self, mut viewers: watch::Receiver<usize>) {
        while viewers.wait_for(|count| *count > 0).await.is_ok() {
            let _ = viewers.wait_for(|count| *count == 0).await;
            if let Some(broker) = self.broker.lock().await.take() {
                broker.close().await;
            }
        }
    }

    async fn numbers(&self) -> Result<Vec<Queue>> {
        let mut connection = self.broker.lock().await;
        // A connection that was cut is replaced at once: the broker itself may be well.
        if let Some(broker) = connection.take()
            && let Ok(queues) = broker.queues().await
        {
            *connection = Some(broker);
            return Ok(queues.iter().map(numbers).collect());
        }
        let broker = self.connect().await?;
        let queues = broker.queues().await?;
        *connection = Some(broker);
        Ok(queues.iter().map(numbers).collect())
    }

    /// Says in few words that nobody listens at the broker's address; an error of the AMQP client takes a line.
    async fn absence(&self) -> Option<String> {
        let broker = self.plan.broker.as_ref()?;
        let refused = TcpStream::connect((broker.host.as_str(), broker.port)).await.err()?;
        let is_absent = refused.kind() == std::io::ErrorKind::ConnectionRefused;
        is_absent.then(|| format!("no broker at {}:{}", broker.host, broker.port))
    }

    async fn listed(&self, queue: &str) -> Result<(Vec<Value>, u64)> {
        let mut broker = self.connect().await?;
        let listed = async {
            let (ready, _) =
                broker.counts(queue).await?.with_context(|| format!("there is no queue {queue}"))?;
            let messages = broker.browse(queue, LISTED).await?;
            let more = u64::from(ready).saturating_sub(messages.len() as u64);
            anyhow::Ok((messages, more))
        };
        let listed = listed.await;
        broker.close().await;
        listed
    }

    async fn perform(&self, action: &Action) -> Result<String> {
        match action {
            Action::Scale { service, replicas } => {
                done(&Request::Scale { service: service.clone(), replicas: *replicas }).await
            }
            Action::Kill { task } => {
                let TaskName { service, slot } = task_name(task)?;
                done(&Request::Kill { service, slot }).await
            }
            Action::Pause { task } => {
                let TaskName { service, slot } = task_name(task)?;
                done(&Request::Pause { service, slot }).await
            }
            Action::Unpause { task } => {
                let TaskName { service, slot } = task_name(task)?;
                done(&Request::Unpause { service, slot }).await
            }
            Action::RestartBroker {} => {
                done(&Request::Kill { service: self.broker_service()?, slot: 1 }).await
            }
            Action::Cut {} => {
                let broker = self.connect().await?;
                let closed = broker.close_connections_of(&self.plan.service_names()).await;
                broker.close().await;
                Ok(format!("{} connections of the services are closed", closed?))
            }
            Action::Poison {} => {
                let broker = self.connect().await?;
                let published = broker.publish_poison(WORK_QUEUE).await;
                broker.close().await;
                published.map(|id| format!("{id} is in {WORK_QUEUE}"))
            }
            Action::Redrive {} => {
                let (project, plan) = (self.project.clone(), self.plan.clone());
                let run = tokio::task::spawn_blocking(move || {
                    dead_letters::run(&project, &plan, &["redrive", "--all"])
                });
                let text = run.await.context("the command was interrupted")??;
                Ok(text.lines().last().unwrap_or_default().to_owned())
            }
            Action::OfferText { text } => {
                let path = self.project.root().join(OFFER_TEXT_FILE);
                let before =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {OFFER_TEXT_FILE}"))?;
                write_atomically(&path, with_offer_text(&before, text).as_bytes())?;
                Ok(format!("{OFFER_TEXT_FILE} is saved; `git checkout config-repo` undoes it"))
            }
            Action::Read { .. } | Action::Rate { .. } => bail!("BUG: reads are made by `read`"),
        }
    }

    fn broker_service(&self) -> Result<String> {
        let broker = self.plan.services.iter().find(|service| service.kind == Kind::Broker);
        Ok(broker.context("the broker is not started here")?.name.clone())
    }
}

#[async_trait]
impl System for Local {
    fn description(&self) -> Description {
        let broker = self.plan.broker.as_ref().map(ToString::to_string).unwrap_or_default();
        let foreign = format!("the broker at {broker} was named by --broker and is not started here");
        let (product, mut disabled) = (self.product(), vec![]);
        if self.plan.broker_is_external {
            disabled.push(("restart-broker", foreign));
        }
        if product.is_none() {
            let why =
                format!("only a management API can close connections, and port {} has none", self.admin_port);
            disabled.push(("cut", why));
        }
        let port = |name: &str| {
            self.plan
                .services
                .iter()
                .find(|service| service.name == name)
                .and_then(|service| service.local_port())
        };
        let curl =
            format!("curl localhost:{}/accounts/{{account}}", port("accountservice").unwrap_or_default());
        let commands = [
            ("curl", curl.as_str()),
            ("read", "cargo hops read {count} {account}"),
            ("rate", "cargo hops read 0 {account} --rate {perSecond}"),
            ("scale", "cargo hops service scale {service}={replicas}"),
            ("kill", "cargo hops kill {task}"),
            ("pause", "cargo hops pause {task}"),
            ("unpause", "cargo hops unpause {task}"),
            ("restart-broker", "cargo hops kill rabbitmq.1"),
            ("cut", "cargo hops queues cut"),
            ("poison", "cargo hops queues poison"),
            ("redrive", "cargo run -p vipservice -- dead-letters redrive --all"),
            ("offer-text", "echo 'offer_text: {text}' >> config-repo/vipservice-test.yml"),
        ];
        let commands = commands.map(|(name, command)| (name.to_owned(), command.to_owned())).into();
        let broker_name = product.unwrap_or_else(|| "the broker".into());
        let description =
            Description { kind: "processes", broker, broker_name, commands, ..Description::default() };
        description.with_actions(&disabled)
    }

    async fn follow(&self, inputs: &Inputs, viewers: watch::Receiver<usize>) {
        let (logs, connection) = (viewers.clone(), viewers);
        let beside = async {
            self.ask_for_product().await;
            self.close_unused_connection(connection).await;
        };
        tokio::select! {
            () = self.follow_tasks(inputs) => {}
            () = self.follow_logs(inputs, &logs) => {}
            () = beside => {}
        }
    }

    async fn queues(&self) -> Result<Vec<Queue>, String> {
        match self.numbers().await {
            Ok(queues) => Ok(queues),
            Err(error) => Err(self.absence().await.unwrap_or_else(|| format!("{error:#}"))),
        }
    }

    async fn messages(&self, queue: &str) -> Result<(Vec<Value>, u64), String> {
        self.listed(queue).await.map_err(|error| format!("{error:#}"))
    }

    async fn lines(&self, request: &str) -> Vec<LogLine> {
        let (logs, request) = (self.project.path("logs"), request.to_owned());
        let read = move || {
            let mut tail = Tail::new(logs, &[]);
            tail.skip_all_but(EARLIER_LOG);
            let lines = tail.read_new().into_iter().filter(|line| line.belongs_to(&request));
            let line = |line: crate::logs::LogLine| LogLine {
                at: line.at(),
                text: line.formatted(),
                task: line.task,
            };
            lines.map(line).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    async fn read(&self, account: &str, request: &str) -> Result<u16, String> {
        let service = self.plan.services.iter().find(|service| service.name == "accountservice");
        let port = service.and_then(|service| service.local_port()).unwrap_or_default();
        read(&self.client, port, account, request).await
    }

    async fn act(&self, action: &Action) -> Result<String, String> {
        self.perform(action).await.map_err(|error| format!("{error:#}"))
    }
}

fn numbers(queue: &crate::broker::Queue) -> Queue {
    let (ready, consumers) = (queue.ready.into(), queue.consumers.into());
    Queue::new(&queue.name, queue.kind.as_deref(), ready, queue.unacked, consumers)
}

/// Sends a request to the supervisor, and returns its sentence.
async fn done(request: &Request) -> Result<String> {
    match ask(request, |_| true).await? {
        Reply::Done(text) => Ok(text),
        _ => bail!(crate::control::OTHER_VERSION),
    }
}

/// Returns the settings with this `offer_text`, which the line of an earlier one gives way to.
fn with_offer_text(settings: &str, text: &str) -> String {
    let kept = settings.lines().filter(|line| !line.starts_with("offer_text:"));
    let mut settings: String = kept.map(|line| format!("{line}\n")).collect();
    // A text in JSON is a text in YAML, whatever is in it.
    settings += &format!("offer_text: {}\n", Value::from(text));
    settings
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("project", &self.project).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_text_is_one_line_whatever_is_in_it() {
        let before = "# Settings.\noffer_text: old\nlog_level: debug\n";
        let expected = "# Settings.\nlog_level: debug\noffer_text: \"a: \\\"b\\\" # c\"\n";
        assert_eq!(with_offer_text(before, "a: \"b\" # c"), expected);
    }
}
