//! `docker-compose.yml`: what runs, as the file says it.
//!
//! A key is used, or it is passed over because it speaks of containers and means nothing to processes, or it is
//! refused by name: a file that looks as if it did something, and does not, helps nobody.

mod read;
pub(crate) mod interpolate;
pub(crate) mod yaml;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use self::yaml::{File, load};
use crate::failure::Result;

/// The file's name, and with it the root of a checkout.
pub const FILE: &str = "docker-compose.yml";

/// The file.
#[derive(Debug, Clone, PartialEq)]
pub struct Compose {
    /// In the file's order.
    pub services: Vec<Service>,
    /// The secrets' names.
    pub secrets: Vec<String>,
    /// Configs by name: the file that each is, relative to the root.
    pub configs: BTreeMap<String, String>,
    /// Volumes by name: how each is called, with `{{.Task.Slot}}` in it where every replica has its own.
    pub volumes: BTreeMap<String, String>,
}

/// A service of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its key.
    pub name: String,
    /// Its image.
    pub image: String,
    /// What its binary is given.
    pub command: Vec<String>,
    /// In the file's order.
    pub environment: Vec<(String, String)>,
    /// Ports of its own.
    pub ports: Vec<Port>,
    /// How many.
    pub replicas: u32,
    /// What becomes of a task that ends.
    pub restart: Restart,
    /// How a new version takes over.
    pub update: Update,
    /// From SIGTERM to SIGKILL.
    pub stop_grace_period: Duration,
    /// How it is watched.
    pub health: Health,
    /// Secrets and where the service looks for them.
    pub secrets: Vec<Mount>,
    /// Configs, likewise.
    pub configs: Vec<Mount>,
    /// Volumes, likewise; a source with a `/` in it is a folder of the checkout.
    pub volumes: Vec<Mount>,
}

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Where its replicas listen, in containers.
    pub target: u16,
    /// Where the service is found from outside.
    pub published: Option<u16>,
}

/// Something that a container sees under a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its name.
    pub source: String,
    /// The path.
    pub target: String,
}

/// `deploy.restart_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// After which end it is started again.
    pub condition: Condition,
    /// The first wait before that; it doubles while the task does not come up.
    pub delay: Duration,
    /// How often at most; without end if not said.
    pub max_attempts: Option<u32>,
}

/// After which end a task is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Never.
    None,
    /// After an exit code that is not 0, or a signal.
    OnFailure,
    /// Always.
    Any,
}

/// `deploy.update_config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Whether the new task is ready before the old one stops.
    pub start_first: bool,
    /// How many at a time; 0 is all.
    pub parallelism: u32,
    /// The pause between two.
    pub delay: Duration,
    /// Whether what was there comes back when the new does not come up.
    pub rollback: bool,
}

/// `healthcheck`: when a task that lives counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Between two looks.
    pub interval: Duration,
    /// For one look.
    pub timeout: Duration,
    /// How many in a row fail.
    pub retries: u32,
    /// In which failures do not count.
    pub start_period: Duration,
    /// Whether anyone looks.
    pub enabled: bool,
}

impl Compose {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The first thing that is wrong, with line, service and key.
    pub fn parse(text: &str, variables: &BTreeMap<String, String>) -> Result<Self> {
        load(text, &File { name: FILE, variables }, |root| read::compose(&root))
    }
}

#[cfg(test)]
mod tests;
