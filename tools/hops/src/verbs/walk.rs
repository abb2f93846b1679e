//! `walk`: one read, followed through the logs of whoever has it in hand.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::address;
use crate::{
    failure::{Doing as _, Failure, Result},
    logs::{Line, Tail},
    project::Project,
    render::Screen,
    state,
};

/// How long the message may take; a broker that was away is found again within that.
const PATIENCE: Duration = Duration::from_secs(20);
/// After which whoever watches is told what is the matter.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a line may come after the last hop's: hop 6 waits for a confirm that hop 7 does not wait for.
const STRAGGLERS: Duration = Duration::from_millis(500);
/// Between two looks at the logs.
const LOOKS: Duration = Duration::from_millis(10);

/// Reads an account and shows the hops as they happen.
///
/// # Errors
/// The read fails, or a hop is missing, with where to look.
pub async fn walk(project: &Project, screen: Screen, account: &str) -> Result<()> {
    let plan = state::load_plan(project)?;
    let url = format!("{}/accounts/{account}", address(&plan, "accountservice")?);
    let id = format!("walk-{:08x}", rand::random::<u32>());
    let mut tail = Tail::new(project.path("logs"), &[]);
    tail.skip();

    screen.say(&format!("curl -H 'x-request-id: {id}' {url}"));
    let (sent, started) = (Timestamp::now(), Instant::now());
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap_or_default();
    let answer = client.get(&url).header("x-request-id", &id).send().await;
    let answer = answer.doing(|| format!("reach {url}: `cargo hops status` shows how it is; it is said"))?;
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    // Shown as it was sent: curl shows the same.
    let text = answer.text().await.unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();

    screen.say("");
    screen.say("     ms  hop          replica            what happens");
    let mut seen = BTreeSet::new();
    let (mut ended_at, mut is_ended) = (None, body["vip"] != json!(true));
    let mut is_told = false;
    let deadline = Instant::now() + PATIENCE;
    loop {
        for line in tail.read_on().iter().filter(|line| line.field("request") == id && line.hop().is_some()) {
            show(screen, line, sent);
            seen.extend(line.hop());
            let is_last = line.hop() == Some(9) || line.field("message").starts_with("no offer");
            is_ended |= is_last;
        }
        if is_ended {
            ended_at = ended_at.or(Some(Instant::now()));
        }
        let is_whole = is_ended && seen == (1..=9).collect();
        if is_whole || ended_at.is_some_and(|at| at.elapsed() > STRAGGLERS) || Instant::now() > deadline {
            break;
        }
        if started.elapsed() > SILENCE && !std::mem::replace(&mut is_told, true) {
            screen.say("... the message waits: `cargo hops queues` shows where");
        }
        sleep(LOOKS).await;
    }
    screen.say("");
    screen.say(&format!("answered {status} after {:.1} ms: {text}", took.as_secs_f64() * 1000.0));
    screen.value(&json!({"request": id, "status": status, "answer": body, "hops": seen}));
    verdict(screen, status, &body, &seen)
}

/// `    3.2  4 notify     accountservice.2   account 10000 is a VIP: ...`
fn show(screen: Screen, line: &Line, sent: Timestamp) {
    if screen.json {
        return screen.line(&line.text);
    }
    let after = line.at().map_or(0.0, |at| at.duration_since(sent).as_secs_f64() * 1000.0);
    let hop = format!("{} {}", line.hop().unwrap_or_default(), line.field("name"));
    let task = screen.painted(&line.task, &format!("{:<18}", line.task));
    screen.line(&format!("{after:>7.1}  {hop:<12} {task} {}", line.field("message")));
}

fn verdict(screen: Screen, status: u16, body: &Value, seen: &BTreeSet<u64>) -> Result<()> {
    if body["vip"] != json!(true) {
        let why = if status == 200 { "this account is no VIP's" } else { "there was no account to read" };
        screen.say(&format!("{why}, so the walk ends here: `cargo hops walk 10000` goes on"));
        return Ok(());
    }
    let missing: Vec<_> = (1..=9).filter(|hop| !seen.contains(hop)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if missing == [1, 2, 3] {
        screen.say("hops 1 to 3 are logged at debug only: HOPS_LOG_LEVEL=debug shows them");
        return Ok(());
    }
    if seen.contains(&8) && missing == [9] {
        screen.say("the rule makes no offer for this read: offer_hours");
        return Ok(());
    }
    Err(Failure::Why(format!(
        "hops {missing:?} are missing after {} s: `cargo hops queues` shows where the message waits, \
         `cargo hops service logs` what the services say",
        PATIENCE.as_secs()
    )))
}
