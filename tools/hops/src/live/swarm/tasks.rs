//! Tasks of `docker service ps` as the page's events.

use std::collections::BTreeMap;

use live::event::Task;

use crate::swarm::TaskRow;

/// Returns the tasks that have changed since the last call.
pub(super) fn task_changes(known: &mut BTreeMap<String, Task>, rows: &[TaskRow]) -> Vec<Task> {
    let (mut changes, mut now) = (vec![], BTreeMap::new());
    for row in rows {
        let Some(task) = shown(row) else { continue };
        let is_new = known.get(&row.id) != Some(&task);
        // A task that had ended before it was known concerns nobody.
        if is_new && (task.state != "gone" || known.contains_key(&row.id)) {
            changes.push(task.clone());
        }
        if task.state != "gone" {
            now.insert(row.id.clone(), task);
        }
    }
    let mentioned = |id: &String| rows.iter().any(|row| row.id == *id);
    let gone = known.iter().filter(|(id, _)| !mentioned(id));
    changes.extend(gone.map(|(_, task)| Task { state: "gone".into(), ..task.clone() }));
    *known = now;
    changes
}

fn shown(row: &TaskRow) -> Option<Task> {
    let (service, slot) = row.place()?;
    Some(Task {
        task: row.task.clone(),
        service: service.to_owned(),
        slot,
        process: row.id.clone(),
        state: row.state().into(),
        pid: None,
        image: Some(row.image.clone()),
        node: Some(row.node.clone()).filter(|node| !node.is_empty()),
        error: row.error.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Stack;

    #[test]
    fn changes_of_tasks_are_reported_once() {
        let row = |id: &str, current: &str| {
            let line = format!("{id}\thops_a.1\ti\tn\tRunning\t{current} now\t");
            Stack::default().task_row(&line).unwrap()
        };
        let mut known = BTreeMap::new();
        let mut check = |rows: &[TaskRow], expected: &[(&str, &str)]| {
            let changes = task_changes(&mut known, rows);
            let changes: Vec<_> =
                changes.iter().map(|task| (task.process.as_str(), task.state.as_str())).collect();
            assert_eq!(changes, expected);
        };
        check(&[row("a", "Running"), row("old", "Failed")], &[("a", "ready")]);
        check(&[row("a", "Running"), row("old", "Failed")], &[]);
        check(&[row("b", "Starting"), row("a", "Failed")], &[("b", "starting"), ("a", "gone")]);
        check(&[row("a", "Failed")], &[("b", "gone")]);
    }
}
