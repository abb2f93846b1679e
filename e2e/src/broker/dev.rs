//! `tools/devbroker` as a process of its own: one that all tests of a process share, or one that a test may kill and freeze.
//!
//! [`DevBroker`] has the methods of [`Container`](super::Container). Not here, because this broker has no such thing:
//! lines of a configuration file, users, and `rabbitmqctl`.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Vhost, free_port};
use crate::{
    binaries::binary,
    http::{self, Reply},
};

/// Runs the command `$@` until standard input ends, so also until the process dies that holds it; then removes the folder `$0`, if it names one.
/// First line: the number of the command's process, which says it before it becomes the command. Its output follows.
const WARDEN: &str = r#"
    sh -c 'echo $$; exec "$@"' sh "$@" </dev/null &
    exec >/dev/null
    cat
    kill -KILL $! 2>/dev/null
    wait
    rm -rf -- "$0"
"#;

/// A running process with its data in a folder.
#[derive(Debug)]
struct Running {
    warden: Child,
    broker: Pid,
    /// Its addresses for AMQP and for operators.
    addresses: [String; 2],
    /// Held so that what it prints has somewhere to go.
    _output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it and reads where it listens; port 0 is a free one. The folder `doomed` goes when it does.
    fn start(ports: [u16; 2], data: &Path, doomed: Option<&Path>) -> Self {
        use std::os::unix::process::CommandExt;
        let [amqp, admin] = ports.map(|port| port.to_string());
        let mut warden = Command::new("sh")
            .args(["-c", WARDEN])
            .arg(doomed.unwrap_or(Path::new("")))
            .arg(binary("devbroker"))
            .args(["--port", &amqp, "--admin-port", &admin, "--data-dir"])
            .arg(data)
            // A group of its own: Ctrl-C ends the tests, and then the warden does its work.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh can be started");
        let mut output = BufReader::new(warden.stdout.take().expect("piped"));
        let broker = line(&mut output).trim().parse().ok().and_then(Pid::from_raw);
        let addresses = std::iter::repeat_with(|| line(&mut output)).find_map(|line| addresses(&line));
        Self {
            warden,
            broker: broker.expect("the warden prints a process's number"),
            addresses: addresses.expect("an endless search ends with a find"),
            _output: output,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.broker, signal).expect("the warden has not waited for it");
    }
}

impl Drop for Running {
    /// As `kill -9`, and waits until it is gone.
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        let _ = self.warden.wait();
    }
}

/// The next line; panics when there is none.
fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    let count = output.read_line(&mut line).expect("its output is text");
    assert!(count > 0, "devbroker ended at its start, its reason is above");
    line
}

/// From `ready: amqp://127.0.0.1:5672 - admin http://127.0.0.1:15673 - data folder`.
fn addresses(line: &str) -> Option<[String; 2]> {
    let (amqp, rest) = line.strip_prefix("ready: ")?.split_once(" - admin ")?;
    Some([amqp.to_owned(), rest.split(' ').next()?.trim().to_owned()])
}

/// The addresses of the one that this process shares; the first call starts it, and it ends with this process.
pub(super) fn shared() -> [String; 2] {
    static SHARED: OnceLock<Mutex<Running>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("the folder for temporary files can be written").keep();
        Mutex::new(Running::start([0, 0], &folder.join("data"), Some(&folder)))
    });
    shared.lock().unwrap_or_else(PoisonError::into_inner).addresses.clone()
}

/// One that a test owns, on fixed ports of this machine.
#[derive(Debug)]
pub struct DevBroker {
    ports: [u16; 2],
    folder: TempDir,
    running: Mutex<Option<Running>>,
}

impl DevBroker {
    /// A new broker that accepts connections.
    pub async fn start() -> Self {
        let mut broker = Self::absent().await;
        broker.appear().await;
        broker
    }

    /// A broker that is not there yet: its address is known and nobody listens on it.
    #[expect(clippy::unused_async, reason = "as the other kind of private broker, which waits for its turn")]
    pub async fn absent() -> Self {
        let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
        Self { ports: [free_port(), free_port()], folder, running: Mutex::default() }
    }

    /// Starts a broker that was absent; then it accepts connections.
    pub async fn appear(&mut self) {
        self.restart().await;
    }

    /// Its default virtual host.
    pub fn vhost(&self) -> Vhost {
        let [amqp, admin] = self.ports;
        let [amqp, admin] = [format!("amqp://127.0.0.1:{amqp}"), format!("http://127.0.0.1:{admin}")];
        Vhost::of_dev_broker(&amqp, &admin, "/")
    }

    /// `kill -9`: nothing is flushed, nothing is said.
    #[expect(clippy::unused_async, reason = "as the other kind of private broker")]
    pub async fn kill9(&self) {
        drop(self.take());
    }

    /// Starts it again after [`Self::kill9`], with its data, on the same ports, and waits until it accepts connections.
    pub async fn restart(&self) {
        let data = self.folder.path().join("data");
        let running = Running::start(self.ports, &data, None);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        self.vhost().until_ready().await;
    }

    /// Stops it where it is; connections stay open and silent.
    #[expect(clippy::unused_async, reason = "as the other kind of private broker")]
    pub async fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Undoes [`Self::freeze`].
    #[expect(clippy::unused_async, reason = "as the other kind of private broker")]
    pub async fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Stops it in good order: the port is closed, connections end.
    pub async fn stop_application(&self) {
        self.signal(Signal::TERM);
        let gone = || async { self.vhost().is_gone().await };
        crate::wait::until_true("the broker has stopped", crate::wait::PATIENCE, gone).await;
        drop(self.take());
    }

    /// Undoes [`Self::stop_application`], and waits until it accepts connections.
    pub async fn start_application(&self) {
        self.restart().await;
    }

    /// Raises the alarm: it takes no messages, and all else goes on.
    pub async fn starve(&self) {
        self.ask(Method::POST, "/alarm/on").await;
    }

    /// Undoes [`Self::starve`].
    pub async fn feed(&self) {
        self.ask(Method::POST, "/alarm/off").await;
    }

    /// Closes all connections, as an operator does; clients are told `reason`.
    pub async fn close_all_connections(&self, reason: &str) {
        let connections = self.ask(Method::GET, "/connections").await.json();
        for connection in connections.as_array().expect("a list of connections") {
            let path = format!("/connections/{}/close?reason={reason}", connection["id"]);
            // One that has gone by itself meanwhile is not found.
            let _ = self.try_ask(Method::POST, &path).await;
        }
    }

    /// Swallows the next confirms: their messages are stored and nobody is told.
    pub async fn drop_confirms(&self, count: u32) {
        self.ask(Method::POST, &format!("/drop-confirms/{count}")).await;
    }

    async fn ask(&self, method: Method, path: &str) -> Reply {
        let reply = self.try_ask(method, path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        reply
    }

    async fn try_ask(&self, method: Method, path: &str) -> Reply {
        let url = format!("http://127.0.0.1:{}{path}", self.ports[1]);
        Reply::of(http::client().request(method, url)).await.expect("the broker's operator port answers")
    }

    fn take(&self) -> Running {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.expect("the broker was started")
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().expect("the broker was started").signal(signal);
    }
}

#[cfg(test)]
mod tests {
    use lapin::{BasicProperties, types::FieldTable};

    use super::DevBroker;
    use crate::broker::{Product, socket_address};

    #[tokio::test]
    async fn a_killed_dev_broker_comes_back_on_the_same_ports_with_its_confirmed_messages() {
        let broker = DevBroker::start().await;
        let vhost = broker.vhost();
        assert_eq!(Product::at(socket_address(&vhost.amqp_url())), Some(Product::DevBroker));
        vhost.declare("kept", FieldTable::default()).await;
        let properties = BasicProperties::default().with_delivery_mode(2).with_correlation_id("one".into());
        vhost.publish("kept", properties, b"{}").await;

        broker.kill9().await;
        assert!(vhost.is_gone().await);
        broker.restart().await;

        let kept = vhost.messages("kept").await;
        assert_eq!(kept.iter().map(|message| message.request_id()).collect::<Vec<_>>(), ["one"]);
        assert_eq!(vhost.queues().await["kept"]["type"], "classic");
    }

    #[tokio::test]
    async fn a_dev_broker_stops_in_good_order_freezes_starves_and_goes_on() {
        let broker = DevBroker::start().await;
        let vhost = broker.vhost();
        vhost.declare("kept", FieldTable::default()).await;
        broker.stop_application().await;
        broker.start_application().await;
        assert_eq!(vhost.ready("kept").await, Some(0));

        broker.freeze().await;
        broker.thaw().await;
        broker.starve().await;
        broker.feed().await;
        vhost.publish("kept", BasicProperties::default(), b"{}").await;

        let (connection, channel) = vhost.channel().await;
        broker.close_all_connections("moving house").await;
        let is_closed = || async { !connection.status().connected() && !channel.status().connected() };
        crate::wait::until_true("the connection is closed", crate::wait::PATIENCE, is_closed).await;
    }

    #[test]
    fn the_shared_one_is_started_once() {
        assert_eq!(super::shared(), super::shared());
    }
}
