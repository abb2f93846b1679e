//! A broker in a container of its own, on fixed ports of this machine: a test may kill, freeze and restart it.

use std::process::{Child, Command, Stdio};

use tokio::process;

use super::{Vhost, free_port};
use crate::environment;

const IMAGES: [&str; 2] = ["hops-rabbitmq:4.0", "rabbitmq:4-management"];

/// A container that one test owns; removed by its name when dropped, and when the test's process dies.
#[derive(Debug)]
pub struct PrivateBroker {
    name: String,
    image: String,
    ports: [u16; 2],
    reaper: Option<Child>,
}

impl PrivateBroker {
    /// A new broker that accepts connections.
    pub async fn start() -> Self {
        let mut broker = Self::absent().await;
        broker.appear().await;
        broker.vhost().until_ready().await;
        broker
    }

    /// A broker that is not there yet: its address is known and nobody listens on it.
    pub async fn absent() -> Self {
        Self {
            name: format!("hops-e2e-{}", uuid::Uuid::now_v7().simple()),
            image: image().await,
            ports: [free_port(), free_port()],
            reaper: None,
        }
    }

    /// Starts the container of a broker that was absent; it takes some seconds more until it accepts connections.
    pub async fn appear(&mut self) {
        self.reaper = Some(reaper(&self.name));
        let [amqp, admin] = self.ports;
        let (amqp, admin) = (format!("127.0.0.1:{amqp}:5672"), format!("127.0.0.1:{admin}:15672"));
        docker(&[
            "run",
            "-d",
            "--name",
            &self.name,
            "--hostname",
            "rabbitmq",
            "-p",
            &amqp,
            "-p",
            &admin,
            &self.image,
        ])
        .await;
    }

    /// Its default virtual host.
    pub fn vhost(&self) -> Vhost {
        let [amqp, admin] = self.ports;
        Vhost::default_of(&format!("amqp://127.0.0.1:{amqp}"), &format!("http://127.0.0.1:{admin}"))
    }

    /// `kill -9`: nothing is flushed, nothing is said.
    pub async fn kill9(&self) {
        docker(&["kill", "-s", "KILL", &self.name]).await;
        docker(&["wait", &self.name]).await;
    }

    /// Starts it again after [`Self::kill9`], with its data, on the same ports, and waits until it accepts connections.
    pub async fn restart(&self) {
        docker(&["start", &self.name]).await;
        self.vhost().until_ready().await;
    }

    /// Stops all its processes where they are; connections stay open and silent.
    pub async fn freeze(&self) {
        docker(&["pause", &self.name]).await;
    }

    /// Undoes [`Self::freeze`].
    pub async fn thaw(&self) {
        docker(&["unpause", &self.name]).await;
    }

    /// Runs `rabbitmqctl` inside and answers what it printed.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        docker(&[&["exec", &self.name, "rabbitmqctl"], arguments].concat()).await
    }
}

impl Drop for PrivateBroker {
    fn drop(&mut self) {
        if let Some(mut reaper) = self.reaper.take() {
            drop(reaper.stdin.take());
            let _ = reaper.wait();
        }
    }
}

/// Removes the container as soon as nobody holds its standard input any more, so also when the test's process is killed.
fn reaper(name: &str) -> Child {
    use std::os::unix::process::CommandExt;
    Command::new("sh")
        .args(["-c", r#"cat; docker rm -f -v "$0""#, name])
        // A group of its own: Ctrl-C ends the tests, and then this does its work.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be started")
}

/// `HOPS_RABBITMQ_IMAGE`, or the first of the known images that this machine has.
async fn image() -> String {
    if let Some(image) = environment::rabbitmq_image() {
        return image;
    }
    for image in IMAGES {
        if try_docker(&["image", "inspect", image]).await.is_ok() {
            return image.to_owned();
        }
    }
    panic!("no RabbitMQ image for a private broker: build one with e2e/rabbitmq.sh build 4.0");
}

async fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).await.unwrap_or_else(|said| panic!("docker {}: {said}", arguments.join(" ")))
}

async fn try_docker(arguments: &[&str]) -> Result<String, String> {
    let output = process::Command::new("docker").args(arguments).output().await.map_err(|e| e.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[cfg(test)]
mod tests {
    use lapin::{BasicProperties, types::FieldTable};

    use super::PrivateBroker;

    #[tokio::test]
    async fn a_killed_broker_comes_back_on_the_same_ports_with_its_confirmed_messages() {
        let broker = PrivateBroker::start().await;
        let vhost = broker.vhost();
        vhost.declare("kept", FieldTable::default()).await;
        let properties = BasicProperties::default().with_delivery_mode(2).with_correlation_id("one".into());
        vhost.publish("kept", properties, b"{}").await;

        broker.kill9().await;
        broker.restart().await;

        let kept = vhost.messages("kept").await;
        assert_eq!(kept.iter().map(|message| message.request_id()).collect::<Vec<_>>(), ["one"]);
        assert_eq!(vhost.ready("kept").await, Some(1), "a look puts the messages back");
        assert!(broker.rabbitmqctl(&["list_queues", "name"]).await.contains("kept"));
    }
}
