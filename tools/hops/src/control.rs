//! Between a command and the supervisor: JSON lines over a Unix socket.
//!
//! A command sends one [`Request`] and reads [`Reply`]s until one of them is the last.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{
    failure::{Doing as _, Failure, Result},
    plan::{LocalPort, ServicePlan},
};

/// The socket, relative to the root of the checkout, which is the working directory of every command: a path of
/// a socket has at most about 100 bytes, and that of a checkout may have more.
pub const SOCKET: &str = ".hops/run/control.sock";

/// How long the supervisor may take to say how things are, which it knows.
const ANSWERS: Duration = Duration::from_secs(10);

/// What a command wants.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// How things are, once.
    Status,
    /// What happens, from the start on, until the system is down.
    Follow,
    /// That many replicas, ready.
    Scale {
        /// The service.
        service: String,
        /// How many.
        replicas: u32,
    },
    /// All tasks of a service anew, in the order that it wants.
    Update {
        /// The service, as it is to be.
        service: Box<ServicePlan>,
        /// The folder with its binary.
        binaries: String,
    },
    /// `kill -9` one task.
    Kill {
        /// The service.
        service: String,
        /// Which of its tasks.
        slot: u32,
    },
    /// The end of all.
    Down,
}

/// What the supervisor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Something happened; more follows.
    Event(Event),
    /// The start is over: all is ready, but for these, each with its reason. More follows.
    Started(Vec<String>),
    /// The answer to [`Request::Status`]. The last.
    Status(Box<Snapshot>),
    /// Done. The last.
    Done(String),
    /// Not done, and why. The last.
    Failed(String),
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: jiff::Timestamp,
    /// To whom: a task, a service, or `hops` itself.
    pub who: String,
    /// What.
    pub what: String,
}

/// How things are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// The supervisor's process.
    pub pid: u32,
    /// Since when it runs.
    pub since: jiff::Timestamp,
    /// The broker's address.
    pub broker: Option<String>,
    /// All services.
    pub services: Vec<ServiceStatus>,
}

/// A service as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// How many tasks are wanted.
    pub replicas: u32,
    /// How many are ready.
    pub ready: u32,
    /// Where it is found.
    pub ports: Vec<LocalPort>,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
    /// Those that ended, the latest first.
    pub past: Vec<TaskStatus>,
}

/// A task as it is or was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// As Docker's, something to tell two tasks of a slot apart by.
    pub id: String,
    /// As in `vipservice.2`.
    pub name: String,
    /// Which of the service's.
    pub slot: u32,
    /// How it is.
    pub phase: Phase,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Its process.
    pub pid: Option<u32>,
    /// Where it listens.
    pub port: Option<u16>,
    /// What it prints goes there.
    pub log: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
}

/// How a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It was started and has never been ready.
    Starting,
    /// It takes requests and has all that it needs.
    Ready,
    /// It takes requests and lacks something, mostly the broker.
    Running,
    /// It was told to stop.
    Stopping,
    /// It ended, and is started again in a moment.
    Waiting,
    /// It ended, and that was it.
    Failed,
    /// It ended as it should.
    Complete,
}

/// One side of a conversation.
#[derive(Debug)]
pub struct Line {
    read: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Line {
    /// Talks over a socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        let (read, write) = socket.into_split();
        Self { read: BufReader::new(read).lines(), write }
    }

    /// The next thing that the other side says; `None` when it is gone.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_str(&self.read.next_line().await.ok()??).ok()
    }

    /// Says something.
    ///
    /// # Errors
    /// The other side is gone.
    pub async fn say(&mut self, what: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(what).doing(|| "put a message into JSON".into())?;
        text.push('\n');
        self.write.write_all(text.as_bytes()).await.doing(|| "reach the other side".into())
    }
}

/// Asks the supervisor of this checkout, whose root is the working directory. Each event goes to `hear`, which
/// says whether to go on.
///
/// # Errors
/// There is none, or it says why not.
pub async fn ask(request: &Request, mut hear: impl FnMut(&Reply) -> bool) -> Result<Reply> {
    const GONE: &str = "the supervisor has ended: `cargo hops up` starts the system";
    let socket = UnixStream::connect(SOCKET).await.map_err(|_| Failure::from(GONE))?;
    let mut line = Line::new(socket);
    line.say(request).await?;
    loop {
        match line.next().await {
            Some(Reply::Failed(why)) => return Err(Failure::Why(why)),
            Some(reply @ (Reply::Event(_) | Reply::Started(_))) => {
                if !hear(&reply) {
                    return Ok(reply);
                }
            }
            Some(reply) => return Ok(reply),
            None => return Err(GONE.into()),
        }
    }
}

/// How things are.
///
/// # Errors
/// Nothing is up, or it hangs.
pub async fn status() -> Result<Snapshot> {
    let answer = timeout(ANSWERS, ask(&Request::Status, |_| true)).await;
    match answer.map_err(|_| Failure::from("the supervisor does not answer: `cargo hops down` ends it"))?? {
        Reply::Status(snapshot) => Ok(*snapshot),
        _ => Err("the supervisor is of another version: `cargo hops down`, then `cargo hops up`".into()),
    }
}
