//! One service as its own process: flags in, signals in, log lines and an exit code out. Killed when dropped.

mod launch;

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

pub use self::launch::Launch;
use crate::{
    http::Reply,
    log::{Line, Log, Stream},
    wait::{PATIENCE, until, until_true},
};

/// Where a service listens, kept up to date over restarts, so that a load client finds it again.
#[derive(Debug, Clone, Default)]
pub struct Address(Arc<AtomicU16>);

impl Address {
    /// Of who is not a process of this test.
    pub fn at(port: u16) -> Self {
        Self(Arc::new(AtomicU16::new(port)))
    }

    /// The port that it printed last; 0 before the first.
    pub fn port(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    /// The URL of a path that starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }
}

/// A process that was started, perhaps several times, with one log.
#[derive(Debug)]
pub struct Service {
    launch: Launch,
    child: Option<Child>,
    readers: Vec<JoinHandle<()>>,
    log: Arc<Log>,
    address: Address,
    client: reqwest::Client,
}

impl Service {
    /// Returns its output since its first start.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where it listens now.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// The instance's name.
    pub fn name(&self) -> &str {
        &self.launch.instance
    }

    /// Its process id in its present life.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the process was started").id()
    }

    /// A request to it, to be sent with [`Reply::of`].
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method's name");
        self.client.request(method, self.address.url(path))
    }

    /// `GET path`; panics when nobody answers.
    pub async fn get(&self, path: &str) -> Reply {
        let reply = Reply::of(self.request("GET", path)).await;
        reply.unwrap_or_else(|e| panic!("GET {path}: {e:?}"))
    }

    /// A number in `/metrics`, by its whole name.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no metric {name} in\n{text}"));
        value.parse().unwrap_or_else(|e| panic!("{name} is {value}: {e}"))
    }

    /// Its resident memory, in KiB.
    pub fn memory(&self) -> u64 {
        let id = self.child.as_ref().expect("the process was started").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.expect("Linux shows VmRSS in KiB")
    }

    /// Waits until `/readyz` answers 200.
    pub async fn until_ready(&self) {
        until_true("/readyz answers 200", PATIENCE, async || {
            Reply::of(self.request("GET", "/readyz")).await.is_ok_and(|reply| reply.status == 200)
        })
        .await;
    }

    /// Waits until both of its connections to the broker are there, also where it is ready without them.
    pub async fn until_connected(&self) {
        until_true("it is connected to the broker", PATIENCE, async || {
            self.get("/readyz").await.json()["checks"]["broker"]["status"] == "UP"
        })
        .await;
    }

    /// Waits until it follows the bus: it has read its settings once more since its queue was declared.
    pub async fn until_following(&self) {
        until_true("it follows the bus", PATIENCE, async || {
            self.metric("hops_settings_reloads_total").await > 0
        })
        .await;
    }

    /// Asks it to stop, as an orchestrator does.
    pub fn sigterm(&self) {
        self.signal(Signal::TERM);
    }

    /// Lets none of its files be written behind so many bytes, as on a full disk; `None` lifts that again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Fsize, limit).expect("it runs as the same user");
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn sigint(&self) {
        self.signal(Signal::INT);
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.exit(PATIENCE).await;
    }

    /// Waits until it has died where its failpoint says, and starts it again as it is shipped.
    pub async fn die_and_restart(&mut self) {
        let status = self.exit(PATIENCE).await;
        assert_eq!(status.signal(), Some(9), "it ended otherwise: {status}");
        self.restart().await;
    }

    /// Starts it again with the same flags, environment and data, without its failpoint, and waits until it takes requests.
    pub async fn restart(&mut self) {
        let before = self.listening().len();
        self.launch.failpoint = None;
        self.spawn();
        self.until_listening(before).await;
    }

    /// Waits until it has ended by itself or by a signal, with all that it printed in the log.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let status = until("the process ends", within, async || self.ended()).await;
        self.child = None;
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of lines does not panic");
        }
        status
    }

    /// Its exit code when it ends by itself in time.
    pub async fn exit_code(&mut self) -> Option<i32> {
        self.exit(PATIENCE).await.code()
    }

    fn spawn(&mut self) {
        let mut child = self
            .launch
            .command()
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", self.launch.binary));
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (for_out, for_err) = (self.log.clone(), self.log.clone());
        self.readers.push(thread::spawn(move || for_out.fill(Stream::Out, out)));
        self.readers.push(thread::spawn(move || for_err.fill(Stream::Err, err)));
        self.child = Some(child);
    }

    /// The lines that say where it listens, one per life.
    fn listening(&self) -> Vec<Line> {
        self.log
            .filter(|line| line.field("message").starts_with("listening on") && line.fields["port"].is_u64())
    }

    /// Waits until it takes requests; `before` is how often it did so before.
    pub async fn until_listening(&mut self, before: usize) {
        let line = until("the line that says where it listens", PATIENCE, async || {
            let line = self.listening().into_iter().nth(before);
            if line.is_none()
                && let Some(status) = self.ended()
            {
                panic!("{} ended at its start, {status}", self.launch.binary);
            }
            line
        })
        .await;
        let port = line.fields["port"].as_u64().and_then(|port| port.try_into().ok());
        self.address.0.store(port.expect("a port has 16 bits"), Ordering::Relaxed);
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the process was started");
        child.try_wait().expect("a child can be waited for")
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the process was started");
        kill_process(Pid::from_child(child), signal)
            .expect("a child that was not waited for can be signalled");
    }
}

impl Drop for Service {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its services printed")]
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("--- {:?}\n{}", self.launch, self.log.tail(60));
        }
    }
}
