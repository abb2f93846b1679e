//! Tasks of `docker service ps`.

use super::{Stack, docker::docker};
use crate::failure::Result;

/// Task of the stack on any node, which may have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    /// Name of the task, as in `vipservice.1`.
    pub(crate) task: String,
    /// Image without its digest.
    pub(crate) image: String,
    /// Name of the node; empty if the task has none yet.
    pub(crate) node: String,
    /// Time of its state in Docker's words, as in `3 minutes ago`.
    pub(crate) since: String,
    pub(crate) error: Option<String>,
    desired: String,
    current: String,
}

impl Stack {
    /// Returns the tasks of these services, of each slot the newest first.
    pub(crate) async fn task_rows(&self, services: &[String]) -> Result<Vec<TaskRow>> {
        if services.is_empty() {
            return Ok(vec![]);
        }
        let names: Vec<_> = services.iter().map(|name| format!("{}_{name}", self.name)).collect();
        let format =
            "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}";
        let mut arguments = vec!["service", "ps", "--no-trunc", "--format", format];
        arguments.extend(names.iter().map(String::as_str));
        Ok(docker(&arguments).await?.lines().filter_map(|line| self.task_row(line)).collect())
    }

    /// Parses a line of [`task_rows`](Self::task_rows).
    pub(crate) fn task_row(&self, line: &str) -> Option<TaskRow> {
        let cells: Vec<_> = line.split('\t').collect();
        let [id, name, image, node, desired, current, error] = cells.try_into().ok()?;
        // An earlier task of a slot is indented, as in ` \_ hops_vipservice.1`.
        let task = self.without_prefix(name.trim_start_matches([' ', '\\', '_']))?;
        let (current, since) = current.split_once(' ').unwrap_or((current, ""));
        let error = error.trim_matches('"');
        Some(TaskRow {
            id: id.into(),
            task: task.into(),
            image: image.split('@').next().unwrap_or_default().into(),
            node: node.into(),
            since: since.into(),
            error: (!error.is_empty()).then(|| error.to_owned()),
            desired: desired.into(),
            current: current.into(),
        })
    }
}

impl TaskRow {
    /// Returns the state: ready, starting, stopping or gone.
    pub(crate) fn state(&self) -> &'static str {
        // A swarm calls a task running when its health check has succeeded.
        match (self.current.as_str(), self.desired.as_str()) {
            ("Running", "Running") => "ready",
            ("Running", _) => "stopping",
            ("Failed" | "Rejected" | "Shutdown" | "Complete" | "Remove" | "Orphaned", _) => "gone",
            (_, "Running" | "Ready") => "starting",
            _ => "gone",
        }
    }

    /// Returns the service and the slot; `None` for the task of a service that has one on each node.
    pub(crate) fn place(&self) -> Option<(&str, u32)> {
        let (service, slot) = self.task.rsplit_once('.')?;
        Some((service, slot.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_docker_are_tasks_with_node_image_and_state() {
        let stack = Stack::default();
        let line =
            "abc\thops_vipservice.2\thops/vipservice:12ab@sha256:00\tnode1\tRunning\tRunning 3 seconds ago\t";
        let task = stack.task_row(line).unwrap();
        assert_eq!((task.place(), task.state()), (Some(("vipservice", 2)), "ready"));
        assert_eq!((task.image.as_str(), task.node.as_str()), ("hops/vipservice:12ab", "node1"));
        assert_eq!((task.since.as_str(), task.error), ("3 seconds ago", None));
        for (desired, current, state) in [
            ("Running", "Starting 1 second ago", "starting"),
            ("Running", "Pending about a minute ago", "starting"),
            ("Ready", "Assigned 1 second ago", "starting"),
            ("Shutdown", "Running 1 second ago", "stopping"),
            ("Shutdown", "Failed 5 seconds ago", "gone"),
            ("Shutdown", "Shutdown 5 seconds ago", "gone"),
            ("Running", "Failed 5 seconds ago", "gone"),
        ] {
            let line =
                format!("abc\t \\_ hops_a.1\ti\tn\t{desired}\t{current}\t\"task: non-zero exit (137)\"");
            let task = stack.task_row(&line).unwrap();
            assert_eq!((task.task.as_str(), task.state()), ("a.1", state), "{line}");
            assert_eq!(task.error.as_deref(), Some("task: non-zero exit (137)"));
        }
        assert_eq!(stack.task_row("abc\tother_a.1\ti\tn\tRunning\tRunning\t"), None);
    }
}
