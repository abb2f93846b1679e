//! `service ls | ps | logs | scale | update` and `kill`, as Docker prints them.

use std::time::Duration;

use tokio::time::sleep;

use super::{service_of, snapshot_with};
use crate::{
    binaries,
    cli::task_name,
    control::{Phase, Reply, Request, TaskStatus, ask, status},
    failure::{Failure, Result},
    logs::{Line, Tail},
    plan::{Want, plan},
    project::Project,
    render::{Screen, ago},
    state,
};

/// Between two looks at the logs.
const LOOKS: Duration = Duration::from_millis(50);

/// The services.
///
/// # Errors
/// Nothing is up.
pub async fn ls(screen: Screen) -> Result<()> {
    let snapshot = status().await?;
    if screen.json {
        snapshot.services.iter().for_each(|service| screen.value(service));
        return Ok(());
    }
    let rows = snapshot.services.iter().map(|service| {
        let ports = service.ports.iter().filter(|port| port.is_published);
        let ports: Vec<_> = ports.map(|port| format!("*:{}->{}/tcp", port.local, port.target)).collect();
        vec![
            format!("hops_{}", service.name),
            "replicated".into(),
            format!("{}/{}", service.ready, service.replicas),
            service.image.clone(),
            ports.join(", "),
        ]
    });
    screen.table(&["NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"], &rows.collect::<Vec<_>>());
    Ok(())
}

/// The tasks of a service, and those that were.
///
/// # Errors
/// Nothing is up, or there is no such service.
pub async fn ps(screen: Screen, name: &str) -> Result<()> {
    let snapshot = snapshot_with(name).await?;
    let service = snapshot.services.iter().find(|service| service.name == name);
    let Some(service) = service else { return Ok(()) };
    if screen.json {
        service.tasks.iter().chain(&service.past).for_each(|task| screen.value(task));
        return Ok(());
    }
    let row = |task: &TaskStatus, prefix: &str, desired: &str| {
        let short: String = task.id.chars().take(12).collect();
        let word = match task.phase {
            Phase::Starting => "Starting",
            Phase::Ready => "Running",
            Phase::Running => "Running, not ready",
            Phase::Stopping => "Stopping",
            Phase::Waiting => "Restarting",
            Phase::Failed => "Failed",
            Phase::Complete => "Complete",
        };
        let error = task.error.as_ref().map_or_else(String::new, |error| format!("\"task: {error}\""));
        let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
        vec![
            short,
            format!("{prefix}hops_{}", task.name),
            service.image.clone(),
            desired.into(),
            format!("{word} {}", ago(task.since)),
            number(task.pid),
            number(task.port.map(u32::from)),
            error,
        ]
    };
    let mut rows = vec![];
    let mut past: Vec<_> = service.past.iter().collect();
    for task in &service.tasks {
        rows.push(row(task, "", "Running"));
        rows.extend(
            past.iter()
                .filter(|old| old.slot == task.slot && old.id != task.id)
                .map(|old| row(old, " \\_ ", "Shutdown")),
        );
        past.retain(|old| old.slot != task.slot);
    }
    rows.extend(past.into_iter().map(|old| row(old, "", "Shutdown")));
    let head = ["ID", "NAME", "IMAGE", "DESIRED STATE", "CURRENT STATE", "PID", "PORT", "ERROR"];
    screen.table(&head, &rows);
    Ok(())
}

/// What the tasks print, from the beginning; of one request where that is wanted.
///
/// # Errors
/// There is no such service.
pub async fn logs(
    project: &Project,
    screen: Screen,
    names: &[String],
    follow: bool,
    request: Option<&str>,
) -> Result<()> {
    let plan = state::load_plan(project)?;
    for name in names {
        let service = task_name(name).map_or_else(|_| name.clone(), |(service, _)| service);
        service_of(&plan, &service)?;
    }
    let is_wanted = |line: &Line| request.is_none_or(|id| line.is_of(id));
    let mut tail = Tail::new(project.path("logs"), names);
    loop {
        for line in tail.read_on().iter().filter(|line| is_wanted(line)) {
            match screen.json {
                true => screen.line(&serde_json::json!({"task": line.task, "line": line.text}).to_string()),
                false => screen.of(&line.task, &format!("| {}", line.shown())),
            }
        }
        if !follow {
            return Ok(());
        }
        sleep(LOOKS).await;
    }
}

/// More or fewer replicas; comes back when they are ready.
///
/// # Errors
/// There is no such service, or one does not become ready.
pub async fn scale(screen: Screen, wanted: &[(String, u32)]) -> Result<()> {
    for (service, replicas) in wanted {
        snapshot_with(service).await?;
        let request = Request::Scale { service: service.clone(), replicas: *replicas };
        screen.say(&format!("hops_{service} scaled to {replicas}"));
        let done = shown(screen, &request, service).await?;
        screen.say(&format!("overall progress: {done}"));
        screen.say("verify: Service converged");
        screen.value(&serde_json::json!({"service": service, "replicas": replicas, "converged": true}));
    }
    Ok(())
}

/// New tasks for old ones, of what is built now.
///
/// # Errors
/// There is no such service, or a new task does not become ready.
pub async fn update(project: &Project, screen: Screen, name: &str, force: bool) -> Result<()> {
    snapshot_with(name).await?;
    let running = state::load_plan(project)?;
    let given = running.broker.clone().filter(|_| running.broker_is_given);
    // Ports stay as they are: the forwarder has them, and others know them.
    let local = |want: Want, service: &str| {
        let ports = running.services.iter().find(|known| known.name == service).map(|known| &known.ports);
        let (Want::Fixed(port) | Want::Rather(port)) = want;
        let found = ports
            .and_then(|ports| ports.iter().find(|p| p.local == port || project.shifted(p.target) == port));
        found.map(|port| port.local).ok_or_else(|| {
            Failure::Why(format!("{service} has a new port: `cargo hops down`, then `cargo hops up`"))
        })
    };
    let new = plan(&project.compose()?, project, given, local)?;
    let binaries = binaries::ready(project, &new, false, |what| screen.say(what))?;
    let old = service_of(&running, name)?;
    let service = service_of(&new, name)?;
    if !force && old == service {
        return Err(Failure::Why(format!(
            "docker-compose.yml says of {name} what it has said: `cargo hops service update --force {name}` for new \
             tasks all the same"
        )));
    }
    let request = Request::Update {
        service: Box::new(service.clone()),
        binaries: binaries.to_string_lossy().into_owned(),
    };
    screen.say(&format!("hops_{name}"));
    let done = shown(screen, &request, name).await?;
    screen.say(&format!("overall progress: {done}"));
    screen.say("verify: Service converged");
    screen.value(&serde_json::json!({"service": name, "converged": true}));
    Ok(())
}

/// `kill -9` one task.
///
/// # Errors
/// It does not run.
pub async fn kill(screen: Screen, task: &str) -> Result<()> {
    let (service, slot) = task_name(task)?;
    match ask(&Request::Kill { service, slot }, |_| true).await? {
        Reply::Done(done) => screen.say(&done),
        _ => return Err("the supervisor is of another version".into()),
    }
    screen.value(&serde_json::json!({"killed": task}));
    Ok(())
}

/// Asks, and shows the events of that service until it is done.
async fn shown(screen: Screen, request: &Request, service: &str) -> Result<String> {
    let hear = |reply: &Reply| {
        if let Reply::Event(event) = reply
            && event.who.split('.').next() == Some(service)
        {
            screen.event(event);
        }
        true
    };
    match ask(request, hear).await? {
        Reply::Done(done) => Ok(done),
        _ => Err("the supervisor is of another version: `cargo hops down`, then `cargo hops up`".into()),
    }
}
