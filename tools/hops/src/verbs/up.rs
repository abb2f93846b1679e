//! `up`: builds and starts the system of a checkout.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};

use crate::{
    binaries,
    broker_url::BrokerUrl,
    cli::Up,
    command_lock::CommandLock,
    control::{Reply, Request, SOCKET, ask, status},
    failure::Result,
    live,
    logs::{Lines, LogLine, Tail},
    plan::{Kind, Plan, plan},
    ports,
    project::Project,
    render::Screen,
    secrets::{self, Login},
    signals::StopSignals,
    state,
};

/// Time within which the supervisor answers its first command.
const SUPERVISOR_START_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Builds and starts the system, and waits until it is ready; then, without `detach`, shows its events and its
/// logs until Ctrl-C or another signal to stop, and stops it. If a task cannot start, it stops the others, too.
///
/// # Errors
/// The system cannot be built or started, or a task cannot start or is not ready in time.
pub async fn up(project: &Project, screen: Screen, options: &Up) -> Result<()> {
    let external_broker = options.broker.as_deref().map(BrokerUrl::parse).transpose()?;
    let lock = CommandLock::take(project).await?;
    if state::is_supervisor_running(project) {
        return already_up(project, screen, external_broker.as_ref()).await;
    }
    let stopped = state::stop_orphans(project).await?;
    if !stopped.is_empty() {
        screen.text(&format!("the earlier supervisor was killed; stopped its tasks: {}", stopped.join(", ")));
    }

    let compose = project.compose()?;
    let mut plan = plan(&compose, project, external_broker, ports::choose)?;
    let binaries = binaries::prepare(project, &plan, options.release, |line| screen.text(line))?;
    binaries::remove_others(project, &binaries);
    let login = login(&mut plan);
    secrets::write(project, &compose.secrets, &login)?;
    state::save_plan(project, &plan)?;

    // From here on a signal stops the supervisor, too, once it listens.
    let mut signals = StopSignals::listen()?;
    let mut tail = Tail::new(project.path("logs"), &[]);
    tail.skip();
    let mut supervisor = start_supervisor(project, &binaries)?;
    wait_until_listening(project, &mut supervisor).await?;
    let following = async {
        let picture = if options.no_live { None } else { Some(super::live::address_or_why(project).await) };
        drop(lock);
        follow(project, screen, &plan, picture.as_deref(), (!options.detach).then_some(tail)).await
    };
    tokio::select! {
        followed = following => followed,
        signal = signals.received() => {
            screen.text(&format!("{signal}: stopping the system"));
            tokio::select! {
                stopped = super::down::stop(project, screen) => stopped?,
                again = signals.received() => {
                    bail!("{again}: not waiting any longer; the tasks that still run are killed when their time to stop is over");
                }
            }
            if options.detach { bail!("the system was stopped before it was ready") } else { Ok(()) }
        }
    }
}

/// Shows events. Returns when the system has started; with the tail of the logs it shows these, too, and returns when the
/// system is down.
async fn follow(
    project: &Project,
    screen: Screen,
    plan: &Plan,
    picture: Option<&str>,
    tail: Option<Tail>,
) -> Result<()> {
    let detach = tail.is_none();
    let (mut not_ready, mut cannot_start, is_started) = (vec![], None, Cell::new(false));
    let on_event = |reply: &Reply| {
        if let Reply::Event(event) = reply {
            screen.event(event);
        }
        if let Reply::CannotStart(why) = reply {
            cannot_start = Some(why.clone());
            return false;
        }
        let Reply::Started(tasks) = reply else { return true };
        is_started.set(true);
        not_ready.clone_from(tasks);
        if not_ready.is_empty() {
            show_next_steps(project, screen, plan, picture, detach);
        } else {
            not_ready.iter().for_each(|why| screen.text(&format!("{why}; the others are ready")));
        }
        !detach
    };
    // The error of a service that cannot start is what this command ends with.
    let is_shown = |line: &LogLine| is_started.get() || !line.text.starts_with("error: ");
    let lines = async {
        match tail {
            Some(tail) => super::logs::follow_new(&mut Lines::Files(tail), screen, false, is_shown).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        followed = ask(&Request::Follow, on_event) => drop(followed?),
        () = lines => {
            // As a closed terminal, which sends a signal.
            return super::down::stop(project, screen).await;
        }
    }
    if let Some(why) = cannot_start {
        super::down::stop(project, screen).await?;
        bail!("{why}; correct this, then `cargo hops up`");
    }
    if detach && !is_started.get() {
        bail!("the system was stopped before it was ready");
    }
    match not_ready.first().filter(|_| detach) {
        None => Ok(()),
        Some(why) => {
            bail!("{why}; `cargo hops service logs` shows its log, `cargo hops down` stops the others")
        }
    }
}

/// Prints the addresses of the system, and what to type next.
fn show_next_steps(project: &Project, screen: Screen, plan: &Plan, picture: Option<&str>, detach: bool) {
    let urls: Vec<_> = plan.services.iter().filter(|service| service.kind == Kind::Service).collect();
    let urls: Vec<_> = urls
        .into_iter()
        .filter_map(|service| Some((service.name.clone(), format!("localhost:{}", service.local_port()?))))
        .collect();
    let url_of = |name: &str| urls.iter().find(|(known, _)| known == name).map_or("", |(_, url)| url);
    let broker = plan.broker.as_ref().map_or_else(|| "none".into(), ToString::to_string);
    let services: BTreeMap<_, _> = urls.iter().cloned().collect();
    let value =
        serde_json::json!({"ready": true, "services": services, "broker": broker, "picture": picture});
    screen.value(&value);
    screen.text("");
    for (name, url) in &urls {
        screen.text(&format!("{name:<18} http://{url}"));
    }
    screen.text(&format!("{:<18} {broker}", "the broker"));
    if let Some(picture) = picture {
        screen.text(&format!("{:<18} {picture}", "the picture"));
    }
    screen.text(&format!("{:<18} {}", "secrets", project.path("secrets").display()));
    screen.text("");
    screen.text("Next, in this folder:");
    screen.text(&format!("    curl {}/accounts/10000", url_of("accountservice")));
    screen.text("    cargo hops walk");
    screen.text("    cargo hops service scale vipservice=3");
    screen.text(&format!("    curl {}/offers/by-replica", url_of("vipservice")));
    screen.text(if detach { "    cargo hops down" } else { "Ctrl-C here stops everything." });
}

async fn already_up(project: &Project, screen: Screen, external_broker: Option<&BrokerUrl>) -> Result<()> {
    let plan = state::load_plan(project)?;
    if external_broker.is_some_and(|broker| plan.broker.as_ref() != Some(broker)) {
        bail!("this checkout is up with another broker: `cargo hops down` first");
    }
    let snapshot = status().await?;
    screen.text(&format!("this checkout is up already, supervised by process {}", snapshot.pid));
    let picture = live::running(project).map(|address| address.url());
    show_next_steps(project, screen, &plan, picture.as_deref(), true);
    Ok(())
}

/// Returns the login of the broker: the one in the URL of an external broker, `guest` for the development broker, whose URL
/// it completes the plan with.
fn login(plan: &mut Plan) -> Login {
    let broker = plan.services.iter().find(|service| service.kind == Kind::Broker);
    if let (None, Some(port)) = (&plan.broker, broker.and_then(|broker| broker.local_port())) {
        let (username, password) = ("guest".to_owned(), "guest".to_owned());
        plan.broker =
            Some(BrokerUrl { host: "127.0.0.1".into(), port, vhost: "/".into(), username, password });
    }
    let login = plan.broker.as_ref().map(|url| (url.username.clone(), url.password.clone()));
    let (username, password) = login.unwrap_or_default();
    Login { username, password }
}

/// Starts the supervisor from a copy of this binary, so that a rebuild does not affect it.
fn start_supervisor(project: &Project, binaries: &Path) -> Result<Child> {
    let copy = binaries.join("hops");
    let this = std::env::current_exe().context("cannot find the binary of this process")?;
    // The copy may be of an older version of the tool, with the same services.
    let _ = fs::remove_file(&copy);
    binaries::copy(&this, &copy)?;
    let log = fs::File::create(project.path("run/supervisor.log"))
        .context("cannot write .hops/run/supervisor.log")?;
    let output = log.try_clone().context("cannot open .hops/run/supervisor.log twice")?;
    let _ = fs::remove_file(SOCKET);
    Command::new(&copy)
        .arg("supervise")
        .arg(binaries)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", copy.display()))
}

async fn wait_until_listening(project: &Project, supervisor: &mut Child) -> Result<()> {
    let deadline = Instant::now() + SUPERVISOR_START_TIMEOUT;
    while status().await.is_err() {
        let exit = supervisor.try_wait().context("cannot wait for the supervisor")?;
        if exit.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(project.path("run/supervisor.log")).unwrap_or_default();
            let why = match log.trim().trim_start_matches("error: ") {
                "" => "it was killed, or the machine is very busy: `cargo hops up` tries again",
                error => error,
            };
            bail!("the supervisor did not start: {why}");
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
