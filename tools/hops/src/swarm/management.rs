//! The broker of the stack, through its management API, which is asked inside its container.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Stack, docker::docker_with};
use crate::{
    broker::{Queue, is_of_a_service, poison_id},
    broker_url::encode,
    failure::Result,
};

/// Time by which the API's numbers lag behind: the broker's queues report them every five seconds.
pub(crate) const NUMBERS_LAG: Duration = Duration::from_secs(6);
/// Time limit for an answer, which a broker that hangs exceeds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Path of the virtual host `/`.
const VHOST: &str = "%2F";
/// Script in the broker's container that passes a request on to the management API, and its answer back.
const PASS_ON: &str = "exec 3<>/dev/tcp/127.0.0.1/15672 && cat >&3 && cat <&3";

/// Management API of the stack's broker.
#[derive(Debug)]
pub(crate) struct Management {
    stack: Stack,
    /// Container of the broker, if it was found already.
    container: Option<String>,
}

impl Management {
    pub(crate) fn new(stack: Stack) -> Self {
        Self { stack, container: None }
    }

    pub(crate) fn in_container(stack: Stack, container: String) -> Self {
        Self { stack, container: Some(container) }
    }

    /// Sends a request, and returns its answer.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let secret = |name: &str| {
            let path = self.stack.secrets.join(name);
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
        let broker = match &self.container {
            Some(container) => container.clone(),
            None => self.stack.container_of("rabbitmq.1").await?,
        };
        // The request with its password is on the standard input, and so in no command line.
        let arguments = ["exec", "--interactive", &broker, "bash", "-c", PASS_ON];
        let answer = timeout(ANSWER_TIMEOUT, docker_with(&arguments, &request)).await;
        let answer = answer.context("the broker's management API does not answer")??;
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
    pub(crate) async fn product(&self) -> Result<String> {
        let overview = self.ask("GET", "overview", None).await?;
        Ok(format!("RabbitMQ {}", overview["rabbitmq_version"].as_str().unwrap_or_default()))
    }

    /// Returns the rows of all queues.
    pub(crate) async fn queue_rows(&self) -> Result<Vec<Value>> {
        let rows = self.ask("GET", &format!("queues/{VHOST}"), None).await?;
        Ok(rows.as_array().cloned().unwrap_or_default())
    }

    /// Returns the broker's queues.
    pub(crate) async fn all_queues(&self) -> Result<Vec<Queue>> {
        Ok(self.queue_rows().await?.iter().filter_map(Queue::of_row).collect())
    }

    /// Returns the number of ready messages of a queue, which may be [`NUMBERS_LAG`] old; 0 if there is no such queue.
    pub(crate) async fn ready(&self, name: &str) -> Result<u32> {
        let queues = self.all_queues().await?;
        Ok(queues.iter().find(|queue| queue.name == name).map_or(0, |queue| queue.ready))
    }

    /// Returns the first messages of a queue, at most `count`, and the number of the others. The messages stay in the queue.
    pub(crate) async fn first_messages(&self, name: &str, count: usize) -> Result<(Vec<Value>, u64)> {
        let rows = self.queue_rows().await?;
        let row = rows.iter().find(|row| row["name"] == name).with_context(|| no_queue(name))?;
        if row["type"] == "stream" {
            let [_, (service, port)] = self.stack.ports;
            bail!(
                "{name} is a stream, whose entries the broker's management API does not show; the {service} shows the \
                 offers in it: `curl 127.0.0.1:{port}/offers`"
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
    pub(crate) async fn publish_poison(&self, queue: &str) -> Result<String> {
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
    pub(crate) async fn close_connections(&self) -> Result<usize> {
        let services = self.stack.services().await?;
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

/// Returns a message as `queues peek --json` prints it, from the answer of RabbitMQ's management API.
fn message(got: &Value) -> Value {
    let mut message = got["properties"].clone();
    // A message without properties has an empty array here.
    if !message.is_object() {
        message = json!({});
    }
    message["redelivered"] = got["redelivered"].clone();
    message["body"] = got["payload"].clone();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_management_api_is_as_a_peek_prints_it() {
        let got = json!({"payload": "{}", "redelivered": false, "properties": {"message_id": "m", "headers": {"a": 1}}});
        let expected = json!({"message_id": "m", "headers": {"a": 1}, "redelivered": false, "body": "{}"});
        assert_eq!(message(&got), expected);
        let got = json!({"payload": "x", "redelivered": true, "properties": []});
        assert_eq!(message(&got), json!({"redelivered": true, "body": "x"}));
    }
}
