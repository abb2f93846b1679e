//! Cost of the page on which the messages move: CPU of its server with a viewer, and what the reads notice of it.
//!
//!     cargo bench -p e2e --bench live
//!
//! The system of `cargo hops up` in the release profile, with its own broker, reads the VIP's account 500 times a second. In
//! each round it does so without the page and with the page and a viewer who reads everything.
//! - CPU of the page's server, in cores. Target: at most 0.3.
//! - The 99th percentile of the reads' durations, from the time at which a read was due. Target: with the page within the
//!   spread of the rounds without it.
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

#[path = "kit/figures.rs"]
mod figures;
#[path = "kit/load.rs"]
mod load;
#[path = "kit/process.rs"]
mod process;

use std::{env, fs, process::Command, time::Duration};

use e2e::{binaries::binary, broker::free_base, repository};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, interval_at},
};

use self::{figures::Figures, process::cpu_of};

const ROUNDS: usize = 5;
const READS_PER_SECOND: u32 = 500;
const READ_TIME: Duration = Duration::from_secs(10);
/// Connections of the load, which take turns.
const CONNECTIONS: u32 = 20;

#[tokio::main]
async fn main() {
    if !env::args().any(|argument| argument == "--bench") {
        return println!("a benchmark: cargo bench -p e2e --bench live");
    }
    let system = System::up();
    let (mut without, mut with, mut cpu, mut seen): (Figures, Figures, Figures, Figures) = Default::default();
    // The first round warms up.
    for round in 0..=ROUNDS {
        let alone = p99(system.port).await;
        let page = system.live();
        let (mut viewer, (watching, watches)) = (JoinSet::new(), oneshot::channel());
        viewer.spawn(watch(page.port, page.token, watching));
        watches.await.expect("the viewer gets something");
        let (before, started) = (cpu_of(page.pid), Instant::now());
        let watched = p99(system.port).await;
        let used = (cpu_of(page.pid) - before).as_secs_f64() / started.elapsed().as_secs_f64();
        let pid = Pid::from_raw(page.pid.cast_signed()).expect("a process id");
        kill_process(pid, Signal::TERM).expect("the server runs");
        let bytes = viewer.join_next().await.and_then(Result::ok).unwrap_or_default();
        if round > 0 {
            without.push(alone);
            with.push(watched);
            cpu.push(used);
            seen.push(bytes as f64 / 1e6);
        }
    }
    println!("{READS_PER_SECOND} VIP reads per second, median of {ROUNDS} rounds (min .. max)");
    println!("  p99 of a read without the page, ms    {without:.2}");
    println!("  p99 with the page and a viewer, ms    {with:.2}   target: within the spread above");
    println!("  CPU of the page's server, cores       {cpu:.3}   target: at most 0.3");
    println!("  what the viewer got, MB               {seen:.1}");
}

/// The system of `cargo hops up` in a folder of its own, stopped when it is dropped.
struct System {
    checkout: TempDir,
    base: u16,
    /// Port of the accountservice.
    port: u16,
}

/// The page's server.
struct Page {
    pid: u32,
    port: u16,
    token: String,
}

impl System {
    fn up() -> Self {
        let checkout = tempfile::tempdir().expect("the folder for temporary files can be written");
        fs::create_dir(checkout.path().join("config-repo")).expect("the folder can be written");
        for file in repository::files() {
            if file == "docker-compose.yml" || file.starts_with("config-repo/") {
                let copied = fs::copy(repository::root().join(&file), checkout.path().join(&file));
                copied.expect("the folder can be written");
            }
        }
        let base = free_base(&[6767, 6868, 5672, 15672, 7878]);
        let system = Self { checkout, base, port: base + 6767 };
        system.hops(&["up", "--detach", "--no-live"]);
        system
    }

    fn hops(&self, words: &[&str]) {
        let hops = binary("hops");
        let mut command = Command::new(&hops);
        command.args(words).current_dir(self.checkout.path()).env("HOPS_PORT_BASE", self.base.to_string());
        command.env("HOPS_BIN_DIR", hops.parent().expect("a file is in a folder"));
        let output = command.output().expect("the tool can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn live(&self) -> Page {
        self.hops(&["live"]);
        let file = self.checkout.path().join(".hops/run/live.json");
        let text = fs::read_to_string(file).expect("the server runs");
        let address: Value = serde_json::from_str(&text).expect("its address is JSON");
        let number = |name: &str| address[name].as_u64().expect("a number");
        Page {
            pid: u32::try_from(number("pid")).expect("a process id"),
            port: u16::try_from(number("port")).expect("a port"),
            token: address["token"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.hops(&["down", "--all"]);
    }
}

/// Reads at the given rate, and returns the 99th percentile of the durations in milliseconds.
async fn p99(port: u16) -> f64 {
    let (started, mut connections) = (Instant::now(), JoinSet::new());
    for number in 0..CONNECTIONS {
        let first = started + Duration::from_secs(1) / READS_PER_SECOND * number;
        connections.spawn(connection(port, first, started + READ_TIME));
    }
    let mut durations = connections.join_all().await.concat();
    durations.sort();
    assert!(
        durations.len() as f64 > 0.95 * f64::from(READS_PER_SECOND) * READ_TIME.as_secs_f64(),
        "{}",
        durations.len()
    );
    durations[durations.len() * 99 / 100].as_secs_f64() * 1e3
}

async fn connection(port: u16, first: Instant, end: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket has no delay");
    let request = format!("GET /accounts/10000 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    let (mut buffer, mut durations) = (vec![0; 4096], vec![]);
    let mut due = interval_at(first, Duration::from_secs(1) / READS_PER_SECOND * CONNECTIONS);
    loop {
        let due = due.tick().await;
        if due > end {
            return durations;
        }
        let answer = load::ask(&mut stream, request.as_bytes(), &mut buffer).await.expect("an answer");
        assert_eq!(load::status(answer), Some(200));
        durations.push(due.elapsed());
    }
}

/// Reads the stream of events to its end, and returns the number of bytes.
async fn watch(port: u16, token: String, watching: oneshot::Sender<()>) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let request = format!(
        "GET /api/events HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let (mut watching, mut buffer, mut bytes) = (Some(watching), vec![0; 64 * 1024], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        bytes += read;
        if let Some(watching) = watching.take() {
            let _ = watching.send(());
        }
    }
    bytes
}
