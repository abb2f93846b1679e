//! The description of a process before it is started.

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use super::{Address, Service};
use crate::{
    binaries::{binary, binary_with_failpoints},
    environment, http,
};

/// Binary, flags and environment of a process that is to be started. The environment's settings (`APP_*`) never reach it.
#[derive(Debug, Clone)]
pub struct Launch {
    pub(super) binary: &'static str,
    pub(super) instance: String,
    arguments: Vec<String>,
    flags: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    pub(super) failpoint: Option<String>,
    ulimit: Option<String>,
}

impl Launch {
    /// A binary of the workspace, by its name, or by its path where cargo has built it for the test that runs; as the
    /// instance of that name.
    pub fn new(binary: &'static str, instance: &str) -> Self {
        let launch = Self {
            binary,
            instance: instance.to_owned(),
            arguments: vec![],
            flags: vec![],
            environment: vec![],
            failpoint: None,
            ulimit: None,
        };
        launch.env("INSTANCE_NAME", instance)
    }

    /// Which binary it is.
    pub fn binary(&self) -> &str {
        self.binary
    }

    /// A word before the flags: a subcommand.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// `--name value`; a later value replaces an earlier one.
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.retain(|(known, _)| known != name);
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Failpoint of its first life, such as `outbox-flushed@20=kill`; see the crate `failpoint`.
    pub fn failpoint(self, failpoint: &str) -> Self {
        Self { failpoint: Some(failpoint.to_owned()), ..self }
    }

    /// Limits of the system that it starts with, as the shell's `ulimit` takes them: `-n 256` for open files.
    pub fn ulimit(self, limit: &str) -> Self {
        Self { ulimit: Some(limit.to_owned()), ..self }
    }

    /// Starts it and waits until it takes requests; panics with its output when it does not.
    pub async fn start(self) -> Service {
        let mut service = self.spawn();
        service.until_listening(0).await;
        service
    }

    /// Starts it and waits for nothing.
    pub fn spawn(self) -> Service {
        let mut service = Service {
            launch: self,
            child: None,
            readers: vec![],
            log: Arc::default(),
            address: Address::default(),
            client: http::client_without_keep_alive(),
        };
        service.spawn();
        service
    }

    pub(super) fn command(&self) -> Command {
        let path = match &self.failpoint {
            Some(_) => binary_with_failpoints(self.binary),
            None if self.binary.contains('/') => self.binary.into(),
            None => binary(self.binary),
        };
        let mut command = match &self.ulimit {
            None => Command::new(path),
            Some(limit) => {
                let mut command = Command::new("sh");
                // A file that may not grow is an error then, as a full disk is, and no signal.
                command.args(["-c", r#"trap '' XFSZ; ulimit $0 && exec "$@""#, limit]).arg(path);
                command
            }
        };
        for name in environment::settings_of_services() {
            command.env_remove(name);
        }
        // glibc keeps large blocks for itself once it has seen some, and each of lapin's connections begins with one
        // of 8 MiB. With its threshold said, which is the one it starts with, what is freed is given back, so that
        // the resident memory is what the service holds.
        command.env("MALLOC_MMAP_THRESHOLD_", "131072");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs(self.failpoint.iter().map(|failpoint| ("HOPS_FAILPOINT", failpoint)));
        command.args(&self.arguments);
        for (name, value) in &self.flags {
            command.arg(format!("--{name}")).arg(value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}
