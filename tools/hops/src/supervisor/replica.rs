//! One slot of a service: a process, and the next one when that ends, until it is told to stop.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Supervisor,
    probe::Probe,
    process::{Ended, Process, What, binary_of, last_words},
};
use crate::{
    compose::Condition,
    control::{Phase, TaskStatus},
    failure::Result,
    plan::{Kind, ServicePlan},
    ports,
};

/// Between two looks at a task that is not ready yet.
const FIRST_LOOKS: Duration = Duration::from_millis(50);
/// Between two looks at one that is or was.
const LOOKS: Duration = Duration::from_millis(500);
/// The longest wait before another start.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How many ended tasks of a slot `service ps` shows.
const PAST_KEPT: usize = 4;
/// Who lived for so long has come up, and the next wait is the first again.
const CAME_UP: Duration = Duration::from_secs(10);

/// A slot.
#[derive(Debug)]
pub(crate) struct Replica {
    pub slot: u32,
    pub name: String,
    pub plan: Arc<ServicePlan>,
    pub binaries: String,
    /// Told to stop.
    pub stop: CancellationToken,
    /// Stopped.
    pub done: CancellationToken,
    status: watch::Sender<TaskStatus>,
    /// Those before the current one.
    past: Mutex<Vec<TaskStatus>>,
    starts: AtomicU32,
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
            done: CancellationToken::new(),
            status: watch::Sender::new(status),
            past: Mutex::default(),
            starts: AtomicU32::default(),
        }
    }

    pub(crate) fn status(&self) -> TaskStatus {
        self.status.borrow().clone()
    }

    /// What it was before, the latest first.
    pub(crate) fn past(&self) -> Vec<TaskStatus> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.status.borrow().phase
    }

    /// Waits until it is ready, or cannot become so soon.
    pub(crate) async fn until_ready(&self, limit: Duration) -> Result<(), String> {
        let mut status = self.status.subscribe();
        let ready =
            status.wait_for(|status| matches!(status.phase, Phase::Ready | Phase::Failed | Phase::Complete));
        let reached = tokio::time::timeout(limit, ready).await.ok().and_then(Result::ok).map(|s| s.phase);
        match reached {
            Some(Phase::Ready) => Ok(()),
            _ => {
                let why = self.status().error.map_or_else(String::new, |error| format!(": {error}"));
                Err(format!("{} is not ready after {} s{why}", self.name, limit.as_secs()))
            }
        }
    }

    fn set(&self, of: &Supervisor, change: impl FnOnce(&mut TaskStatus)) {
        self.status.send_modify(|status| {
            let before = status.phase;
            change(status);
            if status.phase != before {
                status.since = Timestamp::now();
            }
        });
        of.replicas_changed(&self.plan.name);
    }

    /// The slot's whole life.
    pub(crate) async fn run(self: Arc<Self>, of: Arc<Supervisor>) {
        let policy = self.plan.restart;
        let mut wait = policy.delay;
        loop {
            let (started, starts) = (Instant::now(), self.starts.fetch_add(1, Ordering::Relaxed));
            let (why, is_over) = match self.start(&of) {
                Ok((mut process, probe)) => {
                    let Some(ended) = self.live(&of, &mut process, &probe).await else { break };
                    let is_over = match policy.condition {
                        Condition::None => true,
                        Condition::OnFailure => ended.is_success(),
                        Condition::Any => false,
                    };
                    let words =
                        last_words(&process.log).filter(|_| !ended.is_by_signal() && !ended.is_success());
                    (words.unwrap_or_else(|| ended.words()), is_over)
                }
                Err(failure) => (failure.to_string(), false),
            };
            let is_over = is_over || policy.max_attempts.is_some_and(|most| starts >= most);
            self.bury(Phase::Failed, Some(why.clone()));
            if started.elapsed() > CAME_UP {
                wait = policy.delay;
            }
            let next = if is_over { "not started again".into() } else { format!("again in {wait:?}") };
            of.tell(&self.name, &format!("ended: {why}; {next}"));
            let phase = if is_over { Phase::Failed } else { Phase::Waiting };
            self.set(&of, |status| {
                (status.phase, status.pid, status.port, status.error) = (phase, None, None, Some(why));
            });
            let again =
                async { if is_over { std::future::pending::<()>().await } else { sleep(wait).await } };
            if self.stop.run_until_cancelled(again).await.is_none() {
                break;
            }
            wait = (wait * 2).clamp(Duration::from_millis(100), LONGEST_WAIT);
        }
        self.set(&of, |status| (status.phase, status.pid, status.port) = (Phase::Complete, None, None));
        self.done.cancel();
    }

    /// Starts a process on a port of its own; a broker on the port where it is found.
    fn start(&self, of: &Supervisor) -> Result<(Process, Probe)> {
        let port = match (self.plan.kind, self.plan.local_port()) {
            (Kind::Broker, Some(port)) => port,
            _ => ports::for_task()?,
        };
        let id = format!("{:012x}", rand::random::<u64>() >> 16);
        let binary = binary_of(&self.binaries, &self.plan.binary)?;
        let what = What {
            name: &self.name,
            id: &id,
            binary: &binary,
            grace: self.plan.stop_grace_period,
            is_broker: self.plan.kind == Kind::Broker,
        };
        let process = Process::start(of.project(), what, &self.plan.task(self.slot, port)?)?;
        of.tell(&self.name, &format!("started as process {}", process.pid));
        let (pid, log) = (process.pid, process.log.to_string_lossy().into_owned());
        self.set(of, |status| {
            (status.id, status.phase, status.error) = (id, Phase::Starting, None);
            (status.pid, status.port, status.log) = (Some(pid), Some(port), Some(log));
        });
        Ok((process, Probe::new(self.plan.kind, port)))
    }

    /// From its start to its end; `None` where it was told to stop.
    async fn live(&self, of: &Supervisor, process: &mut Process, probe: &Probe) -> Option<Ended> {
        let sick = tokio::select! {
            ended = process.ended() => return Some(ended),
            () = self.stop.cancelled() => false,
            () = self.watch(of, probe) => true,
        };
        if sick {
            of.tell(&self.name, "does not answer any more: killed");
            return Some(process.kill().await);
        }
        // First nothing new is sent to it, then it is told.
        self.set(of, |status| status.phase = Phase::Stopping);
        let grace = self.plan.stop_grace_period;
        let (ended, in_time) = process.stop(grace).await;
        let words =
            if in_time { ended.words() } else { format!("killed, since it had not ended after {grace:?}") };
        of.tell(&self.name, &format!("stopped: {words}"));
        let is_well = ended.is_success();
        self.bury(if is_well { Phase::Complete } else { Phase::Failed }, (!is_well).then_some(words));
        None
    }

    /// Looks at it for as long as it lives, and comes back when it does not answer any more.
    async fn watch(&self, of: &Supervisor, probe: &Probe) {
        let (started, health) = (Instant::now(), self.plan.health);
        let mut looks = interval(FIRST_LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut alive, mut failures) = (Instant::now(), 0);
        loop {
            looks.tick().await;
            let is_ready = probe.is_ready(health.timeout.min(Duration::from_secs(3))).await;
            let phase = self.phase();
            if is_ready && phase != Phase::Ready {
                self.set(of, |status| status.phase = Phase::Ready);
                let after = started.elapsed().as_secs_f64();
                of.tell(
                    &self.name,
                    &match phase {
                        Phase::Starting => format!("is ready, after {after:.1} s"),
                        _ => "is ready again".into(),
                    },
                );
                looks = interval(LOOKS);
                looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            } else if !is_ready && phase == Phase::Ready {
                self.set(of, |status| status.phase = Phase::Running);
                of.tell(&self.name, "is not ready any more");
            }
            // Ready is alive; else it is asked as often as the file says.
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

    /// What was is kept for `service ps`.
    fn bury(&self, phase: Phase, error: Option<String>) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.insert(
            0,
            TaskStatus { phase, error, since: Timestamp::now(), pid: None, port: None, ..self.status() },
        );
        past.truncate(PAST_KEPT);
    }
}
