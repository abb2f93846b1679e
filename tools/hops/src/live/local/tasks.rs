//! Tasks of the supervisor's status as the page's events.

use std::collections::BTreeMap;

use jiff::Timestamp;
use live::event::Task;

use crate::control::{Phase, Snapshot};

/// Returns the tasks whose state has changed since the last call, with the times of their changes.
pub(super) fn task_changes(
    known: &mut BTreeMap<(String, String), Task>,
    snapshot: &Snapshot,
) -> Vec<(Timestamp, Task)> {
    let (mut changes, mut now) = (vec![], BTreeMap::new());
    for service in &snapshot.services {
        for status in service.tasks.iter().filter(|status| !status.id.is_empty()) {
            let task = Task {
                task: status.name.clone(),
                service: service.name.clone(),
                slot: status.slot,
                process: status.id.clone(),
                state: state_of(status.phase).into(),
                pid: status.pid,
                image: Some(service.image.clone()),
                node: None,
                error: status.error.clone(),
            };
            let key = (status.name.clone(), status.id.clone());
            if known.get(&key) != Some(&task) {
                changes.push((status.since, task.clone()));
            }
            now.insert(key, task);
        }
    }
    let past = |id: &str| {
        let mut past = snapshot.services.iter().flat_map(|service| &service.past);
        past.find(|status| status.id == id).cloned()
    };
    for ((_, id), task) in known.iter().filter(|(key, _)| !now.contains_key(key)) {
        let (at, error) = past(id).map_or((Timestamp::now(), None), |past| (past.since, past.error));
        changes.push((at, Task { state: "gone".into(), pid: None, error, ..task.clone() }));
    }
    *known = now;
    changes
}

fn state_of(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Stopping => "stopping",
        Phase::Waiting => "waiting",
        Phase::Failed => "failed",
        Phase::Complete => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{ServiceStatus, TaskStatus};

    fn status_of(id: &str, phase: Phase, since: i64) -> TaskStatus {
        TaskStatus {
            id: id.into(),
            name: "vipservice.1".into(),
            slot: 1,
            phase,
            since: Timestamp::from_second(since).unwrap(),
            pid: Some(7),
            port: None,
            log: None,
            error: None,
        }
    }

    #[test]
    fn a_change_of_a_task_is_reported_once_with_its_time() {
        let snapshot = |tasks: Vec<TaskStatus>, past: Vec<TaskStatus>| {
            let service = ServiceStatus {
                name: "vipservice".into(),
                image: "hops/vipservice".into(),
                replicas: 1,
                ready: 1,
                ports: vec![],
                tasks,
                past,
            };
            Snapshot { pid: 1, since: Timestamp::UNIX_EPOCH, broker: None, services: vec![service] }
        };
        let mut known = BTreeMap::new();
        let mut check = |snapshot: &Snapshot, expected: &[(i64, &str, &str)]| {
            let changes = task_changes(&mut known, snapshot);
            let changes: Vec<_> = changes
                .iter()
                .map(|(at, task)| (at.as_second(), task.process.as_str(), task.state.as_str()))
                .collect();
            assert_eq!(changes, expected);
        };
        check(&snapshot(vec![status_of("", Phase::Starting, 1)], vec![]), &[]);
        let ready = || status_of("a", Phase::Ready, 2);
        check(&snapshot(vec![ready()], vec![]), &[(2, "a", "ready")]);
        check(&snapshot(vec![ready()], vec![]), &[]);
        check(&snapshot(vec![status_of("a", Phase::Waiting, 3)], vec![]), &[(3, "a", "waiting")]);
        let again =
            snapshot(vec![status_of("b", Phase::Starting, 5)], vec![status_of("a", Phase::Failed, 3)]);
        check(&again, &[(5, "b", "starting"), (3, "a", "gone")]);
        check(&snapshot(vec![], vec![status_of("b", Phase::Complete, 9)]), &[(9, "b", "gone")]);
    }
}
