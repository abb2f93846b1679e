//! Time of a write to an account, and of reading a long stream of changes.
//!
//!     cargo bench -p e2e --bench accounts
//!
//! A `PUT` with `If-Match`, answered when the replica has read its own entry back, against a bare lapin loop that appends the same bytes
//! to a stream with the same arguments and reads them back; target: at most 1.5 times its median. A write waits until its event is in the
//! outbox, by default on the disk, which the loop does not; so it is measured with `outbox_sync: os`, too. And the time in which a replica with an
//! empty store is ready, with 100,000 changes in the stream, against a bare lapin reader of the same stream; target: at most twice.
//!
//! Rounds are interleaved, and who goes first takes turns. The broker is that of `HOPS_BROKER`, or devbroker.
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "kit/figures.rs"]
mod figures;
#[path = "kit/load.rs"]
mod load;
#[path = "kit/process.rs"]
mod process;
#[path = "kit/system.rs"]
mod system;

use std::{
    env,
    time::{Duration, Instant},
};

use contracts::topology::{ACCOUNT_CHANGES, account_changes};
use e2e::broker::Vhost;
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use messaging::topology::Argument;
use tokio::net::TcpStream;

use self::{figures::Figures, system::System};

const ROUNDS: usize = 7;
/// Writes of a round.
const WRITES: usize = 500;
/// Changes in the stream that is replayed.
const CHANGES: usize = 100_000;
/// Accounts that they change.
const ACCOUNTS: usize = 1000;
const REPLAYS: usize = 5;

#[tokio::main]
async fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return println!("a benchmark: cargo bench -p e2e --bench accounts");
    }
    for sync in ["os", "disk"] {
        writes(sync).await;
    }
    replays().await;
}

/// Writes whose events reach this place before their answers: `outbox_sync`.
async fn writes(sync: &str) {
    let system = System::new().await;
    let service = system.start_flagged("accountservice", &[("outbox-sync", sync)]);
    service.first_answer("/readyz").await;
    let mut bare = Bare::new(&system.vhost, "bare").await;
    let mut stream = TcpStream::connect(("127.0.0.1", service.port)).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket has no delay");
    let (mut put, mut append) = (Figures::default(), Figures::default());
    let mut version = 1;
    for round in 0..=ROUNDS {
        let mut times = [Duration::ZERO; 2];
        for turn in 0..2 {
            let who = (round + turn) % 2;
            times[who] = match who {
                0 => puts(&mut stream, &mut version).await,
                _ => bare.appends().await,
            };
        }
        // The first round warms up.
        if round > 0 {
            put.push(times[0].as_secs_f64() * 1000.0);
            append.push(times[1].as_secs_f64() * 1000.0);
        }
    }
    println!("median of a write in ms, {WRITES} in each of {ROUNDS} rounds, with outbox_sync: {sync}");
    println!("  PUT                       {put:.3}");
    println!("  bare append and read back {append:.3}");
    println!("  ratio, at most 1.5        {:.2}", put.paired(&append, |put, append| put / append));
}

/// Changes one account again and again; the median time.
async fn puts(stream: &mut TcpStream, version: &mut u64) -> Duration {
    let (mut times, mut buffer) = (vec![], vec![0; 4096]);
    for _ in 0..WRITES {
        let body = r#"{"name":"Ada Lovelace","vip":false}"#;
        let request = format!(
            "PUT /accounts/10001 HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nif-match: \"{version}\"\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let since = Instant::now();
        let answer = load::ask(stream, request.as_bytes(), &mut buffer).await.expect("an answer");
        times.push(since.elapsed());
        assert_eq!(load::status(answer), Some(200), "{}", String::from_utf8_lossy(answer));
        *version += 1;
    }
    times.sort_unstable();
    times[WRITES / 2]
}

/// A lapin loop on a stream of its own.
struct Bare {
    channel: Channel,
    name: &'static str,
    consumer: Consumer,
    _connections: [lapin::Connection; 2],
}

impl Bare {
    async fn new(vhost: &Vhost, name: &'static str) -> Self {
        let (publishing, channel) = vhost.channel().await;
        let (consuming, reader) = vhost.channel().await;
        let mut arguments = FieldTable::default();
        for (name, value) in account_changes(256 * 1024 * 1024).arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.into()),
                Argument::Number(number) => AMQPValue::LongLongInt(number),
            };
            arguments.insert(name.into(), value);
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), durable, arguments).await.expect("the stream is declared");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms are there");
        let consumer = consume(&reader, name, AMQPValue::LongString("next".into())).await;
        Self { channel, name, consumer, _connections: [publishing, consuming] }
    }

    async fn appends(&mut self) -> Duration {
        let mut times = vec![];
        for number in 0..WRITES {
            let body = entry(number, 1);
            let since = Instant::now();
            let publish = BasicPublishOptions::default();
            let confirm =
                self.channel.basic_publish("".into(), self.name.into(), publish, &body, properties());
            confirm.await.expect("it is sent").await.expect("it is confirmed");
            let delivery = self.consumer.next().await.expect("it is read back").expect("a delivery");
            times.push(since.elapsed());
            delivery.ack(BasicAckOptions::default()).await.expect("it is acknowledged");
        }
        times.sort_unstable();
        times[WRITES / 2]
    }
}

async fn replays() {
    let system = System::new().await;
    {
        // It declares the stream, and writes the first accounts.
        let service = system.start("accountservice");
        service.first_answer("/readyz").await;
        drop(service);
    }
    let (_connection, channel) = system.vhost.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms are there");
    for number in 0..CHANGES {
        let publish = BasicPublishOptions::default();
        let body = entry(number, number / ACCOUNTS);
        channel
            .basic_publish("".into(), ACCOUNT_CHANGES.into(), publish, &body, properties())
            .await
            .expect("it is sent");
    }
    channel.wait_for_confirms().await.expect("all are confirmed");
    let (mut replica, mut reader, mut memory) = (Figures::default(), Figures::default(), Figures::default());
    for round in 0..REPLAYS {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                system.forget("accountservice.1");
                let service = system.start("accountservice");
                replica.push(service.first_answer("/readyz").await.as_secs_f64());
                memory.push(service.process.memory());
                drop(service);
            } else {
                reader.push(read_all(&system.vhost).await.as_secs_f64());
            }
        }
    }
    println!("{CHANGES} changes of {ACCOUNTS} accounts, {REPLAYS} rounds, seconds");
    println!("  empty store until ready   {replica:.2}");
    println!("  bare reader               {reader:.2}");
    println!(
        "  ratio, at most 2          {:.2}",
        replica.paired(&reader, |replica, reader| replica / reader)
    );
    println!("  memory of the service, MB {memory:.1}");
}

async fn read_all(vhost: &Vhost) -> Duration {
    let since = Instant::now();
    let (_connection, channel) = vhost.channel().await;
    let mut consumer = consume(&channel, ACCOUNT_CHANGES, AMQPValue::LongString("first".into())).await;
    for read in 1..=CHANGES {
        let delivery = consumer.next().await.expect("the stream goes on").expect("a delivery");
        if read % 100 == 0 {
            delivery.ack(BasicAckOptions { multiple: true }).await.expect("it is acknowledged");
        }
    }
    since.elapsed()
}

async fn consume(channel: &Channel, stream: &str, from: AMQPValue) -> Consumer {
    channel.basic_qos(500, BasicQosOptions::default()).await.expect("the prefetch is set");
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), from);
    let consume = channel.basic_consume(stream.into(), "".into(), BasicConsumeOptions::default(), arguments);
    consume.await.expect("the stream is there")
}

/// An entry, as an accountservice appends it.
fn entry(number: usize, base: usize) -> Vec<u8> {
    let account = 20_000 + number % ACCOUNTS;
    format!(
        r#"{{"stream":"3f2a9c01","changeId":"01a1f845-2531-7002-ab26-{number:012}","accountId":"{account}","base":{base},"account":{{"name":"Ada Lovelace","vip":false}},"request":"0b9d1c1a3f3c5c3fa1a4a9f2a6b7c8d9","by":"accountservice.9","at":"2026-11-30T10:00:00.500Z"}}"#
    )
    .into_bytes()
}

fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    for name in ["id", "source", "type", "specversion", "time", "subject"] {
        let value = AMQPValue::LongString("01a1f845-2531-7002-ab26".into());
        headers.insert(format!("cloudEvents_{name}").into(), value);
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_type("account.change.v1".into())
        .with_content_type("application/json".into())
        .with_message_id("01a1f845-2531-7002-ab26-00a1be42a88b".into())
        .with_headers(headers)
}
