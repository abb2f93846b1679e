//! Protocol between a command and the supervisor: JSON lines over a Unix socket.
//!
//! A command sends one [`Request`] and receives [`Reply`]s until one of them is final.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{
    failure::Result,
    plan::{LocalPort, ServicePlan},
};

/// Path of the socket, relative to the root of the checkout, which is the working directory of every command: a
/// socket's path has at most about 100 bytes, and the path of a checkout may be longer.
pub const SOCKET: &str = ".hops/run/control.sock";

/// Time limit for the supervisor's status, which it knows without asking anybody.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest line, in bytes.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// Event of `hops`, the system, with which it begins to stop.
pub(crate) const STOPPING: &str = "stopping all tasks";

/// Returns the event of a service, with which its scaling begins: nothing has refused it.
pub(crate) fn scaled_to(replicas: u32) -> String {
    format!("scaled to {replicas}")
}

/// Error for a reply that no supervisor of this version sends.
pub(crate) const OTHER_VERSION: &str =
    "the supervisor is of another version: `cargo hops down`, then `cargo hops up`";

/// Request of a command.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Asks for the status.
    Status,
    /// Asks for all events, from the start of the system until it is down.
    Follow,
    /// Changes the number of a service's tasks, and waits until they are ready.
    Scale {
        /// Name of the service.
        service: String,
        /// Number of tasks.
        replicas: u32,
    },
    /// Replaces all tasks of a service, in the order of its `update_config`.
    Update {
        /// New plan of the service.
        service: Box<ServicePlan>,
        /// Folder with its binary.
        binaries: String,
    },
    /// Kills one task with SIGKILL.
    Kill {
        /// Name of the service.
        service: String,
        /// Number of the task within the service.
        slot: u32,
    },
    /// Freezes one task with SIGSTOP.
    Pause {
        /// Name of the service.
        service: String,
        /// Number of the task within the service.
        slot: u32,
    },
    /// Resumes a paused task with SIGCONT.
    Unpause {
        /// Name of the service.
        service: String,
        /// Number of the task within the service.
        slot: u32,
    },
    /// Stops all tasks and the supervisor.
    Down,
}

/// Reply of the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Something happened; more replies follow.
    Event(Event),
    /// All tasks are ready, apart from these, each with its reason. More replies follow.
    Started(Vec<String>),
    /// This task will not start: it has exited twice for the same reason. More replies follow.
    CannotStart(String),
    /// Answer to [`Request::Status`]; final.
    Status(Box<Snapshot>),
    /// The request is done; final.
    Done(String),
    /// The request failed, with the reason; final.
    Failed(String),
}

/// Event in the system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Time of the event.
    pub at: jiff::Timestamp,
    /// Task or service that it concerns, or `hops` for the system.
    pub who: String,
    /// Description for people.
    pub what: String,
}

/// Status of the system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// Process id of the supervisor.
    pub pid: u32,
    /// Time when the supervisor started.
    pub since: jiff::Timestamp,
    /// Address of the broker, without password.
    pub broker: Option<String>,
    /// Services in the order of the plan.
    pub services: Vec<ServiceStatus>,
}

/// Status of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// Image in the compose file.
    pub image: String,
    /// Number of tasks that should run.
    pub replicas: u32,
    /// Number of tasks that are ready.
    pub ready: u32,
    /// Ports on this machine.
    pub ports: Vec<LocalPort>,
    /// Tasks that should run.
    pub tasks: Vec<TaskStatus>,
    /// Tasks that have exited, the latest first.
    pub past: Vec<TaskStatus>,
}

/// Status of a task that runs or has exited.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Random id, which distinguishes the tasks of a slot.
    pub id: String,
    /// Name of the task, as in `vipservice.2`.
    pub name: String,
    /// Number of the task within its service.
    pub slot: u32,
    /// State of the task.
    pub phase: Phase,
    /// Time when it entered this state.
    pub since: jiff::Timestamp,
    /// Process id.
    pub pid: Option<u32>,
    /// Port on which it listens.
    pub port: Option<u16>,
    /// File with its log.
    pub log: Option<String>,
    /// Last error.
    pub error: Option<String>,
}

/// State of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Started, and not ready yet.
    Starting,
    /// Ready for requests.
    Ready,
    /// Running but no longer ready, mostly because the broker is not available.
    Running,
    /// Frozen by `pause`; not probed.
    Paused,
    /// Asked to stop.
    Stopping,
    /// Exited, and waiting for its restart.
    Waiting,
    /// Exited with an error, and not restarted.
    Failed,
    /// Exited as requested.
    Complete,
}

/// One end of the socket, which sends and receives JSON lines.
#[derive(Debug)]
pub struct JsonSocket {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl JsonSocket {
    /// Wraps a connected socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        let (read, write) = socket.into_split();
        Self { read: BufReader::new(read), write }
    }

    /// Receives the next value; `None` if the other side has closed the socket, or sends what is no value.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut line = vec![];
        (&mut self.read).take(MAX_LINE).read_until(b'\n', &mut line).await.ok()?;
        serde_json::from_slice(&line).ok()
    }

    /// Sends a value.
    ///
    /// # Errors
    /// The other side has closed the socket.
    pub async fn send(&mut self, value: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(value).context("cannot convert a message to JSON")?;
        text.push('\n');
        self.write
            .write_all(text.as_bytes())
            .await
            .context("cannot send: the other side has closed the socket")
    }
}

/// Sends a request to the supervisor of this checkout, whose root is the working directory, and returns its final reply.
/// Calls `on_event` for each other reply; if it returns false, that reply is returned.
///
/// # Errors
/// There is no supervisor, or the request failed.
pub async fn ask(request: &Request, mut on_event: impl FnMut(&Reply) -> bool) -> Result<Reply> {
    const GONE: &str = "the supervisor does not run: `cargo hops up` starts the system";
    let socket = UnixStream::connect(SOCKET).await.map_err(|_| anyhow!(GONE))?;
    let mut socket = JsonSocket::new(socket);
    socket.send(request).await?;
    loop {
        match socket.receive().await {
            Some(Reply::Failed(why)) => bail!(why),
            Some(reply @ (Reply::Event(_) | Reply::Started(_) | Reply::CannotStart(_))) => {
                if !on_event(&reply) {
                    return Ok(reply);
                }
            }
            Some(reply) => return Ok(reply),
            None => bail!(GONE),
        }
    }
}

/// Returns the status of the system.
///
/// # Errors
/// Nothing is up, or the supervisor does not answer.
pub async fn status() -> Result<Snapshot> {
    let answer = timeout(STATUS_TIMEOUT, ask(&Request::Status, |_| true)).await;
    match answer.map_err(|_| anyhow!("the supervisor does not answer: `cargo hops down` kills it"))?? {
        Reply::Status(snapshot) => Ok(*snapshot),
        _ => bail!(OTHER_VERSION),
    }
}
