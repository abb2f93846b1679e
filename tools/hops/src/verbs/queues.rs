//! `queues` and its verbs: messages that wait at the broker, a message that nobody can read, and cut connections.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::{
    broker::Broker, broker_url::BrokerUrl, cli::QueueVerb, failure::Result, plan::ADMIN_PORT,
    project::Project, render::Screen, state,
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
        None => list(screen, &broker).await,
        Some(QueueVerb::Peek { name }) => peek(screen, &mut broker, &name).await,
        Some(QueueVerb::Poison { name }) => poison(screen, &broker, &name).await,
        Some(QueueVerb::Cut) => cut(project, screen, &broker).await,
    };
    broker.close().await;
    done
}

async fn list(screen: Screen, broker: &Broker) -> Result<()> {
    let mut queues = broker.queues().await?;
    queues.retain(|queue| !queue.exclusive);
    if screen.json {
        queues.iter().for_each(|queue| screen.value(queue));
        return Ok(());
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
    Ok(())
}

async fn peek(screen: Screen, broker: &mut Broker, name: &str) -> Result<()> {
    let message = broker.peek(name).await?;
    if screen.json {
        screen.value(&message);
        return Ok(());
    }
    let Some(Value::Object(message)) = message else {
        screen.line(&format!("no message is ready in {name}"));
        return Ok(());
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
    Ok(())
}

async fn poison(screen: Screen, broker: &Broker, name: &str) -> Result<()> {
    if broker.counts(name).await?.is_none() {
        bail!("there is no queue {name}: `cargo hops queues` lists all");
    }
    let id = broker.publish_poison(name).await?;
    screen.text(&format!("{id} is in {name}"));
    screen.value(&json!({"message_id": id, "queue": name}));
    Ok(())
}

async fn cut(project: &Project, screen: Screen, broker: &Broker) -> Result<()> {
    let closed = broker.close_connections_of(&state::load_plan(project)?.service_names()).await?;
    screen.text(&format!("{closed} connections of the services are closed"));
    screen.value(&json!({"closed": closed}));
    Ok(())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
