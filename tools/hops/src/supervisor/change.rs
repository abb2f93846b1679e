//! Changes of the running system: scaling, updating, killing and pausing.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::{Supervisor, replica::Replica};
use crate::{
    control::scaled_to,
    plan::{Plan, ServicePlan},
    state,
};

/// Time within which a new task must be ready, or else the change has failed.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Refuses a change of a system that stops.
    fn require_running(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            bail!("the system is stopping: `cargo hops up` starts it again");
        }
        Ok(())
    }

    /// Starts or stops tasks, and waits until this number of them is ready.
    pub(super) async fn scale(self: &Arc<Self>, name: &str, replicas: u32) -> Result<String> {
        let _one_at_a_time = self.change.lock().await;
        self.require_running()?;
        let service = self.service(name)?;
        let plan = self.with(|services| services[service].plan.clone());
        plan.check_replicas(replicas)?;
        let (new, surplus) = self.with(|services| {
            let state = &mut services[service];
            state.wanted = replicas;
            let surplus: Vec<_> = state.replicas.iter().filter(|r| r.slot > replicas).cloned().collect();
            let existing: Vec<_> = state.replicas.iter().map(|replica| replica.slot).collect();
            let missing = (1..=replicas).filter(|slot| !existing.contains(slot));
            let new: Vec<_> =
                missing.map(|slot| Arc::new(Replica::new(plan.clone(), slot, &state.binaries))).collect();
            state.replicas.extend(new.clone());
            (new, surplus)
        });
        self.announce(name, &scaled_to(replicas));
        // A paused task neither becomes ready nor stops in order.
        for replica in self.with(|services| services[service].replicas.clone()) {
            let _ = replica.pause(false).await;
        }
        new.iter().for_each(|replica| self.start(replica));
        surplus.iter().for_each(|replica| replica.stop.cancel());
        for replica in surplus {
            replica.stopped.cancelled().await;
            self.remove(service, &replica);
        }
        let all = self.with(|services| services[service].replicas.clone());
        let mut not_ready = vec![];
        for replica in all {
            not_ready.extend(replica.wait_until_ready(READY_TIMEOUT).await.err());
        }
        match not_ready.first() {
            None => Ok(format!("{replicas} out of {replicas} tasks are ready")),
            Some(why) => bail!("{why}; `cargo hops service logs {name}` shows its log"),
        }
    }

    /// Replaces the tasks of a service by new ones, some at a time.
    pub(super) async fn update(self: &Arc<Self>, plan: ServicePlan, binaries: &str) -> Result<String> {
        let _one_at_a_time = self.change.lock().await;
        self.require_running()?;
        let (name, plan) = (plan.name.clone(), Arc::new(plan));
        let service = self.service(&name)?;
        let old = self.with(|services| services[service].replicas.clone());
        let at_a_time =
            if plan.update.parallelism == 0 { old.len() } else { plan.update.parallelism as usize };
        let (mut done, count) = (0, old.len());
        for batch in old.chunks(at_a_time.max(1)) {
            let replaced = batch.iter().map(|old| self.replace(service, old, &plan, binaries));
            let failed = futures_util::future::join_all(replaced).await.into_iter().find_map(Result::err);
            if let Some(why) = failed {
                bail!("update paused: {why:#}; `cargo hops service logs {name}` shows its log");
            }
            done += batch.len();
            self.announce(&name, &format!("overall progress: {done} out of {count} tasks"));
            if done < count {
                sleep(plan.update.delay).await;
            }
        }
        let plans: Vec<_> = self.with(|services| {
            (services[service].plan, services[service].binaries) = (plan, binaries.to_owned());
            services.iter().map(|service| (*service.plan).clone()).collect()
        });
        // Later commands compare the compose file with what runs.
        state::save_plan(&self.project, &Plan { services: plans, ..self.plan.clone() })?;
        Ok(format!("{count} out of {count} tasks are new"))
    }

    /// Replaces a task by a new one of the same slot, in the order of the file. If the new one does not become ready, the old
    /// one is started again if the file says so; with start-first it still runs.
    async fn replace(
        self: &Arc<Self>,
        service: usize,
        old: &Arc<Replica>,
        plan: &Arc<ServicePlan>,
        binaries: &str,
    ) -> Result<()> {
        let new = Arc::new(Replica::new(plan.clone(), old.slot, binaries));
        let add = |new: &Arc<Replica>| {
            self.with(|services| services[service].replicas.push(new.clone()));
            self.start(new);
        };
        if plan.update.start_first {
            add(&new);
            if let Err(why) = new.wait_until_ready(READY_TIMEOUT).await {
                self.retire(service, &new).await;
                return Err(why.into());
            }
            self.retire(service, old).await;
            return Ok(());
        }
        self.retire(service, old).await;
        add(&new);
        let Err(why) = new.wait_until_ready(READY_TIMEOUT).await else { return Ok(()) };
        if plan.update.rollback {
            self.retire(service, &new).await;
            add(&Arc::new(Replica::new(old.plan.clone(), old.slot, &old.binaries)));
            bail!("{why}; the old task is started again");
        }
        Err(why.into())
    }

    /// Stops a replica and removes it.
    async fn retire(&self, service: usize, replica: &Arc<Replica>) {
        replica.stop.cancel();
        replica.stopped.cancelled().await;
        self.remove(service, replica);
    }

    /// Kills a task with SIGKILL, as an out-of-memory killer does. Its restart policy then applies.
    pub(super) fn kill(&self, name: &str, slot: u32) -> Result<String> {
        self.require_running()?;
        let service = self.service(name)?;
        let tasks = self.with(|services| {
            let replicas = services[service].replicas.iter();
            replicas.map(|replica| (replica.slot, replica.status().pid)).collect::<Vec<_>>()
        });
        let found = tasks.iter().find(|(number, pid)| *number == slot && pid.is_some());
        let pid = found.and_then(|(_, pid)| Pid::from_raw(pid.unwrap_or_default().cast_signed()));
        let Some(pid) = pid else {
            let running: Vec<_> = tasks.iter().filter(|(_, pid)| pid.is_some()).collect();
            let names: Vec<_> = running.iter().map(|(slot, _)| format!("{name}.{slot}")).collect();
            let others = match names.join(", ") {
                names if names.is_empty() => {
                    "no other task of the service does; `cargo hops service ps` shows why".into()
                }
                names => format!("these tasks do: {names}"),
            };
            return Err(anyhow!("{name}.{slot} does not run; {others}"));
        };
        kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill {name}.{slot}"))?;
        Ok(format!("{name}.{slot} killed (process {})", pid.as_raw_nonzero()))
    }

    /// Freezes a task with SIGSTOP, or resumes it with SIGCONT.
    pub(super) async fn pause(&self, name: &str, slot: u32, pause: bool) -> Result<String> {
        self.require_running()?;
        let service = self.service(name)?;
        let replicas = self.with(|services| services[service].replicas.clone());
        let found = replicas.iter().find(|replica| replica.slot == slot);
        let paused = match found {
            Some(replica) => replica.pause(pause).await,
            None => Err("does not run"),
        };
        match paused {
            Ok(()) if pause => {
                Ok(format!("{name}.{slot} paused: `cargo hops unpause {name}.{slot}` resumes it"))
            }
            Ok(()) => Ok(format!("{name}.{slot} unpaused")),
            Err(why) => bail!("{name}.{slot} {why}: `cargo hops service ps {name}` lists the tasks"),
        }
    }
}
