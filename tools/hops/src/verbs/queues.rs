//! `queues` and `queues peek`: what waits at the broker.

use serde_json::Value;

use crate::{
    broker::Broker, broker_url::BrokerUrl, failure::Result, plan::ADMIN_PORT, project::Project,
    render::Screen, state,
};

/// Where a broker is.
#[derive(Debug)]
pub(super) struct Place {
    url: BrokerUrl,
    admin_port: u16,
}

/// The place of the broker that was given, or of the one of the system that is up here.
pub(super) async fn place(project: Option<&Project>, given: Option<&str>) -> Result<Place> {
    if let Some(given) = given {
        return Ok(Place { url: BrokerUrl::parse(given)?, admin_port: ADMIN_PORT });
    }
    let project = project.ok_or("say which broker: --broker amqp://user:password@localhost:5672")?;
    super::must_be_up(project).await?;
    let plan = state::load_plan(project)?;
    let url = plan.broker.ok_or("docker-compose.yml has no broker: say which one with --broker URL")?;
    let ports = plan.services.iter().flat_map(|service| &service.ports);
    let own = ports.filter(|_| !plan.broker_is_given).find(|port| port.target == ADMIN_PORT);
    Ok(Place { url, admin_port: own.map_or(ADMIN_PORT, |port| port.local) })
}

impl Place {
    pub(super) async fn connect(&self) -> Result<Broker> {
        Broker::connect(&self.url, self.admin_port).await
    }
}

/// The queues.
///
/// # Errors
/// No broker can be reached.
pub async fn list(project: &Project, screen: Screen, given: Option<&str>) -> Result<()> {
    let broker = place(Some(project), given).await?.connect().await?;
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

/// The first message of a queue.
///
/// # Errors
/// There is no such queue.
pub async fn peek(project: &Project, screen: Screen, name: &str, given: Option<&str>) -> Result<()> {
    let mut broker = place(Some(project), given).await?.connect().await?;
    let message = broker.peek(name).await;
    broker.close().await;
    let message = message?;
    if screen.json {
        screen.value(&message);
        return Ok(());
    }
    let Some(Value::Object(message)) = message else {
        screen.line(&format!("nothing is ready in {name}"));
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
