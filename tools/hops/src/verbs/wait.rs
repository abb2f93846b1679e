//! `wait`: returns when something is so, and says what was seen. It asks the tasks themselves, since what the supervisor
//! knows may be half a second old.

use std::{fmt::Display, time::Duration};

use anyhow::bail;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{client, queues::broker_address, service_of};
use crate::{
    cli::Condition,
    control::{Phase, Snapshot, status},
    failure::Result,
    plan::{Kind, Plan},
    project::Project,
    render::Screen,
    state,
    supervisor::probe::Probe,
};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time limit for one request to a task.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Time within which the services connect again to their broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Description of the state that was seen: `Ok` if the condition is met.
type Seen = Result<String, String>;

/// Waits until the condition is met, and prints what was seen.
///
/// # Errors
/// It is not met within the limit, with what was seen last; or the system stops, or there is no such service.
pub async fn wait(project: &Project, screen: Screen, condition: &Condition, seconds: u64) -> Result<()> {
    let (plan, started) = (state::load_plan(project)?, Instant::now());
    let seen = until(Duration::from_secs(seconds), async || look(project, &plan, condition).await).await?;
    let seconds = started.elapsed().as_secs_f64();
    screen.text(&format!("{seen}, after {seconds:.1} s"));
    screen.value(&json!({"seen": seen, "seconds": seconds}));
    Ok(())
}

/// If this service is the broker, waits until all services are connected to it, apart from paused tasks.
pub(super) async fn for_broker(plan: &Plan, name: &str) -> Result<()> {
    let connected = async || Ok(ready(plan, &status().await?, &[], true).await);
    match service_of(plan, name)?.kind {
        Kind::Broker => until(CONNECT_TIMEOUT, connected).await.map(drop),
        Kind::Service => Ok(()),
    }
}

async fn until(limit: Duration, look: impl AsyncFn() -> Result<Seen>) -> Result<String> {
    let started = Instant::now();
    loop {
        match look().await? {
            Ok(seen) => return Ok(seen),
            Err(seen) if started.elapsed() >= limit => bail!("waited {} s: {seen}", limit.as_secs()),
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

async fn look(project: &Project, plan: &Plan, condition: &Condition) -> Result<Seen> {
    let snapshot = status().await?;
    Ok(match condition {
        Condition::Ready { names } => {
            names.iter().try_for_each(|name| service_of(plan, name).map(drop))?;
            ready(plan, &snapshot, names, false).await
        }
        Condition::Queue { messages: (queue, wanted) } => {
            match broker_address(Some(project), None).await?.ready(queue).await {
                Ok(Some(ready)) => {
                    seen(ready == *wanted, format!("{queue} has {}", some(ready.into(), "message")), wanted)
                }
                Ok(None) => Err(format!("there is no queue {queue}")),
                Err(error) => Err(format!("{error:#}")),
            }
        }
        Condition::Offers { count } => {
            let shows = |offers: Value| {
                let offers = offers.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
                seen(offers >= *count, format!("shows {}", some(offers, "offer")), count)
            };
            each(&snapshot, "vipservice", "/offers/by-replica", shows).await
        }
        Condition::Setting { service, value: (key, wanted) } => {
            service_of(plan, service)?;
            let has = |settings: Value| {
                let Some(now) = settings.get(key).map(|setting| &setting["value"]) else {
                    return Err(format!("has no setting {key}"));
                };
                let now = now.as_str().map_or_else(|| now.to_string(), str::to_owned);
                seen(now == *wanted, format!("has {key}: {now}"), wanted)
            };
            each(&snapshot, service, "/settings", has).await
        }
    })
}

/// Checks that all tasks of these services, or of all, are ready and connected to the broker.
async fn ready(plan: &Plan, snapshot: &Snapshot, names: &[String], skips_paused: bool) -> Seen {
    let mut count = 0;
    for service in snapshot.services.iter().filter(|it| names.is_empty() || names.contains(&it.name)) {
        let kind = service_of(plan, &service.name).map_err(|error| error.to_string())?.kind;
        for task in service.tasks.iter().filter(|task| !(skips_paused && task.phase == Phase::Paused)) {
            let (phase, name) = (format!("{:?}", task.phase).to_lowercase(), &task.name);
            let port = task.port.filter(|_| task.phase == Phase::Ready);
            let why = task.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            let port = port.ok_or_else(|| format!("{name} is {phase}{why}"))?;
            if !Probe::new(kind, port).is_connected(REQUEST_TIMEOUT).await {
                return Err(format!("{name} is not connected to the broker"));
            }
            count += 1;
        }
    }
    Ok(format!("ready and connected: {}", some(count, "task")))
}

/// Asks each ready task of a service, and checks its answer.
async fn each(snapshot: &Snapshot, service: &str, path: &str, check: impl Fn(Value) -> Seen) -> Seen {
    let client = client().timeout(REQUEST_TIMEOUT).build().unwrap_or_default();
    let tasks = snapshot.services.iter().filter(|it| it.name == service).flat_map(|it| &it.tasks);
    let mut all = Err(format!("no task of {service} is ready"));
    for task in tasks.filter(|task| task.phase == Phase::Ready) {
        let url = format!("http://127.0.0.1:{}{path}", task.port.unwrap_or_default());
        let answer = async { client.get(url).send().await?.error_for_status()?.json().await }.await;
        match answer.map(&check) {
            Ok(Ok(what)) => all = Ok(format!("each {service} {what}")),
            Ok(Err(what)) => return Err(format!("{} {what}", task.name)),
            Err(error) => return Err(format!("{}: {}", task.name, reqwest::Error::without_url(error))),
        }
    }
    all
}

fn seen(is_met: bool, what: String, wanted: impl Display) -> Seen {
    if is_met { Ok(what) } else { Err(format!("{what}, not {wanted}")) }
}

fn some(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
