//! What this crate asks of the system that it shows, as processes of this machine or as a stack on a swarm.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{
    event::{Event, Queue, Task},
    line,
};

/// Names of the actions.
pub const ACTIONS: [&str; 11] = [
    "read",
    "rate",
    "scale",
    "kill",
    "pause",
    "unpause",
    "restart-broker",
    "cut",
    "poison",
    "redrive",
    "offer-text",
];

/// Something that a person wants to be done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of the requests")]
pub enum Action {
    /// Reads an account.
    Read {
        account: String,
        #[serde(default = "once")]
        count: u32,
    },
    /// Reads an account so many times a second, until the number is 0.
    Rate { account: String, per_second: u32 },
    /// Changes the number of a service's tasks.
    Scale { service: String, replicas: u32 },
    /// Kills a task with SIGKILL.
    Kill { task: String },
    /// Freezes a task.
    Pause { task: String },
    /// Thaws a task.
    Unpause { task: String },
    /// Kills the broker, which starts again.
    RestartBroker {},
    /// Closes the connections of the broker's clients.
    Cut {},
    /// Publishes a message that no consumer can read.
    Poison {},
    /// Sends the dead letters to their queue again.
    Redrive {},
    /// Changes the setting `offer_text`.
    OfferText { text: String },
}

fn once() -> u32 {
    1
}

/// Number of inputs that wait until the server takes them; then the system's own task waits.
const INPUTS: usize = 10_000;

/// The system that the page shows.
#[async_trait]
pub trait System: Send + Sync + 'static {
    /// Describes the system.
    fn description(&self) -> Description;

    /// Reports what happens until the system ends; it may look less often while there are no viewers.
    async fn follow(&self, inputs: &Inputs, viewers: watch::Receiver<usize>);

    /// Returns the numbers of all queues, as the broker counts.
    ///
    /// # Errors
    /// The broker does not answer; the text says which one.
    async fn queues(&self) -> Result<Vec<Queue>, String>;

    /// Returns the first messages of a queue, which stay there, and how many more there are.
    ///
    /// # Errors
    /// There is no such queue, or the broker does not answer.
    async fn messages(&self, queue: &str) -> Result<(Vec<Value>, u64), String>;

    /// Returns the log lines of a request.
    async fn lines(&self, request: &str) -> Vec<LogLine>;

    /// Reads an account, and returns the status of the answer.
    ///
    /// # Errors
    /// There is no answer.
    async fn read(&self, account: &str, request: &str) -> Result<u16, String>;

    /// Does what a button asks for, apart from reads. Returns a sentence about what was done.
    ///
    /// # Errors
    /// The reason, as a sentence.
    async fn act(&self, action: &Action) -> Result<String, String>;
}

/// Description of the system for the page.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Either `processes` or `swarm`.
    pub kind: &'static str,
    /// True if the page changes nothing.
    pub read_only: bool,
    /// Address of the broker.
    pub broker: String,
    /// Product name of the broker, and its version if it is known.
    pub broker_name: String,
    /// The actions by name, each with the reason if it is disabled.
    pub actions: BTreeMap<String, Availability>,
    /// Commands that do the same as the actions, with `{placeholders}`.
    pub commands: BTreeMap<String, String>,
}

impl Description {
    /// Makes all actions available but those that are `disabled`, each for a reason.
    #[must_use]
    pub fn with_actions(mut self, disabled: &[(&str, String)]) -> Self {
        let why =
            |name: &str| disabled.iter().find(|(action, _)| *action == name).map(|(_, why)| why.clone());
        let action = |name: &str| Availability { enabled: why(name).is_none(), why: why(name) };
        self.actions = ACTIONS.iter().map(|name| ((*name).to_owned(), action(name))).collect();
        self
    }

    /// Disables all actions of a page that changes nothing.
    #[must_use]
    pub(crate) fn restricted(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        if read_only {
            let why = Some("this page was started with --read-only".to_owned());
            self.actions
                .values_mut()
                .for_each(|action| *action = Availability { enabled: false, why: why.clone() });
        }
        self
    }
}

/// Availability of an action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Availability {
    /// True if the action can be used.
    pub enabled: bool,
    /// Reason why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Log line of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Time of the line.
    pub at: Option<Timestamp>,
    /// Task that has logged it.
    pub task: String,
    /// Line for people.
    pub text: String,
}

/// Channel for what happens in the system.
#[derive(Debug, Clone)]
pub struct Inputs(mpsc::Sender<(Timestamp, Event)>);

impl Inputs {
    /// Creates the channel.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<(Timestamp, Event)>) {
        let (sender, receiver) = mpsc::channel(INPUTS);
        (Self(sender), receiver)
    }

    /// Reports a line of a task's log.
    pub async fn line(&self, task: &str, text: &str) {
        if let Some((at, event)) = line::event(task, text) {
            self.event(at, event).await;
        }
    }

    /// Reports that a task has entered a state.
    pub async fn task(&self, at: Timestamp, task: Task) {
        self.event(at, Event::Task(task)).await;
    }

    /// Reports an event.
    pub async fn event(&self, at: Timestamp, event: Event) {
        // An error means that the server is stopping.
        let _ = self.0.send((at, event)).await;
    }
}
