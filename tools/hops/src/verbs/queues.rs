//! `queues` and its verbs: messages that wait at the broker, a message that nobody can read, and cut connections.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    broker::{Broker, Queue},
    broker_url::BrokerUrl,
    cli::QueueVerb,
    failure::Result,
    plan::ADMIN_PORT,
    project::Project,
    render::Screen,
    state,
    swarm::{Management, Stack},
};

/// Address of a broker and of its management API.
#[derive(Debug)]
pub(super) struct BrokerAddress {
    url: BrokerUrl,
    admin_port: u16,
}

/// Returns the address of the broker in `url`, or else of the system that is up here.
pub(super) async fn broker_address(project: Option<&Project>, url: Option<&str>) -> Result<BrokerAddress> {
    if let Some(url) = url {
        return Ok(BrokerAddress { url: BrokerUrl::parse(url)?, admin_port: ADMIN_PORT });
    }
    let project = project.context("name the broker: --broker amqp://user:password@localhost:5672")?;
    super::require_up(project).await?;
    let plan = state::load_plan(project)?;
    let admin_port = plan.admin_port();
    let url = plan.broker.context("docker-compose.yml has no broker: name one with --broker URL")?;
    Ok(BrokerAddress { url, admin_port })
}

impl BrokerAddress {
    pub(super) async fn connect(&self) -> Result<Broker> {
        Broker::connect(&self.url, self.admin_port).await
    }

    /// Returns the number of ready messages of a queue; `None` if there is no such queue. Each call opens a connection of its
    /// own, since the broker may be the task that is killed.
    pub(super) async fn ready(&self, queue: &str) -> Result<Option<u32>> {
        let broker = self.connect().await?;
        let counts = broker.counts(queue).await;
        broker.close().await;
        Ok(counts?.map(|(ready, _)| ready))
    }
}

/// Does what the command says at the broker in `url`, or else at the system's; without a verb, lists the queues.
///
/// # Errors
/// There is no such queue, or the broker cannot be reached; to cut connections, it needs a management API.
pub async fn queues(
    project: &Project,
    screen: Screen,
    verb: Option<QueueVerb>,
    url: Option<&str>,
) -> Result<()> {
    let mut broker = broker_address(Some(project), url).await?.connect().await?;
    let done = match verb {
        None => broker.queues().await.map(|queues| show_list(screen, queues)),
        Some(QueueVerb::Peek { name }) => {
            broker.peek(&name).await.map(|message| show_message(screen, &name, message))
        }
        Some(QueueVerb::Poison { name }) => poison(screen, &broker, &name).await,
        Some(QueueVerb::Cut) => cut(project, screen, &broker).await,
    };
    broker.close().await;
    done
}

/// Does what the command says at the broker of the stack on Docker Swarm; without a verb, lists the queues.
///
/// # Errors
/// There is no such queue, no stack, or its broker does not run.
pub async fn of_swarm(project: &Project, screen: Screen, verb: Option<QueueVerb>) -> Result<()> {
    let stack = Stack::of(project);
    stack.deployed_services().await?;
    let broker = Management::new(stack);
    match verb {
        None => show_list(screen, broker.all_queues().await?),
        Some(QueueVerb::Peek { name }) => {
            show_message(screen, &name, broker.first_messages(&name, 1).await?.0.pop());
        }
        Some(QueueVerb::Poison { name }) => {
            show_poison(screen, &broker.publish_poison(&name).await?, &name);
        }
        Some(QueueVerb::Cut) => show_closed(screen, broker.close_connections().await?),
    }
    Ok(())
}

/// Prints a table of the queues, apart from those of one connection.
pub(super) fn show_list(screen: Screen, mut queues: Vec<Queue>) {
    queues.retain(|queue| !queue.exclusive);
    if screen.json {
        return queues.iter().for_each(|queue| screen.value(queue));
    }
    let rows: Vec<_> = queues
        .into_iter()
        .map(|queue| {
            vec![
                queue.name,
                queue.kind.unwrap_or_default(),
                queue.ready.to_string(),
                queue.unacked.map_or_else(|| "?".into(), |unacked| unacked.to_string()),
                queue.consumers.to_string(),
            ]
        })
        .collect();
    screen.table(&["NAME", "TYPE", "READY", "UNACKED", "CONSUMERS"], &rows);
}

fn show_message(screen: Screen, queue: &str, message: Option<Value>) {
    if screen.json {
        return screen.value(&message);
    }
    let Some(Value::Object(message)) = message else {
        return screen.line(&format!("no message is ready in {queue}"));
    };
    for (name, value) in message {
        match value {
            Value::Object(fields) => {
                screen.line(&format!("{name}:"));
                fields.iter().for_each(|(name, value)| screen.line(&format!("    {name}: {}", plain(value))));
            }
            value => screen.line(&format!("{name}: {}", plain(&value))),
        }
    }
}

async fn poison(screen: Screen, broker: &Broker, name: &str) -> Result<()> {
    if broker.counts(name).await?.is_none() {
        bail!("there is no queue {name}: `cargo hops queues` lists all");
    }
    show_poison(screen, &broker.publish_poison(name).await?, name);
    Ok(())
}

fn show_poison(screen: Screen, id: &str, queue: &str) {
    screen.text(&format!("{id} is in {queue}"));
    screen.value(&json!({"message_id": id, "queue": queue}));
}

async fn cut(project: &Project, screen: Screen, broker: &Broker) -> Result<()> {
    show_closed(screen, broker.close_connections_of(&state::load_plan(project)?.service_names()).await?);
    Ok(())
}

fn show_closed(screen: Screen, closed: usize) {
    screen.text(&format!("{closed} connections of the services are closed"));
    screen.value(&json!({"closed": closed}));
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
