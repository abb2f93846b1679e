//! Checkout of one test: the compose file and config-repo in a temporary folder, with ports and a virtual host of its own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use e2e::{
    binaries::binary,
    broker::{SharedBroker, Vhost, free_base},
    http::{Reply, client},
    repository,
    wait::{PATIENCE, until, until_true},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Checkout whose processes are stopped when it is dropped.
pub(crate) struct Checkout {
    folder: TempDir,
    pub(crate) vhost: Vhost,
    base: u16,
}

/// Output of a command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) out: String,
    pub(crate) error: String,
    pub(crate) code: Option<i32>,
}

impl CommandOutput {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { out: text(&output.stdout), error: text(&output.stderr), code: output.status.code() }
    }

    /// Returns the standard output of a command that succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// Returns the error, one line, of a command that failed.
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:#?}");
        assert_eq!(self.error.trim().lines().count(), 1, "{self:#?}");
        self.error
    }

    /// Returns the JSON values that the command printed.
    pub(crate) fn json(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Checkout {
    /// Creates a checkout with the compose file as it is.
    pub(crate) async fn with_linger() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = repository::files();
        let is_used = |file: &&String| *file == "docker-compose.yml" || file.starts_with("config-repo/");
        std::fs::create_dir(folder.path().join("config-repo")).unwrap();
        for file in files.iter().filter(is_used) {
            std::fs::copy(repository::root().join(file), folder.path().join(file)).unwrap();
        }
        Self {
            folder,
            vhost: SharedBroker::from_environment().vhost().await,
            base: free_base(&[6767, 6868, 5672, 15672, 7878]),
        }
    }

    /// Creates a checkout whose services do not linger after SIGTERM: with their 3 s, most of a test's time would be
    /// the wait for its end. Whoever tests that no request is lost uses [`Checkout::with_linger`].
    pub(crate) async fn new() -> Self {
        let checkout = Self::with_linger().await;
        checkout.edit("APP_SHUTDOWN_LINGER: 3s", "APP_SHUTDOWN_LINGER: 0s");
        checkout
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Changes the compose file.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let file = self.path().join("docker-compose.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }

    pub(crate) fn port(&self, fixed: u16) -> u16 {
        self.base + fixed
    }

    pub(crate) fn url(&self, fixed: u16, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port(fixed))
    }

    pub(crate) fn broker(&self) -> String {
        self.vhost.amqp_url()
    }

    /// Returns the command `cargo hops` with these arguments, in this checkout.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hops"));
        command
            .args(words)
            .current_dir(self.path())
            .env("HOPS_BIN_DIR", binaries())
            .env("HOPS_PORT_BASE", self.base.to_string())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn hops(&self, words: &[&str]) -> CommandOutput {
        CommandOutput::of(&self.command(words).output().unwrap())
    }

    /// Starts the system without the page, which is a process of its own.
    pub(crate) fn up(&self) -> CommandOutput {
        self.hops(&["up", "-d", "--no-live", "--broker", &self.broker()])
    }

    /// Runs `up -d` in two checkouts at the same time.
    pub(crate) fn up_both(one: &Self, other: &Self) {
        let mut first = one.command(&["up", "-d", "--no-live", "--broker", &one.broker()]);
        let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        other.up().ok();
        CommandOutput::of(&first.wait_with_output().unwrap()).ok();
    }

    /// Starts `up` without `--detach`.
    pub(crate) fn up_in_foreground(&self) -> Child {
        let mut command = self.command(&["up", "--no-live", "--broker", &self.broker()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) async fn get(&self, fixed: u16, path: &str) -> Reply {
        let reply = Reply::of(client().get(self.url(fixed, path))).await;
        reply.unwrap_or_else(|e| panic!("{path}: {e:?}"))
    }

    pub(crate) async fn until_ready(&self) {
        until("both services are ready", PATIENCE, async || {
            for port in [6767, 6868] {
                let reply = Reply::of(client().get(self.url(port, "/readyz"))).await.ok()?;
                (reply.status == 200).then_some(())?;
            }
            Some(())
        })
        .await;
    }

    /// Returns the number of offers per replica.
    pub(crate) async fn by_replica(&self) -> std::collections::BTreeMap<String, u64> {
        serde_json::from_value(self.get(6868, "/offers/by-replica").await.json()).unwrap()
    }

    /// Returns the tasks of a service from `service ps --json`.
    pub(crate) fn tasks(&self, service: &str) -> Vec<Value> {
        self.hops(&["service", "ps", service, "--json"]).json()
    }

    /// Returns the processes that were started from this checkout.
    pub(crate) fn processes(&self) -> Vec<String> {
        let output = Command::new("ps").args(["-e", "-o", "pid=,stat=,args="]).output().unwrap();
        let bin = self.path().join(".hops/bin").display().to_string();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = text.lines().filter(|line| line.contains(&bin)).map(|line| line.split_whitespace());
        // The state is not part of the result, because it changes all the time.
        let alive = ours.filter_map(|mut words| {
            let (id, state) = (words.next()?, words.next()?);
            (!state.starts_with('Z')).then(|| format!("{id} {}", words.collect::<Vec<_>>().join(" ")))
        });
        alive.collect()
    }

    /// Kills a process of this checkout, and waits until it is gone, which takes a moment on a busy machine.
    pub(crate) async fn kill(&self, pid: i32) {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let is_it = |process: &String| process.starts_with(&format!("{pid} "));
        until_true("it is gone", PATIENCE, async || !self.processes().iter().any(is_it)).await;
    }

    pub(crate) fn supervisor(&self) -> i32 {
        let path = self.path().join(".hops/run/supervisor.lock");
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }
}

impl Drop for Checkout {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its services printed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {:#?}", self.hops(&["status"]));
            let logs = self.hops(&["service", "logs"]).out;
            let lines: Vec<_> = logs.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let _ = self.hops(&["down", "--all"]);
    }
}

/// Returns the folder of the binaries under test.
pub(crate) fn binaries() -> PathBuf {
    binary("vipservice").parent().unwrap().to_owned()
}

/// Time within which the tasks that a command starts become ready or exit.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
