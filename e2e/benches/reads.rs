//! Cost of a read: CPU time of the accountservice per `GET /accounts/{id}`.
//!
//!     cargo bench -p e2e --bench reads
//!
//! 1. A plain read against an axum hello-world of the same profile, which this program is when it is called
//!    with `hello`. Target: hello-world over plain read at least 0.75.
//! 2. A VIP read against a plain one, until its message is confirmed by the broker; and where its time goes,
//!    by leaving parts out: without log lines (`log_level` warn), without a broker, without both.
//!
//! 3. With `-- sync [PROGRAM]`, instead of both: what `outbox_sync: disk` and `os` cost, and the accountservice of another
//!    version where its path is given: reads per second at 32 connections, the median of a lone connection, CPU time.
//!
//! One core for the servers, the other one for the load, 32 connections kept alive. CPU time is what the kernel
//! counts (`/proc/PID/stat`), since the wall clock of a shared machine says little; what is compared was measured
//! in one round. Standard output of the services goes to a file. The broker (`HOPS_BROKER`, `HOPS_BROKER_ADMIN`)
//! should be on the core of the load: `docker run --cpuset-cpus 1`.
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "kit/figures.rs"]
mod figures;
#[path = "kit/load.rs"]
mod load;
#[path = "kit/process.rs"]
mod process;

use std::{env, path::Path, time::Duration};

use axum::{Json, Router, routing::get};
use e2e::{
    binaries::binary,
    broker::{SharedBroker, Vhost, free_port},
    wait::{PATIENCE, until_true},
};
use lapin::options::QueuePurgeOptions;
use serde::Serialize;
use tempfile::TempDir;

use self::{
    figures::Figures,
    process::{LOAD_CORE, Process, SERVER_CORE, pin_this},
};

const ROUNDS: usize = 7;
/// Per round and server; the kernel counts CPU time in steps of 10 ms.
const PLAIN_READS: usize = 150_000;
/// Per round and variant; without a broker the rounds of all fit into an outbox, which holds 100,000.
const VIP_READS: usize = 10_000;
const WARM_UP: usize = 5_000;

const PLAIN: &str = "/accounts/10001";
const VIP: &str = "/accounts/10000";
const HELLO: &str = "/hello";

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if arguments.get(1).is_some_and(|mode| mode == "hello") {
        return hello(arguments[2].parse().expect("a port"));
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return println!("a benchmark: cargo bench -p e2e --bench reads");
    }
    pin_this(LOAD_CORE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    match arguments.iter().position(|argument| argument == "sync") {
        Some(at) => {
            let other = arguments.get(at + 1).filter(|argument| !argument.starts_with('-'));
            runtime.block_on(measure_sync(other.map(Path::new)));
        }
        None => runtime.block_on(measure()),
    }
}

/// The figures of one variant of the outbox.
#[derive(Default)]
struct Variant {
    per_second: Figures,
    lone: Figures,
    cpu: Figures,
}

async fn measure_sync(other: Option<&Path>) {
    let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
    let vhost = SharedBroker::from_environment().vhost().await;
    let this = binary("accountservice");
    let mut servers = vec![];
    for (name, program, sync) in
        [("disk", Some(&*this), true), ("os", Some(&*this), true), ("other", other, false)]
    {
        if let Some(program) = program {
            let flags = if sync { vec!["--outbox-sync", name] } else { vec![] };
            let server = Server::with(program, &folder, name, "info", Some(&vhost), &flags).await;
            servers.push((name, server, Variant::default()));
        }
    }
    for round in 0..=ROUNDS {
        for turn in 0..servers.len() {
            let variant = (round + turn) % servers.len();
            let (_, server, figures) = &mut servers[variant];
            let lone = load::median_of_one(server.port, VIP, VIP_READS / 10).await;
            let (cpu, time) = server.vip(Some(&vhost)).await;
            if round > 0 {
                figures.lone.push(lone.as_secs_f64() * 1e6);
                figures.cpu.push(cpu);
                figures.per_second.push(VIP_READS as f64 / time.as_secs_f64());
            }
        }
    }
    println!("VIP reads, median of {ROUNDS} rounds (min .. max)");
    for (name, _, figures) in &servers {
        println!("  {name}");
        println!("    per second, 32 connections   {:.0}", figures.per_second);
        println!("    microseconds, 1 connection   {:.0}", figures.lone);
        println!("    CPU microseconds             {:.1}", figures.cpu);
    }
    let (_, _, last) = &servers[servers.len() - 1];
    for (name, _, figures) in &servers[..servers.len() - 1] {
        let over = |one: &Figures, two: &Figures| one.paired(two, |one, two| one / two);
        let (name_of_last, _, _) = &servers[servers.len() - 1];
        println!("  {name} / {name_of_last}: per second {:.2}", over(&figures.per_second, &last.per_second));
        println!("    microseconds at 1 connection {:.2}", over(&figures.lone, &last.lone));
        println!("    CPU                          {:.2}", over(&figures.cpu, &last.cpu));
    }
}

/// The measure of all things.
#[tokio::main]
async fn hello(port: u16) {
    #[derive(Serialize)]
    struct Hello {
        message: &'static str,
    }
    let router = Router::new().route(HELLO, get(async || Json(Hello { message: "Hello, World!" })));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    axum::serve(listener, router).await.expect("it serves");
}

async fn measure() {
    let folder = tempfile::tempdir().expect("the folder for temporary files can be written");
    let vhost = SharedBroker::from_environment().vhost().await;
    let hello = Server::hello(&folder).await;
    let [full, silent, alone, bare] = [("info", true), ("warn", true), ("info", false), ("warn", false)]
        .map(|(level, broker)| Server::accountservice(&folder, level, broker.then_some(&vhost)));
    let (full, silent, alone, bare) = (full.await, silent.await, alone.await, bare.await);

    let mut cost: [Figures; 6] = Default::default();
    let mut rate: [Figures; 2] = Default::default();
    for round in 0..=ROUNDS {
        let plain_reads = if round == 0 { WARM_UP } else { PLAIN_READS };
        // Who goes first takes turns.
        let (one, two) =
            (async || hello.plain(HELLO, plain_reads).await, async || full.plain(PLAIN, plain_reads).await);
        let (a, b) = if round % 2 == 0 {
            let a = one().await;
            (a, two().await)
        } else {
            let b = two().await;
            (one().await, b)
        };
        let vip = [
            full.vip(Some(&vhost)).await.0,
            silent.vip(Some(&vhost)).await.0,
            alone.vip(None).await.0,
            bare.vip(None).await.0,
        ];
        if round > 0 {
            for (figures, figure) in cost.iter_mut().zip([a.0, b.0].into_iter().chain(vip)) {
                figures.push(figure);
            }
            rate[0].push(a.1);
            rate[1].push(b.1);
        }
    }
    print(&cost, &rate);
}

fn print([hello, plain, full, silent, alone, bare]: &[Figures; 6], rate: &[Figures; 2]) {
    let less = |one: &Figures, two: &Figures| one.paired(two, |one, two| one - two);
    let over = |one: &Figures, two: &Figures| one.paired(two, |one, two| one / two);
    println!("CPU microseconds per request, median of {ROUNDS} rounds (min .. max)");
    println!("  axum hello-world                    {hello:.2}");
    println!("  plain read                          {plain:.2}");
    println!("  hello-world / plain read            {:.3}   target: at least 0.75", over(hello, plain));
    println!("  (requests per second: hello-world {:.0}, plain read {:.0})", rate[0], rate[1]);
    println!("  VIP read, all                       {full:.2}");
    println!("  VIP read / plain read               {:.2}", over(full, plain));
    println!("  of a VIP read:");
    println!("    what a plain read costs           {plain:.2}");
    println!("    message, outbox, shared flush     {:.2}", less(bare, plain));
    println!("    relay, publish, confirm, remove   {:.2}", less(silent, bare));
    println!("    log lines: hops 4, 5 and 6        {:.2}", less(full, silent));
    println!("    log lines: hop 4 alone            {:.2}", less(alone, bare));
}

struct Server {
    process: Process,
    port: u16,
}

impl Server {
    async fn hello(folder: &TempDir) -> Self {
        let this = env::current_exe().expect("a running program has a path");
        let port = free_port();
        let arguments = ["hello".to_owned(), port.to_string()];
        Self::start(&this, arguments.to_vec(), port, &folder.path().join("hello.log")).await
    }

    async fn accountservice(folder: &TempDir, level: &str, broker: Option<&Vhost>) -> Self {
        let instance = format!("{level}-{}", if broker.is_some() { "broker" } else { "alone" });
        Self::with(&binary("accountservice"), folder, &instance, level, broker, &[]).await
    }

    /// An accountservice of any version.
    async fn with(
        program: &Path,
        folder: &TempDir,
        instance: &str,
        level: &str,
        broker: Option<&Vhost>,
        more: &[&str],
    ) -> Self {
        let data = folder.path().join(instance);
        let port = free_port();
        let nowhere = || format!("amqp://127.0.0.1:{}", free_port());
        let flags = [
            ("server-port", port.to_string()),
            ("log-level", level.to_owned()),
            ("data-dir", data.display().to_string()),
            ("config-repo", data.display().to_string()),
            ("amqp-server-url", broker.map_or_else(nowhere, Vhost::amqp_url)),
        ];
        let flags = flags.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]);
        let flags = flags.chain(more.iter().map(|&flag| flag.to_owned())).collect();
        std::fs::create_dir_all(&data).expect("the folder for temporary files can be written");
        let log = folder.path().join(format!("{instance}.log"));
        Self::start(program, flags, port, &log).await
    }

    async fn start(program: &Path, arguments: Vec<String>, port: u16, output: &Path) -> Self {
        let process = Process::start(program, arguments, Some(SERVER_CORE), output);
        let listening = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        until_true("the server listens", PATIENCE, listening).await;
        Self { process, port }
    }

    /// CPU time per read, and reads per second.
    async fn plain(&self, path: &str, reads: usize) -> (f64, f64) {
        let before = self.process.cpu();
        let time = load::get(self.port, path, reads).await;
        (micros(self.process.cpu() - before, reads), reads as f64 / time.as_secs_f64())
    }

    /// CPU time per VIP read, until its message is in the queue where there is one, and the time of the reads.
    async fn vip(&self, vhost: Option<&Vhost>) -> (f64, Duration) {
        if let Some(vhost) = vhost {
            self.purge(vhost).await;
        }
        let before = self.process.cpu();
        let time = load::get(self.port, VIP, VIP_READS).await;
        if let Some(vhost) = vhost {
            let confirmed = async || vhost.ready("vip_queue").await >= u32::try_from(VIP_READS).ok();
            until_true("all messages are in the queue", PATIENCE, confirmed).await;
        }
        let used = self.process.cpu() - before;
        if let Some(vhost) = vhost {
            self.purge(vhost).await;
        }
        (micros(used, VIP_READS), time)
    }

    /// Empties the outbox and the queue.
    async fn purge(&self, vhost: &Vhost) {
        let published = async || depth(self.port).await == Some(0);
        until_true("the outbox is empty", PATIENCE, published).await;
        let (_connection, channel) = vhost.channel().await;
        let purged = channel.queue_purge("vip_queue".into(), QueuePurgeOptions::default()).await;
        purged.expect("the queue is there");
    }
}

/// Number of messages in a service's outbox.
async fn depth(port: u16) -> Option<u64> {
    let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.ok()?.text().await.ok()?;
    metrics.lines().find_map(|line| line.strip_prefix("hops_outbox_depth "))?.parse().ok()
}

fn micros(time: Duration, requests: usize) -> f64 {
    time.as_secs_f64() * 1e6 / requests as f64
}
