//! Times until the system has recovered from a failure, and what a failure may cost.
//!
//!     cargo bench -p e2e --bench failure
//!
//! With the broker up (`HOPS_BROKER`, `HOPS_BROKER_ADMIN`), and a private one for what kills it:
//! - from the broker's return (its port shakes hands again) to the first confirmed publish of a notification that
//!   waited; mostly what is left of the back-off, which is drawn anew for each attempt,
//! - from the `kill -9` of a replica that holds 50 unacknowledged deliveries to the first, and to the last, of them
//!   with another replica,
//! - how fast 10,000 waiting notifications become offers, with one replica and with three; next to them a bare lapin
//!   consumer with the same prefetch and single acks, which does nothing with them,
//! - resident memory of an accountservice whose broker is away: idle, with a full outbox, and started again with it.
//!   Target: at most 40 MB.
//!
//! An argument runs only those parts whose name it begins: `-- memory`. Time is told, and never asserted.
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
    net::SocketAddr,
    time::{Duration, Instant},
};

use e2e::{
    broker::{PrivateBroker, Vhost},
    wait::{PATIENCE, until_true},
};
use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use self::{
    figures::Figures,
    system::{Server, System},
};

const RETURNS: usize = 7;
const KILLS: usize = 11;
const DRAINS: usize = 5;
const MEMORIES: usize = 3;

/// Messages that wait when a drain begins.
const WAITING: usize = 10_000;
/// The default of `consumer_prefetch`.
const PREFETCH: u16 = 50;
/// The default of `outbox_max`.
const OUTBOX: usize = 100_000;
/// No quorum queue younger than some seconds survives its broker's `kill -9`.
const SAFE_AGE: Duration = Duration::from_secs(20);

const VIP: &str = "/accounts/10000";
const VIP_QUEUE: &str = "vip_queue";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return println!("a benchmark: cargo bench -p e2e --bench failure");
    }
    let wanted: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted =
        |part: &str| wanted.is_empty() || wanted.iter().any(|word| part.starts_with(word.as_str()));
    if is_wanted("memory") {
        memory().await;
    }
    if is_wanted("redelivery") {
        redelivery().await;
    }
    if is_wanted("drain") {
        drain().await;
    }
    if is_wanted("return") {
        broker_returns().await;
    }
}

async fn broker_returns() {
    let broker = PrivateBroker::start().await;
    let system = System::on(broker.vhost());
    let accounts = system.start("accountservice");
    accounts.first_answer("/readyz").await;
    sleep(SAFE_AGE).await;
    let (mut away, mut back) = (Figures::default(), Figures::default());
    for _ in 0..RETURNS {
        let since = Instant::now();
        broker.kill9().await;
        until_true("the broker is missed", PATIENCE, async || accounts.ask("/readyz").await.is_none()).await;
        let before = accounts.metric("hops_messages_confirmed_total").await;
        load::get(accounts.port, VIP, 1).await;

        let first_confirm = async {
            until_handshake(system.vhost.address()).await;
            let returned = Instant::now();
            while accounts.metric("hops_messages_confirmed_total").await == before {
                assert!(returned.elapsed() < PATIENCE, "nothing is confirmed");
                sleep(Duration::from_millis(1)).await;
            }
            (returned - since, returned.elapsed())
        };
        let ((), times) = tokio::join!(broker.restart(), first_confirm);
        away.push(times.0.as_secs_f64());
        back.push(times.1.as_secs_f64() * 1e3);
    }
    println!("a broker that returns after its kill -9, median of {RETURNS} (min .. max)");
    println!("  away, s                               {away:.1}");
    println!("  from its return to a confirm, ms      {back:.0}");
}

/// Waits until the broker itself answers a client's first bytes, and not just something that listens for it.
async fn until_handshake(address: SocketAddr) {
    let shaken = async || {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
        let mut method = [0; 11];
        let read = timeout(Duration::from_secs(1), stream.read_exact(&mut method)).await;
        read.ok()?.ok()?;
        // Connection.Start: class 10, method 10, after a frame's head of 7 bytes.
        (method[7..] == [0, 10, 0, 10]).then_some(())
    };
    let since = Instant::now();
    while shaken().await.is_none() {
        assert!(since.elapsed() < PATIENCE, "the broker does not come back");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn redelivery() {
    let (mut first, mut last) = (Figures::default(), Figures::default());
    for _ in 0..KILLS {
        let system = System::new().await;
        let accounts = system.start("accountservice");
        accounts.first_answer("/readyz").await;
        let victim = system.start("vipservice");
        victim.first_answer("/readyz").await;
        victim.process.freeze();
        load::get(accounts.port, VIP, usize::from(PREFETCH)).await;
        let sent = async || accounts.metric("hops_messages_confirmed_total").await >= usize::from(PREFETCH);
        until_true("all notifications are in the queue", PATIENCE, sent).await;
        let held = async || system.vhost.ready(VIP_QUEUE).await == Some(0);
        until_true("the frozen replica holds them all", PATIENCE, held).await;
        let other = system.start("vipservice");
        other.first_answer("/readyz").await;
        assert_eq!(other.metric("hops_messages_consumed_total").await, 0);

        let since = Instant::now();
        drop(victim);
        first.push(until_metric(&other, "hops_messages_consumed_total", 1, since).await * 1e3);
        last.push(
            until_metric(&other, "hops_read_to_offer_seconds_count", PREFETCH.into(), since).await * 1e3,
        );
    }
    println!(
        "a replica killed with {PREFETCH} unacknowledged deliveries, ms, median of {KILLS} (min .. max)"
    );
    println!("  to the first redelivery               {first:.1}");
    println!("  to the last one's offer               {last:.1}");
}

/// Asks every millisecond; how many seconds it took.
async fn until_metric(server: &Server, name: &str, wanted: usize, since: Instant) -> f64 {
    while server.metric(name).await < wanted {
        assert!(since.elapsed() < PATIENCE, "{name} does not come to {wanted}");
        sleep(Duration::from_millis(1)).await;
    }
    since.elapsed().as_secs_f64()
}

async fn drain() {
    let mut rate: [Figures; 3] = Default::default();
    for round in 0..DRAINS {
        for turn in 0..rate.len() {
            let mode = (round + turn) % rate.len();
            let system = System::new().await;
            let accounts = system.start("accountservice");
            accounts.first_answer("/readyz").await;
            load::get(accounts.port, VIP, WAITING).await;
            let waiting = async || system.vhost.ready(VIP_QUEUE).await == u32::try_from(WAITING).ok();
            until_true("all notifications are in the queue", PATIENCE, waiting).await;
            drop(accounts);
            let seconds = match mode {
                0 => drained_by(&system, 1).await,
                1 => drained_by(&system, 3).await,
                _ => drained_bare(&system.vhost).await,
            };
            rate[mode].push(WAITING as f64 / seconds);
        }
    }
    let over_bare = |mode: usize| rate[mode].paired(&rate[2], |one, bare| one / bare);
    println!("{WAITING} waiting notifications, per second, median of {DRAINS} (min .. max)");
    println!("  one replica                           {:.0}", rate[0]);
    println!("  three replicas                        {:.0}", rate[1]);
    println!("  bare lapin consumer                   {:.0}", rate[2]);
    println!("  one replica / bare                    {:.3}", over_bare(0));
    println!("  three replicas / bare                 {:.3}", over_bare(1));
}

/// From the first delivery to the last offer in the stream, in seconds.
async fn drained_by(system: &System, replicas: usize) -> f64 {
    let replicas: Vec<_> = (0..replicas).map(|_| system.start("vipservice")).collect();
    let sum = async |name: &str| {
        let mut sum = 0;
        for replica in &replicas {
            sum += replica.metric(name).await;
        }
        sum
    };
    let begun = async || sum("hops_messages_consumed_total").await > 0;
    while !begun().await {
        sleep(Duration::from_millis(2)).await;
    }
    let since = Instant::now();
    while sum("hops_read_to_offer_seconds_count").await < WAITING {
        assert!(since.elapsed() < PATIENCE, "the queue is not drained");
        sleep(Duration::from_millis(20)).await;
    }
    since.elapsed().as_secs_f64()
}

/// From the subscription to the last ack, in seconds.
async fn drained_bare(vhost: &Vhost) -> f64 {
    // As common does: without a maximum, lapin reserves 8 MB.
    let url = format!("{}?frame_max=131072", vhost.amqp_url());
    let connection =
        Connection::connect(&url, ConnectionProperties::default()).await.expect("the broker is there");
    let channel = connection.create_channel().await.expect("a channel opens");
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a prefetch");
    let since = Instant::now();
    let consuming = channel.basic_consume(
        VIP_QUEUE.into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut deliveries = consuming.await.expect("a consumer");
    for _ in 0..WAITING {
        let delivery = deliveries.next().await.expect("as many as there are").expect("a delivery");
        delivery.ack(BasicAckOptions::default()).await.expect("an ack");
    }
    since.elapsed().as_secs_f64()
}

async fn memory() {
    let mut memory: [Figures; 3] = Default::default();
    for _ in 0..MEMORIES {
        let system = System::new().await;
        let accounts = system.start_alone("accountservice");
        accounts.first_answer("/livez").await;
        memory[0].push(accounts.settled_memory().await);
        load::get(accounts.port, VIP, OUTBOX).await;
        assert!(accounts.ask(VIP).await.is_none(), "the outbox is full");
        memory[1].push(accounts.settled_memory().await);
        drop(accounts);
        let again = system.start_alone("accountservice");
        again.first_answer("/livez").await;
        assert!(again.ask(VIP).await.is_none(), "the outbox is full");
        memory[2].push(again.settled_memory().await);
    }
    println!("accountservice, broker away: resident memory, MB, median of {MEMORIES} (min .. max)");
    println!("  idle                                  {:.2}", memory[0]);
    println!("  with a full outbox of {OUTBOX}          {:.2}   target: at most 40", memory[1]);
    println!("  started again with it                 {:.2}", memory[2]);
}
