//! `service ls | ps | scale | update`, as Docker prints them.

use anyhow::{anyhow, bail};

use super::{service_of, unknown_service, wait};
use crate::{
    binaries,
    cli::Scale,
    command_lock::CommandLock,
    control::{OTHER_VERSION, Phase, Reply, Request, TaskStatus, ask, scaled_to, status},
    failure::Result,
    plan::{Want, plan},
    project::Project,
    render::{Screen, ago},
    state,
};

/// Lists the services.
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
        let ports: Vec<_> =
            ports.map(|port| format!("127.0.0.1:{}->{}/tcp", port.local, port.target)).collect();
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

/// Lists the tasks of a service, including those that have exited.
///
/// # Errors
/// Nothing is up, or there is no such service.
pub async fn ps(screen: Screen, name: &str) -> Result<()> {
    let snapshot = status().await?;
    let service = snapshot.services.iter().find(|service| service.name == name);
    let names = snapshot.services.iter().map(|service| service.name.as_str());
    let service = service.ok_or_else(|| unknown_service(name, names))?;
    if screen.json {
        service.tasks.iter().chain(&service.past).for_each(|task| screen.value(task));
        return Ok(());
    }
    let row = |task: &TaskStatus, prefix: &str, desired_state: &str| {
        let short_id: String = task.id.chars().take(12).collect();
        let state = match task.phase {
            Phase::Starting => "Starting",
            Phase::Ready => "Running",
            Phase::Running => "Running, not ready",
            Phase::Paused => "Paused",
            Phase::Stopping => "Stopping",
            Phase::Waiting => "Restarting",
            Phase::Failed => "Failed",
            Phase::Complete => "Complete",
        };
        let error = task.error.as_ref().map_or_else(String::new, |error| format!("\"task: {error}\""));
        let text = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
        vec![
            short_id,
            format!("{prefix}hops_{}", task.name),
            service.image.clone(),
            desired_state.into(),
            format!("{state} {}", ago(task.since)),
            text(task.pid),
            text(task.port.map(u32::from)),
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

/// Changes the number of tasks, and returns when they are ready. Changes nothing if one of several changes is not possible.
///
/// # Errors
/// There is no such service, it cannot have so many tasks, or a task does not become ready.
pub async fn scale(project: &Project, screen: Screen, scales: &[Scale]) -> Result<()> {
    let plan = state::load_plan(project)?;
    for Scale { service, replicas } in scales {
        service_of(&plan, service)?.check_replicas(*replicas)?;
    }
    for Scale { service, replicas } in scales {
        let request = Request::Scale { service: service.clone(), replicas: *replicas };
        let on_event = |event: &str| {
            if event == scaled_to(*replicas) {
                screen.text(&format!("hops_{service} scaled to {replicas}"));
            }
        };
        let done = ask_and_show(screen, &request, service, on_event).await?;
        if *replicas > 0 {
            wait::for_broker(&plan, service).await?;
        }
        screen.text(&format!("overall progress: {done}"));
        screen.text("verify: Service converged");
        screen.value(&serde_json::json!({"service": service, "replicas": replicas, "converged": true}));
    }
    Ok(())
}

/// Replaces the tasks of these services by new ones from a new build, one service after the other.
///
/// # Errors
/// There is no such service, nothing has changed, or a new task does not become ready.
pub async fn update(project: &Project, screen: Screen, names: &[String], force: bool) -> Result<()> {
    // A `down` waits until the build is done, and then removes it, too.
    let lock = CommandLock::take_if_used(project).await?;
    super::require_running(project)?;
    let running = state::load_plan(project)?;
    let external_broker = running.broker.clone().filter(|_| running.broker_is_external);
    // The forwarders keep their ports.
    let local = |want: Want, service: &str| {
        let ports = running.services.iter().find(|known| known.name == service).map(|known| &known.ports);
        let (Want::Fixed(port) | Want::Preferred(port)) = want;
        let found = ports
            .and_then(|ports| ports.iter().find(|p| p.local == port || project.shifted(p.target) == port));
        found
            .map(|port| port.local)
            .ok_or_else(|| anyhow!("{service} has a new port: `cargo hops down`, then `cargo hops up`"))
    };
    let new = plan(&project.compose()?, project, external_broker, local)?;
    for name in names {
        if service_of(&running, name)? == service_of(&new, name)? && !force {
            bail!(
                "nothing has changed for {name} in docker-compose.yml: `cargo hops update {name}` replaces its tasks \
                 all the same"
            );
        }
    }
    let binaries = binaries::prepare(project, &new, false, |line| screen.text(line))?;
    drop(lock);
    for name in names {
        let request = Request::Update {
            service: Box::new(service_of(&new, name)?.clone()),
            binaries: binaries.to_string_lossy().into_owned(),
        };
        screen.text(&format!("hops_{name}"));
        let done = ask_and_show(screen, &request, name, |_| ()).await?;
        wait::for_broker(&running, name).await?;
        screen.text(&format!("overall progress: {done}"));
        screen.text("verify: Service converged");
        screen.value(&serde_json::json!({"service": name, "converged": true}));
    }
    Ok(())
}

/// Sends a request, shows the events of the service until it is done, and returns the result. Calls `on_event` with each event
/// of the service itself before it is shown.
async fn ask_and_show(
    screen: Screen,
    request: &Request,
    service: &str,
    on_event: impl Fn(&str),
) -> Result<String> {
    let on_reply = |reply: &Reply| {
        if let Reply::Event(event) = reply
            && event.who.split('.').next() == Some(service)
        {
            if event.who == service {
                on_event(&event.what);
            }
            screen.event(event);
        }
        true
    };
    match ask(request, on_reply).await? {
        Reply::Done(done) => Ok(done),
        _ => bail!(OTHER_VERSION),
    }
}
