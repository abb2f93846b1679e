//! `up`: from a checkout to a system that is ready.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    binaries,
    broker_url::BrokerUrl,
    control::{Reply, Request, SOCKET, ask, status},
    failure::{Doing as _, Failure, Result},
    plan::{Kind, Plan, plan},
    ports,
    project::Project,
    render::Screen,
    secrets::{self, Login},
    state,
};

/// How long the supervisor may take to listen to commands.
const LISTENS: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Builds, starts, waits until all is ready; then, unless `detach`, shows what happens until Ctrl-C.
///
/// # Errors
/// What is in the way.
pub async fn up(
    project: &Project,
    screen: Screen,
    detach: bool,
    broker: Option<&str>,
    release: bool,
) -> Result<()> {
    let given = broker.map(BrokerUrl::parse).transpose()?;
    state::prepare(project)?;
    if state::is_supervised(project) {
        return already_up(project, screen, given.as_ref()).await;
    }
    let ended = state::end_orphans_if_any(project).await?;
    if !ended.is_empty() {
        screen.say(&format!("an earlier run was killed; ended what it had left: {}", ended.join(", ")));
    }

    let compose = project.compose()?;
    let mut plan = plan(&compose, project, given, ports::choose)?;
    let binaries = binaries::ready(project, &plan, release, |what| screen.say(what))?;
    binaries::remove_others(project, &binaries);
    let login = login(&mut plan);
    secrets::make(project, &compose.secrets, &login)?;
    state::save_plan(project, &plan)?;

    let mut supervisor = start_supervisor(project, &binaries)?;
    until_it_listens(project, &mut supervisor).await?;
    let interrupted = async {
        // Without signals Ctrl-C ends this command alone, and `down` is there.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut interrupted = std::pin::pin!(interrupted);
    let following = follow(project, screen, &plan, detach);
    tokio::select! {
        followed = following => followed,
        () = &mut interrupted => {
            ask(&Request::Down, |reply| { show(screen, reply); true }).await?;
            super::down::until_gone(project).await
        }
    }
}

/// Shows what happens; comes back when the start is over, or, where it stays, when all has ended.
async fn follow(project: &Project, screen: Screen, plan: &Plan, detach: bool) -> Result<()> {
    let mut late = vec![];
    let hear = |reply: &Reply| {
        show(screen, reply);
        let Reply::Started(not_ready) = reply else { return true };
        late.clone_from(not_ready);
        if late.is_empty() {
            next(project, screen, plan, detach);
        } else {
            late.iter().for_each(|why| screen.say(&format!("{why}; the others run")));
        }
        !detach
    };
    ask(&Request::Follow, hear).await?;
    match late.first().filter(|_| detach) {
        None => Ok(()),
        Some(why) => Err(Failure::Why(format!(
            "{why}; `cargo hops service logs` shows its words, `cargo hops down` ends the others"
        ))),
    }
}

fn show(screen: Screen, reply: &Reply) {
    if let Reply::Event(event) = reply {
        screen.event(event);
    }
}

/// What there is now, and what to type next.
fn next(project: &Project, screen: Screen, plan: &Plan, detach: bool) {
    let urls: Vec<_> = plan.services.iter().filter(|service| service.kind == Kind::Service).collect();
    let urls: Vec<_> = urls
        .into_iter()
        .filter_map(|service| Some((service.name.clone(), format!("localhost:{}", service.local_port()?))))
        .collect();
    let url_of = |name: &str| urls.iter().find(|(known, _)| known == name).map_or("", |(_, url)| url);
    let broker = plan.broker.as_ref().map_or_else(|| "none".into(), ToString::to_string);
    screen.value(&serde_json::json!({"ready": true, "services": urls.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(), "broker": broker}));
    screen.say("");
    for (name, url) in &urls {
        screen.say(&format!("{name:<18} http://{url}"));
    }
    screen.say(&format!("{:<18} {broker}", "the broker"));
    screen.say(&format!("{:<18} {}", "secrets", project.path("secrets").display()));
    screen.say("");
    screen.say("Next, in this folder:");
    screen.say(&format!("    curl {}/accounts/10000", url_of("accountservice")));
    screen.say("    cargo hops walk");
    screen.say("    cargo hops service scale vipservice=3");
    screen.say(&format!("    curl {}/offers/by-replica", url_of("vipservice")));
    screen.say(if detach { "    cargo hops down" } else { "Ctrl-C here takes it all down." });
}

async fn already_up(project: &Project, screen: Screen, given: Option<&BrokerUrl>) -> Result<()> {
    let plan = state::load_plan(project)?;
    if given.is_some_and(|given| plan.broker.as_ref() != Some(given)) {
        return Err("this checkout is up with another broker: `cargo hops down` first".into());
    }
    let snapshot = status().await?;
    screen.say(&format!("this checkout is up already, process {} watches it", snapshot.pid));
    next(project, screen, &plan, true);
    Ok(())
}

/// Whom the broker lets in: the given one says so in its address.
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

/// A process of its own, from a copy of this binary, so that neither a rebuild nor a closed terminal reaches it.
fn start_supervisor(project: &Project, binaries: &Path) -> Result<Child> {
    let copy = binaries.join("hops");
    let this = std::env::current_exe().doing(|| "find this binary".into())?;
    // The copy of a build that has the same services may be of an older tool.
    let _ = fs::remove_file(&copy);
    binaries::copy(&this, &copy)?;
    let log = fs::File::create(project.path("run/supervisor.log"))
        .doing(|| "write .hops/run/supervisor.log".into())?;
    let both = log.try_clone().doing(|| "open a file twice".into())?;
    let _ = fs::remove_file(SOCKET);
    Command::new(&copy)
        .arg("supervise")
        .arg(binaries)
        .stdin(Stdio::null())
        .stdout(both)
        .stderr(log)
        .spawn()
        .doing(|| format!("start {}", copy.display()))
}

async fn until_it_listens(project: &Project, supervisor: &mut Child) -> Result<()> {
    let deadline = Instant::now() + LISTENS;
    while status().await.is_err() {
        let ended = supervisor.try_wait().doing(|| "watch the supervisor".into())?;
        if ended.is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(project.path("run/supervisor.log")).unwrap_or_default();
            let said = match said.trim().trim_start_matches("error: ") {
                "" => "it was killed, or the machine is very busy: `cargo hops up` tries again",
                said => said,
            };
            return Err(Failure::Why(format!("the supervisor did not start: {said}")));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
