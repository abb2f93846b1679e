//! The status of the stack on Docker Swarm: its tasks, as their services see themselves, and its queues.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;

use crate::{
    broker::Queue,
    failure::Result,
    project::Project,
    render::Screen,
    swarm::{Container, Management, Stack, TaskRow, is_ours},
    verbs::queues::show_list,
};

/// Task that runs, or is about to.
#[derive(Debug, Serialize)]
struct Shown {
    task: String,
    /// Ready, running but not ready, starting or stopping.
    state: &'static str,
    since: String,
    node: String,
    image: String,
    error: Option<String>,
}

/// Prints the tasks of the stack, its queues and its addresses.
pub(crate) async fn of_swarm(project: &Project, screen: Screen) -> Result<()> {
    let stack = Stack::of(project);
    let services = stack.deployed_services().await?;
    let (rows, containers) = tokio::try_join!(stack.task_rows(&services), stack.containers())?;
    let mut at_hand: Vec<_> = rows.iter().filter(|row| row.state() != "gone").collect();
    at_hand.sort_by_key(|row| row.place());
    let tasks = at_hand.into_iter().map(|row| shown(row, &rows, &containers));
    let (tasks, queues) = tokio::join!(join_all(tasks), queues(&stack, &containers));

    let addresses = stack.ports.map(|(service, port)| (service, format!("http://127.0.0.1:{port}")));
    if screen.json {
        let (queues, addresses) = (queues.ok(), BTreeMap::from(addresses));
        screen.value(&json!({"tasks": tasks, "queues": queues, "addresses": addresses}));
        return Ok(());
    }
    let row = |task: Shown| {
        let state = task.state.to_owned();
        vec![task.task, state, task.since, task.node, task.image, task.error.unwrap_or_default()]
    };
    let rows: Vec<_> = tasks.into_iter().map(row).collect();
    screen.table(&["TASK", "STATE", "SINCE", "NODE", "IMAGE", "LAST ERROR"], &rows);
    screen.line("");
    match queues {
        Ok(queues) => show_list(screen, queues),
        // A file of this machine, such as the broker's login, is not the broker's fault.
        Err(why) if why.root_cause().is::<std::io::Error>() => screen.line(&format!("{why:#}")),
        Err(_) => screen.line("the broker does not answer yet"),
    }
    screen.line("");
    addresses.iter().for_each(|(service, address)| screen.line(&format!("{service:<18} {address}")));
    Ok(())
}

/// Returns a task as its service sees itself, if its container can be asked.
async fn shown(row: &TaskRow, all: &[TaskRow], containers: &[Container]) -> Shown {
    let container = containers.iter().find(|it| it.is_running && it.task_id == row.id);
    let is_ours = row.place().is_none_or(|(service, _)| is_ours(service));
    let answer = match container.filter(|_| is_ours) {
        Some(container) => Some(container.readiness().await),
        None => None,
    };
    // Of a task on another node only Docker's word is known.
    let is_ready = row.state() == "ready" && (!is_ours || answer == Some(Ok(())));
    let state = if row.state() == "ready" && !is_ready { "running" } else { row.state() };
    let reason = answer.and_then(Result::err);
    let is_earlier = |other: &&TaskRow| other.task == row.task && other.state() == "gone";
    let earlier = all.iter().find(is_earlier).filter(|_| !is_ready).and_then(|it| it.error.as_ref());
    Shown {
        task: row.task.clone(),
        state,
        since: row.since.clone(),
        node: row.node.clone(),
        image: row.image.clone(),
        error: reason.or_else(|| row.error.clone()).or_else(|| earlier.cloned()),
    }
}

/// Returns the queues that are not those of one connection.
async fn queues(stack: &Stack, containers: &[Container]) -> Result<Vec<Queue>> {
    let broker = containers.iter().find(|it| it.is_running && it.service() == "rabbitmq");
    let broker = broker.context("the broker does not run on this machine")?;
    let mut queues = Management::in_container(stack.clone(), broker.id.clone()).all_queues().await?;
    queues.retain(|queue| !queue.exclusive);
    Ok(queues)
}
