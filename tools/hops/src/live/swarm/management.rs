//! The broker of the stack, through its management API, which is asked inside its container.

use std::fs;

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::docker::{container_of, docker_with, services};
use crate::{
    broker::{Queue, is_of_a_service, poison_id},
    broker_url::encode,
    failure::Result,
    live::messages::message,
    project::Project,
};

/// Path of the virtual host `/`.
const VHOST: &str = "%2F";
/// Script in the broker's container that passes a request on to the management API, and its answer back.
const PASS_ON: &str = "exec 3<>/dev/tcp/127.0.0.1/15672 && cat >&3 && cat <&3";

/// Management API of the stack's broker.
#[derive(Debug)]
pub struct Management {
    /// Its folder `.secrets` has the login.
    project: Project,
}

impl Management {
    pub(super) fn new(project: Project) -> Self {
        Self { project }
    }

    /// Sends a request, and returns its answer.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
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

    /// Returns the broker's name and version.
    pub(super) async fn product(&self) -> Result<String> {
        let overview = self.ask("GET", "overview", None).await?;
        Ok(format!("RabbitMQ {}", overview["rabbitmq_version"].as_str().unwrap_or_default()))
    }

    /// Returns the rows of all queues.
    pub(super) async fn queue_rows(&self) -> Result<Vec<Value>> {
        let rows = self.ask("GET", &format!("queues/{VHOST}"), None).await?;
        Ok(rows.as_array().cloned().unwrap_or_default())
    }

    /// Returns the broker's queues.
    ///
    /// # Errors
    /// The broker does not run, or does not answer.
    pub async fn all_queues(&self) -> Result<Vec<Queue>> {
        Ok(self.queue_rows().await?.iter().filter_map(Queue::of_row).collect())
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
        let got = self.ask("POST", &path, Some(&get)).await?;
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
        let published = self.ask("POST", &path, Some(&message)).await?;
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
        let rows = self.ask("GET", "connections", None).await?;
        let mut closed = 0;
        for row in rows.as_array().into_iter().flatten() {
            let name = row["client_properties"]["connection_name"].as_str().unwrap_or_default();
            if is_of_a_service(name, &services) {
                let path = format!("connections/{}", encode(row["name"].as_str().unwrap_or_default()));
                closed += usize::from(self.ask("DELETE", &path, None).await.is_ok());
            }
        }
        Ok(closed)
    }
}

fn no_queue(name: &str) -> String {
    format!("there is no queue {name}: `cargo hops --swarm queues` lists all")
}
