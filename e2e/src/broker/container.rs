//! A RabbitMQ in a container of its own, on fixed ports of this machine: a test may kill, freeze, starve and restart it.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tokio::{
    process,
    sync::{Semaphore, SemaphorePermit},
};

use super::{Vhost, free_port};
use crate::environment;

const IMAGES: [&str; 2] = ["localhost/hops-rabbitmq:4.3", "rabbitmq:4.3-management"];

/// Each takes a core for the seconds of its start: with more of them at once, whoever waits for them waits in vain.
static SLOTS: Semaphore = Semaphore::const_new(3);

/// A resource that a broker lacks. Without it the broker accepts no messages, and serves everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Of memory: it may use next to none.
    Memory,
    /// Of disk: it wants more free space than there is.
    Disk,
}

/// A container that one test owns; removed by its name when dropped, and when the test's process dies.
#[derive(Debug)]
pub struct Container {
    name: String,
    image: String,
    /// Names and contents of files for `/etc/rabbitmq/conf.d`.
    files: Vec<(String, String)>,
    ports: [u16; 2],
    reaper: Option<Child>,
    /// Given back when the container is gone: fields are dropped after [`Drop`].
    _slot: SemaphorePermit<'static>,
}

impl Container {
    /// A new broker that accepts connections, with further lines of `rabbitmq.conf`.
    pub async fn start_with(configuration: &str) -> Self {
        let broker = Self::start_with_files(&[("90-test.conf", configuration.to_owned())]).await;
        broker.vhost().until_ready().await;
        broker
    }

    /// A new broker with these files beside its settings. It takes some seconds more until it accepts connections.
    pub async fn start_with_files(files: &[(&str, String)]) -> Self {
        let mut broker = Self::absent().await;
        broker.files = files.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        broker.appear().await;
        broker
    }

    /// A broker that is not there yet: its address is known and nobody listens on it.
    /// Waits while too many others of this process run.
    pub async fn absent() -> Self {
        let slot = SLOTS.acquire().await.expect("nobody closes it");
        Self {
            name: format!("hops-e2e-{}", uuid::Uuid::now_v7().simple()),
            image: image().await,
            files: vec![],
            ports: [free_port(), free_port()],
            reaper: None,
            _slot: slot,
        }
    }

    /// Starts the container of a broker that was absent; it takes some seconds more until it accepts connections.
    pub async fn appear(&mut self) {
        self.reaper = Some(reaper(&self.name));
        let [amqp, admin] = self.ports;
        let (amqp, admin) = (format!("127.0.0.1:{amqp}:5672"), format!("127.0.0.1:{admin}:15672"));
        docker(&[
            "create",
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
        self.copy_files().await;
        docker(&["start", &self.name]).await;
    }

    /// Copied in rather than mounted: the engine may see other files than we do.
    async fn copy_files(&self) {
        let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
        let target = format!("{}:/etc/rabbitmq/conf.d/", self.name);
        for (name, text) in &self.files {
            let file = folder.path().join(name);
            fs::write(&file, text).expect("it can be written");
            docker(&["cp", &file.to_string_lossy(), &target]).await;
        }
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

    /// Stops RabbitMQ in good order and leaves its Erlang node running: the port is closed, connections end.
    pub async fn stop_application(&self) {
        self.rabbitmqctl(&["stop_app"]).await;
    }

    /// Undoes [`Self::stop_application`], and waits until it accepts connections.
    pub async fn start_application(&self) {
        self.rabbitmqctl(&["start_app"]).await;
        self.vhost().until_ready().await;
    }

    /// Raises the alarm.
    pub async fn starve(&self, of: Shortage) {
        match of {
            // Less than any node uses.
            Shortage::Memory => self.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await,
            Shortage::Disk => self.rabbitmqctl(&["set_disk_free_limit", "100000000000000"]).await,
        };
    }

    /// Undoes [`Self::starve`].
    pub async fn feed(&self, with: Shortage) {
        match with {
            Shortage::Memory => self.rabbitmqctl(&["set_vm_memory_high_watermark", "0.6"]).await,
            Shortage::Disk => self.rabbitmqctl(&["set_disk_free_limit", "50000000"]).await,
        };
    }

    /// Closes all connections, as an operator does; clients are told `reason`.
    pub async fn close_all_connections(&self, reason: &str) {
        self.rabbitmqctl(&["close_all_connections", reason]).await;
    }

    /// Runs `rabbitmqctl` inside and answers what it printed.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        docker(&[&["exec", &self.name, "rabbitmqctl"], arguments].concat()).await
    }
}

impl Drop for Container {
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
    panic!("no RabbitMQ image for a private broker: build one with e2e/rabbitmq.sh build");
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

    use super::{Container, Shortage};
    use crate::environment::rabbitmq_only;

    #[tokio::test]
    async fn a_killed_broker_comes_back_on_the_same_ports_with_its_confirmed_messages() {
        if !rabbitmq_only("a killed container comes back") {
            return;
        }
        let broker = Container::start_with("").await;
        let vhost = broker.vhost();
        vhost.declare("kept", FieldTable::default()).await;
        // RabbitMQ 4.0 may forget a queue when it is killed within its first seconds; when it stops in order it does not.
        broker.stop_application().await;
        broker.start_application().await;
        let properties = BasicProperties::default().with_delivery_mode(2).with_correlation_id("one".into());
        vhost.publish("kept", properties, b"{}").await;

        broker.kill9().await;
        broker.restart().await;

        assert_eq!(vhost.ready("kept").await, Some(1), "what was confirmed is gone");
        let kept = vhost.messages("kept").await;
        assert_eq!(kept.iter().map(|message| message.request_id()).collect::<Vec<_>>(), ["one"]);
        assert_eq!(vhost.ready("kept").await, Some(1), "a look puts the messages back");
        assert!(broker.rabbitmqctl(&["list_queues", "name"]).await.contains("kept"));
    }

    #[tokio::test]
    async fn a_broker_takes_lines_of_configuration_and_raises_both_alarms_and_clears_them() {
        if !rabbitmq_only("a container takes configuration and raises alarms") {
            return;
        }
        let broker = Container::start_with("consumer_timeout = 61000\n").await;
        let environment = broker.rabbitmqctl(&["environment"]).await;
        assert!(environment.contains("{consumer_timeout,61000}"), "{environment}");
        for (shortage, word) in [(Shortage::Memory, "Memory"), (Shortage::Disk, "Free disk space")] {
            let alarm = format!("{word} alarm on node");
            broker.starve(shortage).await;
            let status = broker.rabbitmqctl(&["status"]).await;
            assert!(status.contains(&alarm), "{status}");
            broker.feed(shortage).await;
            let status = broker.rabbitmqctl(&["status"]).await;
            assert!(!status.contains(&alarm), "{status}");
        }
    }
}
