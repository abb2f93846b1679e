//! What is changed while all runs: more or fewer replicas, new ones for old ones, and one that is killed.

use std::{sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::{Supervisor, replica::Replica};
use crate::plan::{Kind, ServicePlan};

/// How long a new task may take to become ready before a change counts as failed.
const UNTIL_READY: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Starts or stops tasks until that many are ready.
    pub(super) async fn scale(self: &Arc<Self>, name: &str, replicas: u32) -> Result<String, String> {
        let _one_at_a_time = self.changing.lock().await;
        let service = self.service(name)?;
        let plan = self.with(|services| services[service].plan.clone());
        if plan.kind == Kind::Broker && replicas > 1 {
            return Err(format!("{name} is one process on this machine; on Swarm it is one task, too"));
        }
        let (new, leaving) = self.with(|services| {
            let state = &mut services[service];
            state.wanted = replicas;
            let leaving: Vec<_> = state.replicas.iter().filter(|r| r.slot > replicas).cloned().collect();
            let there: Vec<_> = state.replicas.iter().map(|replica| replica.slot).collect();
            let missing = (1..=replicas).filter(|slot| !there.contains(slot));
            let new: Vec<_> =
                missing.map(|slot| Arc::new(Replica::new(plan.clone(), slot, &state.binaries))).collect();
            state.replicas.extend(new.clone());
            (new, leaving)
        });
        self.tell(name, &format!("scaled to {replicas}"));
        new.iter().for_each(|replica| self.start(replica));
        leaving.iter().for_each(|replica| replica.stop.cancel());
        for replica in leaving {
            replica.done.cancelled().await;
            self.remove(service, &replica);
        }
        let all = self.with(|services| services[service].replicas.clone());
        let mut late = vec![];
        for replica in all {
            late.extend(replica.until_ready(UNTIL_READY).await.err());
        }
        match late.first() {
            None => Ok(format!("{replicas} out of {replicas} tasks are ready")),
            Some(why) => Err(format!("{why}; `cargo hops service logs {name}` shows its words")),
        }
    }

    /// Takes the tasks of a service, some at a time, and puts new ones in their place.
    pub(super) async fn update(
        self: &Arc<Self>,
        plan: ServicePlan,
        binaries: &str,
    ) -> Result<String, String> {
        let _one_at_a_time = self.changing.lock().await;
        let (name, plan) = (plan.name.clone(), Arc::new(plan));
        let service = self.service(&name)?;
        let old = self.with(|services| services[service].replicas.clone());
        let at_a_time =
            if plan.update.parallelism == 0 { old.len() } else { plan.update.parallelism as usize };
        let (mut done, count) = (0, old.len());
        for some in old.chunks(at_a_time.max(1)) {
            let replaced = some.iter().map(|old| self.replace(service, old, &plan, binaries));
            let failed = futures_util::future::join_all(replaced).await.into_iter().find_map(Result::err);
            if let Some(why) = failed {
                return Err(format!(
                    "update paused: {why}; `cargo hops service logs {name}` shows its words"
                ));
            }
            done += some.len();
            self.tell(&name, &format!("overall progress: {done} out of {count} tasks"));
            if done < count {
                sleep(plan.update.delay).await;
            }
        }
        self.with(|services| {
            (services[service].plan, services[service].binaries) = (plan, binaries.to_owned());
        });
        Ok(format!("{count} out of {count} tasks are new"))
    }

    /// One task for another of the same slot, in the order that the file wants. What was there comes back where
    /// the new one does not come up and the file wants that; with start-first it has never gone.
    async fn replace(
        self: &Arc<Self>,
        service: usize,
        old: &Arc<Replica>,
        plan: &Arc<ServicePlan>,
        binaries: &str,
    ) -> Result<(), String> {
        let new = Arc::new(Replica::new(plan.clone(), old.slot, binaries));
        let add = |new: &Arc<Replica>| {
            self.with(|services| services[service].replicas.push(new.clone()));
            self.start(new);
        };
        if plan.update.start_first {
            add(&new);
            if let Err(why) = new.until_ready(UNTIL_READY).await {
                self.retire(service, &new).await;
                return Err(why);
            }
            self.retire(service, old).await;
            return Ok(());
        }
        self.retire(service, old).await;
        add(&new);
        let Err(why) = new.until_ready(UNTIL_READY).await else { return Ok(()) };
        if plan.update.rollback {
            self.retire(service, &new).await;
            add(&Arc::new(Replica::new(old.plan.clone(), old.slot, &old.binaries)));
            return Err(format!("{why}; what was there is back"));
        }
        Err(why)
    }

    async fn retire(&self, service: usize, replica: &Arc<Replica>) {
        replica.stop.cancel();
        replica.done.cancelled().await;
        self.remove(service, replica);
    }

    /// SIGKILL, as an out-of-memory killer would: the restart policy is for what comes next.
    pub(super) fn kill(&self, name: &str, slot: u32) -> Result<String, String> {
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
            return Err(format!("{name}.{slot} does not run; these do: {}", names.join(", ")));
        };
        kill_process(pid, Signal::KILL).map_err(|e| format!("cannot kill {name}.{slot}: {e}"))?;
        Ok(format!("{name}.{slot} killed (process {})", pid.as_raw_nonzero()))
    }
}
