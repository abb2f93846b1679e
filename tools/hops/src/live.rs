//! The page "See it" for this system: its server as a process of its own, and its address.
//!
//! - [`local`]: the system of processes
//! - [`swarm`]: the stack on Docker Swarm
//! - `messages`: messages and numbers in the form that both have
//!
//! The server follows the supervisor and ends with it; if it fails, nothing else notices. Its token is in a file that only
//! the owner can read, and on the owner's terminal, but in no command line and in no log.

mod messages;
pub mod local;
pub mod swarm;

use std::{
    fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use live::{Options, serve, system::System};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::local::Local;
use crate::{
    binaries, broker_url::encode, cli::TaskName, failure::Result, plan::Want, ports, project::Project,
    secrets, state, supervisor,
};

/// Port of the page, to which `HOPS_PORT_BASE` is added.
pub(crate) const PORT: u16 = 7878;
const LOCK: &str = "run/live.lock";
const ADDRESS: &str = "run/live.json";
const LOG: &str = "run/live.log";
/// Page that leads to the address, so that the token is in no command line of a browser.
const REDIRECT: &str = "run/live.html";
/// Time within which the server has its port, even on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time within which the server ends with the system.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Address of a server that runs.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address {
    /// Process id of the server.
    pub pid: u32,
    /// Port on which it listens.
    pub port: u16,
    token: String,
    /// True if the page changes nothing.
    pub read_only: bool,
}

impl Address {
    /// Returns the URL with the token, which must not be logged. A browser does not send what follows the `#`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/#{}", self.port, self.token)
    }
}

/// The token is not shown.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("pid", &self.pid).field("port", &self.port).finish_non_exhaustive()
    }
}

/// Returns the address of the server that runs, if one does.
#[must_use]
pub fn running(project: &Project) -> Option<Address> {
    let address = || serde_json::from_slice(&fs::read(project.path(ADDRESS)).ok()?).ok();
    state::is_locked(&project.path(LOCK)).then(address)?
}

/// Starts the server from the supervisor's copy of this binary, and returns its address.
///
/// # Errors
/// It does not start, mostly because another program uses its port; the error says what to type.
pub async fn start(project: &Project, read_only: bool) -> Result<Address> {
    let _ = fs::remove_file(project.path(ADDRESS));
    let cannot_write = || format!("cannot write {}", project.path(LOG).display());
    let log = fs::File::create(project.path(LOG)).with_context(cannot_write)?;
    let output = log.try_clone().with_context(cannot_write)?;
    let binary = binaries::in_use(project, "hops")?;
    let mut command = Command::new(&binary);
    command.arg("live-serve").args(read_only.then_some("--read-only"));
    command.stdin(Stdio::null()).stdout(output).stderr(log);
    let mut server = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
    wait_until_listening(project, &mut server).await
}

async fn wait_until_listening(project: &Project, server: &mut Child) -> Result<Address> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Some(address) = running(project).filter(|address| address.pid == server.id()) {
            return Ok(address);
        }
        let exit = server.try_wait().context("cannot wait for the page's server")?;
        if exit.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(project.path(LOG)).unwrap_or_default();
            match log.trim().trim_start_matches("error: ") {
                "" => bail!("the page's server did not start: `cargo hops live` tries again"),
                why => bail!("{why}"),
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits until the server has exited, as it does with the supervisor, and kills it if it does not.
pub async fn wait_until_exited(project: &Project) {
    let is_running = || state::is_locked(&project.path(LOCK));
    let deadline = Instant::now() + STOP_TIMEOUT;
    while is_running() && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
    signal_server(project, Signal::KILL);
}

/// Stops the server, and waits until it has exited.
pub async fn stop(project: &Project) {
    signal_server(project, Signal::TERM);
    wait_until_exited(project).await;
}

fn signal_server(project: &Project, signal: Signal) {
    if let Some(pid) = state::lock_holder(&project.path(LOCK)).and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Serves the page of this checkout's system until the system ends.
///
/// # Errors
/// Another program uses the port, or nothing is up.
pub async fn run(project: Project, read_only: bool) -> Result<()> {
    supervisor::detach_from_terminal()?;
    let _lock = state::lock(&project.path(LOCK), "the page's server runs already: `cargo hops live`")?;
    let system = Arc::new(Local::new(project.clone())?);
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
    let terminated = async {
        terminate.recv().await;
    };
    serve_on_port(&project, system, read_only, |_| {}, terminated).await
}

/// Serves the page of a system until the system ends, or until `stopped`; calls `on_start` with the address.
pub(crate) async fn serve_on_port(
    project: &Project,
    system: Arc<dyn System>,
    read_only: bool,
    on_start: impl FnOnce(&Address),
    stopped: impl Future<Output = ()>,
) -> Result<()> {
    let port = ports::choose(Want::Fixed(project.shifted(PORT)), "the picture")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let listener = listener.with_context(|| format!("cannot listen on port {port} for the picture"))?;
    let token = secrets::random_secret() + &secrets::random_secret();
    let address = Address { pid: std::process::id(), port, token: token.clone(), read_only };
    let text = serde_json::to_string(&address).context("cannot convert an address to JSON")?;
    secrets::write_private(&project.path(ADDRESS), text.as_bytes())?;
    on_start(&address);
    let options = Options { token, read_only };
    let stop = CancellationToken::new();
    let mut serving = std::pin::pin!(serve(listener, system, options, stop.clone()));
    tokio::select! {
        () = &mut serving => {}
        () = stopped => {
            stop.cancel();
            serving.await;
        }
    }
    for file in [ADDRESS, REDIRECT] {
        let _ = fs::remove_file(project.path(file));
    }
    Ok(())
}

/// Opens the page in the person's browser, through a file that only they can read.
///
/// # Errors
/// The file cannot be written, or the machine has no program that opens a browser.
pub(crate) fn open(project: &Project, address: &Address) -> Result<()> {
    let path = project.path(REDIRECT);
    let url = address.url();
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Hops</title>\
         <meta http-equiv=\"refresh\" content=\"0; url={url}\"><a href=\"{url}\">The page of Hops</a>\n"
    );
    secrets::write_private(&path, page.as_bytes())?;
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let opened = command.status().with_context(|| {
        format!(
            "cannot start {program}, which opens a browser: open the address above, or {}",
            path.display()
        )
    })?;
    if opened.success() { Ok(()) } else { bail!("{program} opens no browser: open {}", path.display()) }
}

/// Reads an account through a port of this machine.
async fn read(client: &reqwest::Client, port: u16, account: &str, request: &str) -> Result<u16, String> {
    let url = format!("http://127.0.0.1:{port}/accounts/{}", encode(account));
    let answer = client.get(url).header("x-request-id", request).send().await;
    let answer = answer.map_err(|error| format!("no answer from port {port}: {}", error.without_url()))?;
    Ok(answer.status().as_u16())
}

/// Returns the task of a name from the page.
fn task_name(text: &str) -> Result<TaskName> {
    text.parse().map_err(anyhow::Error::msg)
}
