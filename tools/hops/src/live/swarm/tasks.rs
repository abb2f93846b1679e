//! Tasks of `docker service ps` as the page's events.

use std::collections::BTreeMap;

use live::event::Task;

use super::docker::{STACK, docker, services};
use crate::failure::Result;

/// Row of `docker service ps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskRow {
    id: String,
    name: String,
    image: String,
    node: String,
    desired: String,
    current: String,
    error: String,
}

pub(super) async fn task_rows() -> Result<Vec<TaskRow>> {
    let names: Vec<_> = services().await?.iter().map(|name| format!("{STACK}_{name}")).collect();
    if names.is_empty() {
        return Ok(vec![]);
    }
    let format =
        "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}";
    let mut arguments = vec!["service", "ps", "--no-trunc", "--format", format];
    arguments.extend(names.iter().map(String::as_str));
    Ok(docker(&arguments).await?.lines().filter_map(task_row).collect())
}

fn task_row(line: &str) -> Option<TaskRow> {
    let cells: Vec<_> = line.split('\t').map(str::to_owned).collect();
    let [id, name, image, node, desired, current, error] = cells.try_into().ok()?;
    // An earlier task of a slot is indented, as in ` \_ hops_vipservice.1`.
    let name = name.trim_start_matches([' ', '\\', '_']).strip_prefix(STACK)?.strip_prefix('_')?.to_owned();
    Some(TaskRow { id, name, image, node, desired, current, error })
}

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
    let (service, slot) = row.name.rsplit_once('.')?;
    // A swarm calls a task running when its health check has succeeded.
    let state = match (row.current.split(' ').next()?, row.desired.as_str()) {
        ("Running", "Running") => "ready",
        ("Running", _) => "stopping",
        ("Failed" | "Rejected" | "Shutdown" | "Complete" | "Remove" | "Orphaned", _) => "gone",
        (_, "Running" | "Ready") => "starting",
        _ => "gone",
    };
    // The image without its digest.
    let image = row.image.split('@').next().unwrap_or_default().to_owned();
    Some(Task {
        task: row.name.clone(),
        service: service.to_owned(),
        slot: slot.parse().ok()?,
        process: row.id.clone(),
        state: state.into(),
        pid: None,
        image: Some(image),
        node: Some(row.node.clone()).filter(|node| !node.is_empty()),
        error: Some(row.error.trim_matches('"').to_owned()).filter(|error| !error.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_docker_are_tasks_with_node_and_image() {
        let row = |line| task_row(line).and_then(|row| shown(&row));
        let task = row(
            "abc\thops_vipservice.2\thops/vipservice:12ab@sha256:00\tnode1\tRunning\tRunning 3 seconds ago\t",
        )
        .unwrap();
        assert_eq!((task.task.as_str(), task.slot, task.state.as_str()), ("vipservice.2", 2, "ready"));
        assert_eq!(
            (task.image.as_deref(), task.node.as_deref()),
            (Some("hops/vipservice:12ab"), Some("node1"))
        );
        for (desired, current, state) in [
            ("Running", "Starting 1 second ago", "starting"),
            ("Ready", "Assigned 1 second ago", "starting"),
            ("Shutdown", "Running 1 second ago", "stopping"),
            ("Shutdown", "Failed 5 seconds ago", "gone"),
            ("Shutdown", "Shutdown 5 seconds ago", "gone"),
            ("Running", "Failed 5 seconds ago", "gone"),
        ] {
            let line =
                format!("abc\t \\_ hops_a.1\ti\tn\t{desired}\t{current}\t\"task: non-zero exit (137)\"");
            let task = task_row(&line).and_then(|row| shown(&row)).unwrap();
            assert_eq!((task.task.as_str(), task.state.as_str()), ("a.1", state), "{line}");
            assert_eq!(task.error.as_deref(), Some("task: non-zero exit (137)"));
        }
        assert_eq!(task_row("abc\tother_a.1\ti\tn\tRunning\tRunning\t"), None);
    }

    #[test]
    fn changes_of_tasks_are_reported_once() {
        let row = |id: &str, current: &str| {
            task_row(&format!("{id}\thops_a.1\ti\tn\tRunning\t{current} now\t")).unwrap()
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
