//! Throughput, compared with a RabbitMQ on the same cores: `HOPS_BROKER=amqp://... cargo bench -p devbroker --bench throughput`
//!
//! Rounds are interleaved, since machines change under long runs: in each, either broker takes a number of persistent
//! messages into a quorum queue from pipelined, confirmed publishes, and gives them to a consumer that acknowledges each.
//! Printed are the medians, how much memory the idle broker takes, and how long the first connection takes from its start.

#![expect(clippy::print_stdout, reason = "the figures are the result")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lapin as amqp;

use amqp::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

const ROUNDS: usize = 7;
const MESSAGES: usize = 20_000;
/// Publishes that wait for their confirm at a time.
const WINDOW: usize = 1_000;
const PREFETCH: u16 = 200;

#[expect(clippy::disallowed_methods, reason = "a bench is its own main")]
fn main() {
    // `cargo test --benches` builds it, and must not run it for minutes.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(compare(std::env::var("HOPS_BROKER").ok()));
}

async fn compare(reference: Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (mut child, url) = start(folder.path());
    let address = url.strip_prefix("amqp://").unwrap().to_owned();
    TcpStream::connect(&address).unwrap();
    let first = started.elapsed();
    connect(&url).await;
    let logged_in = started.elapsed();
    println!(
        "first connection accepted {first:?} after the start of the process, logged in after {logged_in:?}"
    );
    println!("idle: {} KiB resident", resident_kib(child.id()));
    let mut brokers = vec![("devbroker", url)];
    brokers.extend(reference.map(|url| ("reference", url)));
    let mut figures = vec![(vec![], vec![]); brokers.len()];
    for _ in 0..ROUNDS {
        for ((_, url), (published, consumed)) in brokers.iter().zip(&mut figures) {
            let connection = connect(url).await;
            let channel = fresh_queue(&connection).await;
            published.push(publish(&channel).await);
            consumed.push(consume(&connection).await);
            let deleted = channel.queue_delete("bench".into(), QueueDeleteOptions::default());
            deleted.await.unwrap();
        }
    }
    for ((name, _), (published, consumed)) in brokers.iter().zip(&mut figures) {
        let (published, consumed) = (median(published), median(consumed));
        println!(
            "{name:<10} published and confirmed {published:>7.0}/s   consumed and acknowledged {consumed:>7.0}/s"
        );
    }
    println!("after the load: {} KiB resident", resident_kib(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn start(folder: &std::path::Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_devbroker"))
        .args(["serve", "--port", "0", "--admin-port", "0", "--data-dir"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.find_map(|line| Some(line.unwrap().strip_prefix("ready: ")?.to_owned())).unwrap();
    (child, ready.split(' ').next().unwrap().to_owned())
}

async fn connect(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default()).await.unwrap()
}

async fn fresh_queue(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("bench".into(), options, arguments).await.unwrap();
    channel
}

async fn publish(channel: &Channel) -> f64 {
    let body = [b'x'; 200];
    let started = Instant::now();
    let mut waiting = VecDeque::new();
    for _ in 0..MESSAGES {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), "bench".into(), options, &body, properties);
        waiting.push_back(sent.await.unwrap());
        if waiting.len() >= WINDOW {
            waiting.pop_front().unwrap().await.unwrap();
        }
    }
    for confirm in waiting {
        confirm.await.unwrap();
    }
    per_second(started.elapsed())
}

async fn consume(connection: &Connection) -> f64 {
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
    let started = Instant::now();
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume("bench".into(), "".into(), options, FieldTable::default());
    let mut consumer = consumer.await.unwrap();
    for _ in 0..MESSAGES {
        let delivery = consumer.next().await.unwrap().unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
    }
    let figure = per_second(started.elapsed());
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.unwrap();
    channel.close(200, "done".into()).await.unwrap();
    figure
}

fn per_second(time: Duration) -> f64 {
    f64::from(u32::try_from(MESSAGES).unwrap()) / time.as_secs_f64()
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Returns the resident memory of a process, where the system has `/proc`.
fn resident_kib(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown").to_owned()
}
