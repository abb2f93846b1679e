//! `docker-compose.yml`: the services, as the file describes them.
//!
//! A key is used, or ignored because it concerns containers and means nothing for processes, or refused by name: nobody
//! should believe that a key works that does not. Each form of a value means what it means for `docker stack`, or is
//! refused, and so is what `docker stack` refuses: `tests/compose` has a table of files with Docker's answers.

mod read;
mod ports;
mod mounts;
mod check;
mod forms;
mod values;
mod node;
pub(crate) mod raw;
mod yaml;
mod plain;
pub(crate) mod interpolate;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::failure::Result;

/// Name of the file; the folder that contains it is the root of a checkout.
pub const FILE: &str = "docker-compose.yml";

/// Content of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Compose {
    /// Services in the order of the file.
    pub services: Vec<Service>,
    /// Secrets by name, with their files relative to the root; an external one has none.
    pub secrets: BTreeMap<String, Option<String>>,
    /// Files of the configs by name, relative to the root.
    pub configs: BTreeMap<String, String>,
    /// Names of the volumes by key; a name with `{{.Task.Slot}}` is a volume per replica.
    pub volumes: BTreeMap<String, String>,
}

/// Service of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Key of the service.
    pub name: String,
    /// Image, which stands for a binary.
    pub image: String,
    /// Arguments of the binary.
    pub command: Vec<String>,
    /// Environment variables, sorted by name.
    pub environment: Vec<(String, String)>,
    /// Ports under `ports`.
    pub ports: Vec<Port>,
    /// Number of tasks.
    pub replicas: u32,
    /// Decides whether a task that exits is started again.
    pub restart: Restart,
    /// Decides how tasks are replaced by new ones.
    pub update: Update,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace_period: Duration,
    /// Decides when a running task counts as dead.
    pub health: Health,
    /// Secrets and the paths where the service reads them.
    pub secrets: Vec<Mount>,
    /// Configs and the paths where the service reads them.
    pub configs: Vec<Mount>,
    /// Volumes and the paths where the service uses them.
    pub volumes: Vec<Volume>,
}

/// Port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port on which its replicas listen in their containers.
    pub target: u16,
    /// Port on which clients outside the stack reach the service.
    pub published: Option<u16>,
}

/// Volume or folder that a container has at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Volume or folder.
    pub source: VolumeSource,
    /// Path in the container.
    pub target: String,
}

/// Source of a [`Volume`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// Volume, by its key under the top-level `volumes`.
    Named(String),
    /// File or folder of this machine, relative to the root.
    Folder(String),
}

/// Secret or config that a container has at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Name of the secret or config.
    pub source: String,
    /// Path in the container.
    pub target: String,
}

/// `deploy.restart_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Exits after which the task is started again.
    pub condition: Condition,
    /// Delay of the first restart; it doubles while the task keeps failing.
    pub delay: Duration,
    /// Maximum number of restarts; `None` means no limit.
    pub max_attempts: Option<u32>,
}

/// Exits after which a task is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// No exit.
    None,
    /// Exits by a signal or with a code other than 0.
    OnFailure,
    /// Any exit.
    Any,
}

/// `deploy.update_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// True if the new task must be ready before the old one is stopped.
    pub start_first: bool,
    /// Number of tasks that are replaced at a time; 0 means all.
    pub parallelism: u32,
    /// Pause between two replacements.
    pub delay: Duration,
    /// True if the old task is started again when the new one does not become ready.
    pub rollback: bool,
}

/// `healthcheck`, which decides when a running task counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Time between two checks.
    pub interval: Duration,
    /// Time limit for one check.
    pub timeout: Duration,
    /// Number of failures in a row after which the task is killed.
    pub retries: u32,
    /// Time after the start during which failures do not count.
    pub start_period: Duration,
    /// False if the task is not checked.
    pub enabled: bool,
}

impl Compose {
    /// Parses the file's text.
    ///
    /// # Errors
    /// Something is wrong; the error names the line, the service and the key.
    pub fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Self> {
        read::compose(&yaml::load(text, variables)?, variables)
    }
}

#[cfg(test)]
mod tests;
