//! `status`: lists everything that runs, with its memory.
//!
//! - `swarm`: the same for the stack on Docker Swarm

mod swarm;

use std::{collections::BTreeMap, process::Command};

use serde_json::json;

pub(crate) use self::swarm::of_swarm;
use crate::{
    control::status as ask_status,
    failure::Result,
    live,
    plan::DEVBROKER,
    project::Project,
    render::{Screen, ago},
};

/// Prints the status of all tasks, of the supervisor and of the page's server.
///
/// # Errors
/// Nothing is up.
pub async fn status(project: &Project, screen: Screen) -> Result<()> {
    let snapshot = ask_status().await?;
    let tasks: Vec<_> = snapshot.services.iter().flat_map(|service| &service.tasks).collect();
    let mut pids: Vec<_> = tasks.iter().filter_map(|task| task.pid).collect();
    pids.push(snapshot.pid);
    let picture = live::running(project);
    pids.extend(picture.as_ref().map(|picture| picture.pid));
    let memory = memory(&pids);
    if screen.json {
        let memory: BTreeMap<_, _> = memory.iter().map(|(pid, kib)| (pid.to_string(), kib)).collect();
        screen.value(&json!({"status": snapshot, "memoryKib": memory}));
        return Ok(());
    }
    let memory_of = |pid: Option<u32>| {
        let kib = pid.and_then(|pid| memory.get(&pid));
        kib.map_or_else(String::new, |kib| format!("{:.1} MiB", *kib as f64 / 1024.0))
    };
    let text = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    let mut rows = vec![];
    for task in tasks {
        rows.push(vec![
            task.name.clone(),
            format!("{:?}", task.phase).to_lowercase(),
            ago(task.since),
            text(task.pid),
            text(task.port.map(u32::from)),
            memory_of(task.pid),
            task.error.clone().unwrap_or_default(),
        ]);
    }
    let blank = String::new;
    let other = |name: &str, since, pid, port| {
        vec![name.into(), blank(), since, text(Some(pid)), port, memory_of(Some(pid)), blank()]
    };
    rows.push(other("supervisor", ago(snapshot.since), snapshot.pid, blank()));
    rows.extend(picture.map(|it| other("the picture", blank(), it.pid, it.port.to_string())));
    screen.table(&["TASK", "STATE", "SINCE", "PID", "PORT", "MEMORY", "LAST ERROR"], &rows);
    screen.line("");
    // The broker's address is in a line of its own.
    for service in snapshot.services.iter().filter(|service| service.image != DEVBROKER) {
        for port in service.ports.iter().filter(|port| port.is_published) {
            screen.line(&format!("{:<18} http://localhost:{}", service.name, port.local));
        }
    }
    screen.line(&format!("{:<18} {}", "the broker", snapshot.broker.unwrap_or_default()));
    screen.line(&format!("{:<18} {}", "files", project.path("").display()));
    Ok(())
}

/// Returns the resident memory of processes in KiB, from `ps`, which Linux and macOS both have.
fn memory(pids: &[u32]) -> BTreeMap<u32, u64> {
    let list: Vec<_> = pids.iter().map(ToString::to_string).collect();
    let output = Command::new("ps").args(["-o", "pid=,rss=", "-p", &list.join(",")]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pair = |line: &str| {
        let (pid, kib) = line.trim().split_once(char::is_whitespace)?;
        Some((pid.parse().ok()?, kib.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_some_memory() {
        let this = std::process::id();
        assert!(memory(&[this])[&this] > 100);
    }
}
