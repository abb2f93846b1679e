//! Speed at which a full outbox empties: messages per second from disk to a confirmed quorum queue.
//!
//!     cargo bench -p e2e --bench outbox
//!
//! The relay (`outbox::relay` over `AmqpClient`), with its log lines in a file as in a service, and without
//! them, against a bare lapin loop: 1000 persistent messages in flight, not mandatory, the same bytes into a queue
//! with the same arguments. Target: at least 0.6 of the bare loop.
//!
//! Each is a process of its own on one core (this program with another argument), round after round, who goes first
//! takes turns, and the queue is deleted after each. The broker (`HOPS_BROKER`, `HOPS_BROKER_ADMIN`) should have
//! the other core for itself: `docker run --cpuset-cpus 1`.
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "kit/figures.rs"]
mod figures;
#[path = "kit/process.rs"]
mod process;

use std::{
    collections::VecDeque,
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use contracts::topology::VIP_QUEUE;
use contracts::{RequestContext, VIP_NOTIFICATION, VipNotification};
use e2e::{
    broker::SharedBroker,
    wait::{PATIENCE, until_true},
};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use messaging::{
    Message, MessagingClient as _,
    amqp::{AmqpClient, AmqpOptions, Settings},
    broker::BrokerUrls,
    metrics::Metrics,
    topology::{Argument, Topology},
};
use outbox::{Outbox, relay};
use telemetry::{LogFormat, LogLevel};
use tokio::task::JoinSet;

use self::{
    figures::Figures,
    process::{LOAD_CORE, Process, SERVER_CORE, cpu_of, pin_this},
};

const ROUNDS: usize = 7;
/// Per round.
const MESSAGES: usize = 30_000;
/// The bare loop's messages in flight.
const WINDOW: usize = 1000;
const MODES: [&str; 3] = ["relay", "silent-relay", "bare"];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let word = |at: usize| arguments.get(at).map_or("", String::as_str);
    match word(1) {
        "relay" => relayed(word(2), Path::new(word(3)), true),
        "silent-relay" => relayed(word(2), Path::new(word(3)), false),
        "bare" => bare(word(2), Path::new(word(3))),
        _ if arguments.iter().any(|argument| argument == "--bench") => measure(),
        _ => println!("a benchmark: cargo bench -p e2e --bench outbox"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn measure() {
    pin_this(LOAD_CORE);
    let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
    let vhost = SharedBroker::from_environment().vhost().await;
    let mut rate: [Figures; 3] = Default::default();
    let mut cost: [Figures; 3] = Default::default();
    for round in 0..=ROUNDS {
        for turn in 0..MODES.len() {
            let mode = (round + turn) % MODES.len();
            let figures = folder.path().join("figures");
            let this = env::current_exe().expect("a running program has a path");
            let arguments = [MODES[mode], &vhost.amqp_url(), &figures.to_string_lossy()].map(str::to_owned);
            Process::start(&this, arguments, Some(SERVER_CORE), &folder.path().join("log")).finish();

            let held = async || vhost.ready(VIP_QUEUE).await == u32::try_from(MESSAGES).ok();
            until_true("the queue holds what was confirmed", PATIENCE, held).await;
            let (_connection, channel) = vhost.channel().await;
            let deleted = channel.queue_delete(VIP_QUEUE.into(), QueueDeleteOptions::default()).await;
            deleted.expect("the queue is there");
            if round > 0 {
                let figures = fs::read_to_string(figures).expect("the process wrote its figures");
                let (seconds, cpu) = figures.split_once(' ').expect("two figures");
                rate[mode].push(MESSAGES as f64 / seconds.parse::<f64>().expect("a number"));
                cost[mode].push(cpu.parse::<f64>().expect("a number") * 1e6 / MESSAGES as f64);
            }
        }
    }
    let over_bare = |mode: usize| rate[mode].paired(&rate[2], |one, bare| one / bare);
    println!("{MESSAGES} messages, median of {ROUNDS} rounds (min .. max)");
    println!("                             messages per second                CPU microseconds per message");
    for (name, mode) in
        ["outbox, as in a service    ", "outbox, without log lines  ", "bare lapin loop            "]
            .iter()
            .zip(0..)
    {
        println!("  {name}{:<35.0}{:.1}", rate[mode], cost[mode]);
    }
    println!("  outbox / bare loop         {:.3}   target: at least 0.6", over_bare(0));
    println!("  without log lines / bare   {:.3}", over_bare(1));
}

/// Runs `work` once and writes down how long it took, in seconds of the clock and of the CPU.
async fn write_down(figures: &Path, work: impl Future<Output = ()>) {
    let this = std::process::id();
    let (clock, cpu) = (Instant::now(), cpu_of(this));
    work.await;
    let (clock, cpu) = (clock.elapsed(), cpu_of(this) - cpu);
    let line = format!("{} {}", clock.as_secs_f64(), cpu.as_secs_f64());
    fs::write(figures, line).expect("the folder for temporary files can be written");
}

fn notification() -> Message {
    let context = RequestContext::from_parts_or_new(None, None, None);
    let body = VipNotification {
        account_id: "10000".into(),
        read_at: "2026-11-20T06:27:33.757Z".parse().expect("an instant"),
    };
    contracts::event(VIP_NOTIFICATION, "accountservice", "10000", &context, &body).expect("a valid message")
}

/// Exactly what the accountservice declares.
fn topology() -> Topology {
    contracts::topology::vip_queue(100_000)
}

#[tokio::main]
async fn relayed(url: &str, figures: &Path, with_log: bool) {
    let settings = Settings {
        amqp_server_url: BrokerUrls::parse(url).expect("a broker's address"),
        ..Settings::default()
    };
    if with_log {
        telemetry::init(
            "accountservice",
            "accountservice.1",
            LogLevel(tracing::Level::INFO),
            LogFormat::Json,
        );
    }
    let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
    let settings_of_outbox = outbox::Settings { outbox_max: MESSAGES, ..Default::default() };
    let outbox = Outbox::open(
        folder.path(),
        &settings_of_outbox,
        &mut prometheus_client::registry::Registry::default(),
    )
    .expect("an outbox opens");
    let outbox: &'static Outbox = Box::leak(Box::new(outbox));
    let mut appends = JoinSet::new();
    for n in 0..MESSAGES {
        if n >= 500 {
            appends.join_next().await;
        }
        appends.spawn(async { outbox.append(VIP_QUEUE, &notification()).await.expect("there is room") });
    }
    appends.join_all().await;

    let options = AmqpOptions::new(&settings, "bench", topology()).expect("a usable address");
    let client = AmqpClient::new(options, Metrics::registered(&mut Default::default()));
    client.connect();
    let up = async || client.status().check().is_ok();
    until_true("the broker is there", PATIENCE, up).await;
    write_down(figures, async {
        tokio::select! {
            () = relay(outbox, &client) => {}
            () = outbox.drained() => {}
        }
    })
    .await;
    let _ = tokio::time::timeout(Duration::from_secs(5), client.close()).await;
}

#[tokio::main]
async fn bare(url: &str, figures: &Path) {
    // As common does: without a maximum, lapin reserves 8 MB.
    let url = format!("{url}?frame_max=131072");
    let connection =
        Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker is there");
    let channel = connection.create_channel().await.expect("a channel opens");
    for queue in topology().queues {
        let mut arguments = FieldTable::default();
        for (name, value) in queue.arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.into()),
                Argument::Number(number) => AMQPValue::LongLongInt(number),
            };
            arguments.insert(name.into(), value);
        }
        let declared =
            channel.queue_declare(queue.name.as_str().into(), QueueDeclareOptions::durable(), arguments);
        declared.await.expect("the same as the relay's, or not there");
    }
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let message = notification();
    let properties = properties(&message);
    write_down(figures, async {
        let mut in_flight = VecDeque::with_capacity(WINDOW);
        for _ in 0..MESSAGES {
            if in_flight.len() == WINDOW {
                confirmed(in_flight.pop_front()).await;
            }
            let publish = channel.basic_publish(
                "".into(),
                VIP_QUEUE.into(),
                BasicPublishOptions::default(),
                &message.body,
                properties.clone(),
            );
            in_flight.push_back(publish.await.expect("the connection holds"));
        }
        for confirm in in_flight {
            confirmed(Some(confirm)).await;
        }
    })
    .await;
}

async fn confirmed(confirm: Option<lapin::PublisherConfirm>) {
    let confirm = confirm.expect("one is in flight");
    assert!(confirm.await.expect("the connection holds").is_ack(), "the queue has room");
}

/// The same message as the adapter in `common` publishes it.
fn properties(message: &Message) -> BasicProperties {
    let text = |value: &Option<String>| value.clone().unwrap_or_default().into();
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers)
        .with_message_id(text(&message.id))
        .with_type(text(&message.kind))
        .with_content_type(text(&message.content_type))
        .with_correlation_id(text(&message.correlation_id))
        .with_app_id(text(&message.app_id))
        .with_timestamp(message.timestamp.unwrap_or_default())
}
