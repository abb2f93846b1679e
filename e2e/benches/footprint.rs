//! How small the services are, and how soon they answer.
//!
//!     cargo bench -p e2e --bench footprint
//!
//! With the broker up (`HOPS_BROKER`, `HOPS_BROKER_ADMIN`):
//! - the binaries' sizes,
//! - from starting a process to its first answer 200, in an empty data folder. Target: at most 100 ms,
//! - resident memory (`VmRSS`): idle, target at most 9 MB; after 100,000 plain reads, target at most 16 MB; and
//!   after 20,000 VIP reads whose offers the vipservice has made.
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "kit/figures.rs"]
mod figures;
#[path = "kit/load.rs"]
mod load;
#[path = "kit/process.rs"]
mod process;

use std::{
    env, fs,
    time::{Duration, Instant},
};

use e2e::{
    binaries::binary,
    broker::{SharedBroker, Vhost, free_port},
    wait::{PATIENCE, until_true},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

use self::{figures::Figures, process::Process};

const STARTS: usize = 10;
const ROUNDS: usize = 3;
const PLAIN_READS: usize = 100_000;
const VIP_READS: usize = 20_000;
const MB: f64 = 1024.0 * 1024.0;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return println!("a benchmark: cargo bench -p e2e --bench footprint");
    }
    println!("binaries, MB");
    for name in ["accountservice", "vipservice"] {
        let size = fs::metadata(binary(name)).expect("it was built").len();
        println!("  {name:<40}{:>9.2}", size as f64 / MB);
    }

    println!("from start to first answer 200, ms, median of {STARTS} (min .. max)");
    for (name, path, target) in [
        ("accountservice", "/livez", "target: at most 100"),
        ("accountservice", "/accounts/10001", "target: at most 100"),
        ("accountservice", "/readyz", ""),
        ("vipservice", "/livez", "target: at most 100"),
        ("vipservice", "/readyz", ""),
        ("vipservice", "/offers", ""),
    ] {
        let mut figures = Figures::default();
        for _ in 0..STARTS {
            let system = System::new().await;
            figures.push(system.start(name).first_answer(path).await.as_secs_f64() * 1e3);
        }
        println!("  {:<40}{figures:.1}   {target}", format!("{name} {path}"));
    }

    println!("resident memory, MB, median of {ROUNDS} (min .. max)");
    let mut memory: [Figures; 5] = Default::default();
    for _ in 0..ROUNDS {
        for (figures, figure) in memory.iter_mut().zip(in_one_round().await) {
            figures.push(figure);
        }
    }
    for (name, figures, target) in [
        ("accountservice, idle", &memory[0], "target: at most 9"),
        ("vipservice, idle", &memory[1], "target: at most 9"),
        ("accountservice, 100,000 plain reads", &memory[2], "target: at most 16"),
        ("accountservice, 20,000 VIP reads more", &memory[3], ""),
        ("vipservice, 20,000 offers", &memory[4], ""),
    ] {
        println!("  {name:<40}{figures:.2}   {target}");
    }
}

async fn in_one_round() -> [f64; 5] {
    let system = System::new().await;
    let (accounts, offers) = (system.start("accountservice"), system.start("vipservice"));
    accounts.first_answer("/readyz").await;
    offers.first_answer("/readyz").await;
    let idle = (accounts.settled_memory().await, offers.settled_memory().await);

    load::get(accounts.port, "/accounts/10001", PLAIN_READS).await;
    let after_plain = accounts.settled_memory().await;
    load::get(accounts.port, "/accounts/10000", VIP_READS).await;
    let all_made = async || offers.count("/metrics", "hops_messages_acked_total ").await >= Some(VIP_READS);
    until_true("all offers are made", PATIENCE, all_made).await;
    [idle.0, idle.1, after_plain, accounts.settled_memory().await, offers.settled_memory().await]
}

/// A virtual host and a folder.
struct System {
    vhost: Vhost,
    data: TempDir,
}

struct Server {
    process: Process,
    port: u16,
    since: Instant,
}

impl System {
    async fn new() -> Self {
        let vhost = SharedBroker::from_environment().vhost().await;
        let data = tempfile::tempdir().expect("the folder for temporary files can be written");
        Self { vhost, data }
    }

    fn start(&self, name: &str) -> Server {
        let (port, data) = (free_port(), self.data.path().display().to_string());
        let flags = [
            ("server-port", port.to_string()),
            ("data-dir", data.clone()),
            ("config-repo", data),
            ("amqp-server-url", self.vhost.amqp_url()),
        ];
        let flags: Vec<_> =
            flags.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        let (program, log) = (binary(name), self.data.path().join(format!("{name}.log")));
        let since = Instant::now();
        Server { process: Process::start(&program, flags, None, &log), port, since }
    }
}

impl Server {
    /// Asks every half millisecond.
    async fn first_answer(&self, path: &str) -> Duration {
        while self.ask(path).await.is_none() {
            assert!(self.since.elapsed() < PATIENCE, "no answer to {path}");
            sleep(Duration::from_micros(500)).await;
        }
        self.since.elapsed()
    }

    /// The number behind a name.
    async fn count(&self, path: &str, name: &str) -> Option<usize> {
        let answer = self.ask(path).await?;
        let value = answer.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().parse().ok()
    }

    /// An answer 200.
    async fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        let mut buffer = vec![0; 64 * 1024];
        let answer = load::ask(&mut stream, request.as_bytes(), &mut buffer).await?;
        (load::status(answer) == Some(200)).then(|| String::from_utf8_lossy(answer).into_owned())
    }

    /// What it holds when nothing has changed for a second.
    async fn settled_memory(&self) -> f64 {
        let mut last = (self.process.memory(), Instant::now());
        while last.1.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(100)).await;
            let now = self.process.memory();
            if (now - last.0).abs() > f64::EPSILON {
                last = (now, Instant::now());
            }
        }
        last.0
    }
}
