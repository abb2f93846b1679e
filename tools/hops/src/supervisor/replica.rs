//! One slot of a service: a process, and another one when it exits, until the slot is stopped.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Supervisor,
    probe::{Probe, Readiness},
    process::{Exit, Process, ProcessSpec, binary_in, last_error},
};
use crate::{
    compose::Condition,
    control::{Phase, TaskStatus},
    failure::Result,
    plan::{Kind, ServicePlan},
    ports,
};

/// Time between two probes of a task that is not ready yet.
const START_PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two probes of a task that has been ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum delay of a restart.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
/// Number of exited tasks of a slot that `service ps` shows.
const HISTORY_LENGTH: usize = 4;
/// Runtime of a task after which the restart delay begins again with the first.
const RESET_DELAY_AFTER: Duration = Duration::from_secs(10);

/// Task that did not become ready, or not in time.
#[derive(Debug, thiserror::Error)]
#[error("{task} {why}{}", .last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
pub(crate) struct NotReady {
    task: String,
    why: String,
    /// True if it does not help to wait longer.
    pub cannot_start: bool,
    last_error: Option<String>,
}

/// Slot of a service.
#[derive(Debug)]
pub(crate) struct Replica {
    pub slot: u32,
    pub name: String,
    pub plan: Arc<ServicePlan>,
    pub binaries: String,
    /// Cancelled when the slot is to stop.
    pub stop: CancellationToken,
    /// Cancelled when its last process has exited.
    pub stopped: CancellationToken,
    status: watch::Sender<TaskStatus>,
    /// The most progress that its processes have reported; it is never set back, so that no slot that restarts again and
    /// again seems to get on.
    progress: watch::Sender<u64>,
    /// True while its process is to be frozen.
    paused: watch::Sender<bool>,
    /// Exited tasks, the latest first.
    past: Mutex<Vec<TaskStatus>>,
    starts: AtomicU32,
    /// True if its last two processes have exited before they were ready, with the same error.
    fails_alike: AtomicBool,
}

impl Replica {
    pub(crate) fn new(plan: Arc<ServicePlan>, slot: u32, binaries: &str) -> Self {
        let name = format!("{}.{slot}", plan.name);
        let status = TaskStatus {
            id: String::new(),
            name: name.clone(),
            slot,
            phase: Phase::Starting,
            since: Timestamp::now(),
            pid: None,
            port: None,
            log: None,
            error: None,
        };
        Self {
            slot,
            name,
            plan,
            binaries: binaries.to_owned(),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
            status: watch::Sender::new(status),
            progress: watch::Sender::default(),
            paused: watch::Sender::new(false),
            past: Mutex::default(),
            starts: AtomicU32::default(),
            fails_alike: AtomicBool::default(),
        }
    }

    pub(crate) fn status(&self) -> TaskStatus {
        self.status.borrow().clone()
    }

    /// Returns its exited tasks, the latest first.
    pub(crate) fn past(&self) -> Vec<TaskStatus> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.status.borrow().phase
    }

    /// Waits until the task is ready, or has exited for good or twice with the same error. The limit begins again each time
    /// that the task reports progress.
    pub(crate) async fn wait_until_ready(&self, limit: Duration) -> Result<(), NotReady> {
        let mut status = self.status.subscribe();
        let ready = async {
            let is_over = |phase| match phase {
                Phase::Waiting => self.fails_alike.load(Ordering::Relaxed),
                phase => matches!(phase, Phase::Ready | Phase::Failed | Phase::Complete),
            };
            status.wait_for(|status| is_over(status.phase)).await.ok().map(|status| status.phase)
        };
        let reached = while_progress(ready, self.progress.subscribe(), limit).await.flatten();
        let (why, cannot_start) = match reached {
            Some(Phase::Ready) => return Ok(()),
            Some(Phase::Complete) => ("has stopped".into(), false),
            Some(_) => ("cannot start".into(), true),
            None => (format!("is not ready after {} s", limit.as_secs()), false),
        };
        Err(NotReady { task: self.name.clone(), why, cannot_start, last_error: self.status().error })
    }

    /// Freezes or resumes the process. Returns when that is done; an error says why it cannot be done.
    pub(crate) async fn pause(&self, pause: bool) -> Result<(), &'static str> {
        match (self.phase(), pause) {
            (Phase::Paused, true) => return Err("is paused already"),
            (Phase::Paused, false) | (Phase::Starting | Phase::Ready | Phase::Running, true) => {}
            (_, true) => return Err("does not run"),
            (_, false) => return Err("is not paused"),
        }
        let mut status = self.status.subscribe();
        self.paused.send_replace(pause);
        // Its process may exit instead.
        let _ =
            status.wait_for(|status| (status.phase == Phase::Paused) == pause || status.pid.is_none()).await;
        Ok(())
    }

    /// Changes the status, and with it the targets of the service's forwarders.
    fn set(&self, supervisor: &Supervisor, change: impl FnOnce(&mut TaskStatus)) {
        self.status.send_modify(|status| {
            let before = status.phase;
            change(status);
            if status.phase != before {
                status.since = Timestamp::now();
            }
        });
        supervisor.update_targets(&self.plan.name);
    }

    /// Starts processes by the restart policy, until the slot is stopped.
    pub(crate) async fn run(self: Arc<Self>, supervisor: Arc<Supervisor>) {
        let policy = self.plan.restart;
        let (mut delay, mut last_failure) = (policy.delay, None);
        loop {
            let (started, starts) = (Instant::now(), self.starts.fetch_add(1, Ordering::Relaxed));
            let (why, is_start, is_final) = match self.start(&supervisor) {
                Ok((process, probe)) => {
                    let Some(exit) = self.supervise(&supervisor, &process, &probe).await else { break };
                    let is_final = match policy.condition {
                        Condition::None => true,
                        Condition::OnFailure => exit.is_success(),
                        Condition::Any => false,
                    };
                    let is_error = !exit.is_by_signal() && !exit.is_success();
                    let error = last_error(&process.log).filter(|_| is_error);
                    let is_start = is_error && self.phase() == Phase::Starting;
                    (error.unwrap_or_else(|| exit.description()), is_start, is_final)
                }
                Err(error) => (format!("{error:#}"), true, false),
            };
            let failure = is_start.then(|| why.clone());
            self.fails_alike.store(failure.is_some() && failure == last_failure, Ordering::Relaxed);
            last_failure = failure;
            let is_final = is_final || policy.max_attempts.is_some_and(|max| starts >= max);
            self.archive(Phase::Failed, Some(why.clone()));
            if started.elapsed() > RESET_DELAY_AFTER {
                delay = policy.delay;
            }
            let next = if is_final { "not restarted".into() } else { format!("restart in {delay:?}") };
            // `up` ends with the reason if the system cannot start.
            let is_started = supervisor.started.is_cancelled();
            let reason = if is_started { format!(": {why}") } else { String::new() };
            supervisor.announce(&self.name, &format!("exited{reason}; {next}"));
            let phase = if is_final { Phase::Failed } else { Phase::Waiting };
            self.set(&supervisor, |status| {
                (status.phase, status.pid, status.port, status.error) = (phase, None, None, Some(why));
            });
            let restart =
                async { if is_final { std::future::pending::<()>().await } else { sleep(delay).await } };
            if self.stop.run_until_cancelled(restart).await.is_none() {
                break;
            }
            delay = (delay * 2).clamp(Duration::from_millis(100), MAX_RESTART_DELAY);
        }
        self.set(&supervisor, |status| {
            (status.phase, status.pid, status.port) = (Phase::Complete, None, None)
        });
        self.stopped.cancel();
    }

    /// Starts a process on a free port, or a broker on its own port.
    fn start(&self, supervisor: &Supervisor) -> Result<(Process, Probe)> {
        let port = match (self.plan.kind, self.plan.local_port()) {
            (Kind::Broker, Some(port)) => port,
            _ => ports::for_task()?,
        };
        let id = format!("{:012x}", rand::random::<u64>() >> 16);
        let binary = binary_in(&self.binaries, &self.plan.binary)?;
        let spec = ProcessSpec {
            task: &self.name,
            id: &id,
            binary: &binary,
            grace: self.plan.stop_grace_period,
            is_broker: self.plan.kind == Kind::Broker,
        };
        let process = Process::start(supervisor.project(), spec, &self.plan.task(self.slot, port)?)?;
        self.paused.send_replace(false);
        supervisor.announce(&self.name, &format!("started as process {}", process.pid));
        let (pid, log) = (process.pid, process.log.to_string_lossy().into_owned());
        self.set(supervisor, |status| {
            (status.id, status.phase, status.error) = (id, Phase::Starting, None);
            (status.pid, status.port, status.log) = (Some(pid), Some(port), Some(log));
        });
        Ok((process, Probe::new(self.plan.kind, port)))
    }

    /// Probes a process until it exits, and returns its exit; stops it and returns `None` if the slot is stopped.
    async fn supervise(&self, supervisor: &Supervisor, process: &Process, probe: &Probe) -> Option<Exit> {
        let is_dead = tokio::select! {
            exit = process.wait() => return Some(exit),
            () = self.stop.cancelled() => false,
            () = self.watch_until_dead(supervisor, process, probe) => true,
        };
        if is_dead {
            supervisor.announce(&self.name, "no longer answers: killed");
            return Some(process.kill().await);
        }
        // The forwarders stop sending it connections before it gets SIGTERM.
        self.set(supervisor, |status| status.phase = Phase::Stopping);
        if self.paused.send_replace(false) {
            process.signal(Signal::CONT);
        }
        let grace = self.plan.stop_grace_period;
        let (exit, in_time) = process.stop(grace).await;
        let description = match in_time {
            true => exit.description(),
            false => format!("killed, since it had not exited after {grace:?}"),
        };
        supervisor.announce(&self.name, &format!("stopped: {description}"));
        let (phase, error) = match exit.is_success() {
            true => (Phase::Complete, None),
            false => (Phase::Failed, Some(description)),
        };
        self.archive(phase, error);
        None
    }

    /// Probes the task and pauses it on request, and returns when it counts as dead.
    async fn watch_until_dead(&self, supervisor: &Supervisor, process: &Process, probe: &Probe) {
        let started = Instant::now();
        loop {
            // A paused task answers no probe, so it is not probed.
            tokio::select! {
                () = self.probe_until_dead(supervisor, probe, started) => return,
                () = self.until_paused(true) => {}
            }
            let before = self.phase();
            process.signal(Signal::STOP);
            self.set(supervisor, |status| status.phase = Phase::Paused);
            supervisor.announce(&self.name, "paused");
            self.until_paused(false).await;
            process.signal(Signal::CONT);
            self.set(supervisor, |status| status.phase = before);
            supervisor.announce(&self.name, "unpaused");
        }
    }

    /// Waits until the process is to be frozen, or resumed.
    async fn until_paused(&self, expected: bool) {
        let _ = self.paused.subscribe().wait_for(|paused| *paused == expected).await;
    }

    /// Probes the task, and returns when it counts as dead.
    async fn probe_until_dead(&self, supervisor: &Supervisor, probe: &Probe, started: Instant) {
        let health = self.plan.health;
        let is_ready = self.phase() == Phase::Ready;
        let mut ticks = interval(if is_ready { PROBE_INTERVAL } else { START_PROBE_INTERVAL });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut alive, mut failures) = (Instant::now(), 0);
        loop {
            ticks.tick().await;
            let readiness = probe.readiness(health.timeout.min(Duration::from_secs(3))).await;
            let is_ready = readiness == Readiness::Ready;
            if let Readiness::Progress(now) = readiness {
                self.progress.send_if_modified(|most| now > std::mem::replace(most, now.max(*most)));
            }
            let phase = self.phase();
            if is_ready && phase != Phase::Ready {
                self.set(supervisor, |status| status.phase = Phase::Ready);
                let after = started.elapsed().as_secs_f64();
                supervisor.announce(
                    &self.name,
                    &match phase {
                        Phase::Starting => format!("is ready, after {after:.1} s"),
                        _ => "is ready again".into(),
                    },
                );
                ticks = interval(PROBE_INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            } else if !is_ready && phase == Phase::Ready {
                self.set(supervisor, |status| status.phase = Phase::Running);
                supervisor.announce(&self.name, "is no longer ready");
            }
            // A task that is ready is alive; any other is probed as often as the file says.
            if is_ready {
                (alive, failures) = (Instant::now(), 0);
            } else if health.enabled && alive.elapsed() >= health.interval {
                alive = Instant::now();
                failures = if probe.is_alive(health.timeout).await { 0 } else { failures + 1 };
                if failures >= health.retries && started.elapsed() > health.start_period {
                    return;
                }
            }
        }
    }

    /// Keeps the status of the exited task for `service ps`.
    fn archive(&self, phase: Phase, error: Option<String>) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.insert(
            0,
            TaskStatus { phase, error, since: Timestamp::now(), pid: None, port: None, ..self.status() },
        );
        past.truncate(HISTORY_LENGTH);
    }
}

/// Waits for `work` until there was no progress for `limit`: then it returns `None`.
async fn while_progress<T>(
    work: impl Future<Output = T>,
    mut progress: watch::Receiver<u64>,
    limit: Duration,
) -> Option<T> {
    let stuck = async { while let Ok(Ok(())) = timeout(limit, progress.changed()).await {} };
    tokio::select! {
        done = work => Some(done),
        () = stuck => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_slow_task_is_waited_for_while_it_reports_progress_and_a_stuck_one_is_not() {
        let progress = watch::Sender::new(0);
        let slow = async {
            for entries in 1..10 {
                sleep(LIMIT - Duration::from_secs(1)).await;
                progress.send_replace(entries);
            }
        };
        assert_eq!(while_progress(slow, progress.subscribe(), LIMIT).await, Some(()));
        let stuck = sleep(LIMIT + Duration::from_secs(1));
        assert_eq!(while_progress(stuck, progress.subscribe(), LIMIT).await, None);
    }
}
