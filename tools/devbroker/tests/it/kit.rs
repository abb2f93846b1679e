//! Helpers of the tests.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use devbroker::{DevBroker, Options};
use futures_util::StreamExt;
use lapin as amqp;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

pub(crate) use amqp::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};

/// Time limit of every step; a working broker is faster, even on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn broker(options: Options) -> DevBroker {
    started(options).await.unwrap()
}

/// Starts a broker. A process that another test starts has the lock of the folder, too, until it becomes its program.
pub(crate) async fn started(options: Options) -> io::Result<DevBroker> {
    let is_locked = |why: &io::Error| why.to_string().contains("another devbroker");
    until("the folder is free", async || match DevBroker::start(options.clone()).await {
        Err(why) if is_locked(&why) => None,
        started => Some(started),
    })
    .await
}

pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("it takes too long")
}

pub(crate) async fn connect(url: &str) -> amqp::Result<Connection> {
    in_time(Connection::connect(url, ConnectionProperties::default())).await
}

/// A channel that confirms, on a connection that has to be kept.
pub(crate) async fn channel(url: &str) -> (Connection, Channel) {
    let connection = connect(url).await.unwrap();
    let channel = in_time(connection.create_channel()).await.unwrap();
    in_time(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    (connection, channel)
}

pub(crate) async fn declare(channel: &Channel, name: &str, kind: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    in_time(channel.queue_declare(name.into(), options, arguments)).await.unwrap();
}

/// Returns the number of waiting messages.
pub(crate) async fn ready(channel: &Channel, name: &str) -> u32 {
    let options = QueueDeclareOptions { passive: true, durable: true, ..Default::default() };
    in_time(channel.queue_declare(name.into(), options, FieldTable::default())).await.unwrap().message_count()
}

pub(crate) async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> amqp::Result<Confirmation> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish("".into(), queue.into(), options, body, properties);
    in_time(async { sent.await?.await }).await
}

pub(crate) async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Consumer {
    in_time(channel.basic_qos(prefetch, BasicQosOptions::default())).await.unwrap();
    let options = BasicConsumeOptions::default();
    in_time(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default())).await.unwrap()
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    in_time(consumer.next()).await.expect("the consumer was cancelled").unwrap()
}

pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Asks as an operator does.
pub(crate) async fn ask(admin: SocketAddr, method: &str, path: &str) -> (u16, Value) {
    ask_with(admin, method, path, &["host: localhost"]).await
}

/// Sends a request with these lines in its head.
pub(crate) async fn ask_with(admin: SocketAddr, method: &str, path: &str, head: &[&str]) -> (u16, Value) {
    let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!("{method} {path} HTTP/1.1\r\n{head}content-length: 0\r\nconnection: close\r\n\r\n");
    let answer = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(admin).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap_or_default())
}

/// The binary, killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    pub(crate) admin: SocketAddr,
}

impl Process {
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        Self::started(Command::new(env!("CARGO_BIN_EXE_devbroker")), folder, port)
    }

    /// One that a shell has limited.
    pub(crate) fn limited(limits: &str, folder: &Path, errors: Stdio) -> Self {
        let mut command = Command::new("sh");
        let limited = format!("{limits} && exec \"$0\" \"$@\"");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_devbroker")]).stderr(errors);
        Self::started(command, folder, 0)
    }

    fn started(mut command: Command, folder: &Path, port: u16) -> Self {
        command.args(["serve", "--admin-port", "0", "--port", &port.to_string(), "--data-dir"]).arg(folder);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| Some(line.unwrap().strip_prefix("ready: ")?.to_owned()));
        let ready = ready.expect("it did not start");
        let mut parts = ready.split(" - ");
        let url = parts.next().unwrap().to_owned();
        let admin = parts.next().unwrap().strip_prefix("admin http://").unwrap().parse().unwrap();
        Self { child, url, admin }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Waits until it has ended.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As `kill` does; whether it ended well.
    pub(crate) fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
