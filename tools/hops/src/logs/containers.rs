//! Logs of a stack's containers on this machine, from `docker logs` of each.
//!
//! `docker service logs` is not used: it omits the tasks that have been removed, stops after changes, and sometimes never
//! returns.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use jiff::Timestamp;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::LogLine;
use crate::{
    failure::Result,
    swarm::{Container, Stack, log_command, log_lines},
};

/// Time between two looks for containers that have started, as each runs a process.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that wait until they are read; then the docker commands wait.
const WAITING_LINES: usize = 10_000;

/// Reader of the logs of some containers, which returns each line once.
#[derive(Debug)]
pub(crate) struct ContainerLogs {
    wanted: Wanted,
    /// Containers whose lines have been returned: the time of the last one, or `None` for a container that had stopped.
    read: Option<BTreeMap<String, Option<Timestamp>>>,
    /// Lines of the containers that are followed, and the task that follows them.
    following: Option<(mpsc::Receiver<LogLine>, JoinSet<()>)>,
}

/// Selection of containers and of their lines.
#[derive(Debug, Clone)]
struct Wanted {
    stack: Stack,
    /// Services and tasks; if there are none, all of our services.
    names: Vec<String>,
    since: Option<Timestamp>,
}

impl ContainerLogs {
    /// Reads the lines since then of these tasks and of the tasks of these services, or of our services if none is named.
    pub(crate) fn new(stack: Stack, names: &[String], since: Option<Timestamp>) -> Self {
        Self { wanted: Wanted { stack, names: names.to_vec(), since }, read: None, following: None }
    }

    /// Returns the lines that exist, in the order of their times.
    pub(crate) async fn read_existing(&mut self) -> Result<Vec<LogLine>> {
        let containers = self.wanted.containers().await?;
        let logs = join_all(containers.iter().map(|container| self.wanted.log_of(container))).await;
        let mut read = BTreeMap::new();
        let mut lines = vec![];
        for (container, log) in containers.into_iter().zip(logs) {
            let log = log?;
            let last = log.iter().filter_map(|(at, _)| *at).max().unwrap_or(Timestamp::UNIX_EPOCH);
            read.insert(container.id, container.is_running.then_some(last));
            lines.extend(log.into_iter().map(|(at, text)| LogLine::new(&container.task, &text, at)));
        }
        self.read = Some(read);
        lines.sort_by_key(|line| line.time);
        Ok(lines)
    }

    /// Returns the lines since the last call, also of containers that have started meanwhile. The first call begins to
    /// follow the containers.
    pub(crate) fn read_new(&mut self) -> Vec<LogLine> {
        let (waiting, _) = self.following.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING_LINES);
            let mut task = JoinSet::new();
            task.spawn(self.wanted.clone().follow(self.read.take(), sender));
            (receiver, task)
        });
        let mut lines: Vec<_> = std::iter::from_fn(|| waiting.try_recv().ok()).take(WAITING_LINES).collect();
        lines.sort_by_key(|line| line.time);
        lines
    }

    /// Stops following, and waits until the docker commands are killed.
    pub(crate) async fn close(self) {
        if let Some((_, mut task)) = self.following {
            task.shutdown().await;
        }
    }
}

impl Wanted {
    async fn containers(&self) -> Result<Vec<Container>> {
        let mut containers = self.stack.containers().await?;
        containers.retain(|container| {
            let is_named = |name: &String| *name == container.task || name == container.service();
            if self.names.is_empty() { container.is_ours() } else { self.names.iter().any(is_named) }
        });
        Ok(containers)
    }

    async fn log_of(&self, container: &Container) -> Result<Vec<(Option<Timestamp>, String)>> {
        let output = log_command(&container.id, self.since, false).output().await?;
        Ok([log_lines(&output.stdout), log_lines(&output.stderr)].concat())
    }

    /// Follows the containers, all in one task: the docker commands end with it. Of the containers that have stopped before,
    /// it skips all, or those that were read.
    async fn follow(self, read: Option<BTreeMap<String, Option<Timestamp>>>, lines: mpsc::Sender<LogLine>) {
        let mut known = BTreeSet::new();
        if read.is_none() {
            let stopped = self.containers().await.unwrap_or_default();
            known.extend(stopped.into_iter().filter(|it| !it.is_running).map(|container| container.id));
        }
        let read = read.unwrap_or_default();
        let (mut followers, mut ticks) = (FuturesUnordered::new(), interval(POLL_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(()) = followers.next() => {}
                _ = ticks.tick() => {
                    for container in self.containers().await.unwrap_or_default() {
                        let until = read.get(&container.id);
                        if known.insert(container.id.clone()) && until != Some(&None) {
                            let until = until.copied().flatten();
                            followers.push(follow(container, self.since, until, &lines));
                        }
                    }
                }
            }
        }
    }
}

/// Passes on the lines of a container after a time, until it stops.
async fn follow(
    container: Container,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    lines: &mpsc::Sender<LogLine>,
) {
    let Ok(mut docker) = log_command(&container.id, until.max(since), true).spawn() else { return };
    if let (Some(output), Some(errors)) = (docker.stdout.take(), docker.stderr.take()) {
        tokio::join!(
            pass_on(output, &container.task, until, lines),
            pass_on(errors, &container.task, until, lines)
        );
    }
    let _ = docker.wait().await;
}

async fn pass_on(
    output: impl AsyncRead + Unpin,
    task: &str,
    until: Option<Timestamp>,
    lines: &mpsc::Sender<LogLine>,
) {
    let mut output = BufReader::new(output).split(b'\n');
    while let Ok(Some(line)) = output.next_segment().await {
        for (at, text) in log_lines(&line) {
            // Docker's `--since` includes the line of that time.
            if at.is_none_or(|at| until.is_none_or(|until| at > until)) {
                let _ = lines.send(LogLine::new(task, &text, at)).await;
            }
        }
    }
}
