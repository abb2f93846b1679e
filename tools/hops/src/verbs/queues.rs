//! `queues` and `queues peek`: messages that wait at the broker.

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    broker::Broker, broker_url::BrokerUrl, failure::Result, plan::ADMIN_PORT, project::Project,
    render::Screen, state,
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
}

/// Lists the queues.
///
/// # Errors
/// The broker cannot be reached.
pub async fn list(project: &Project, screen: Screen, url: Option<&str>) -> Result<()> {
    let broker = broker_address(Some(project), url).await?.connect().await?;
    let queues = broker.queues().await?;
    broker.close().await;
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

/// Shows the first message of a queue.
///
/// # Errors
/// There is no such queue, or the broker cannot be reached.
pub async fn peek(project: &Project, screen: Screen, name: &str, url: Option<&str>) -> Result<()> {
    let mut broker = broker_address(Some(project), url).await?.connect().await?;
    let message = broker.peek(name).await;
    broker.close().await;
    let message = message?;
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

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
