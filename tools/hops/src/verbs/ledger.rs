//! `ledger`: reads of the VIP's account with an id each, and whether each became one offer.
//!
//! It compares sets of ids, never counts: one that is lost and one that is there twice make a right count.
//! A read that is not answered 200 promises nothing, and is followed by another with an id of its own.

mod reads;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::reads::Book;
use super::{
    address,
    queues::{self, Place},
};
use crate::{
    cli::{Ledger, task_name},
    control::status,
    failure::{Failure, Result},
    project::Project,
    render::Screen,
    state,
};

/// Where given-up messages go.
const DEAD: &str = "vip_queue.dead";
/// Between two looks at the offers.
const LOOKS: Duration = Duration::from_millis(200);
/// How long reads may fail one after the other.
const REFUSED: Duration = Duration::from_secs(30);

/// What speaks against the promise.
#[derive(Debug, PartialEq, Eq)]
struct Balance {
    offers: usize,
    twice: Vec<String>,
    lost: Vec<String>,
}

/// One page of `GET /offers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    offers: Vec<Offer>,
    next: Option<u64>,
}

/// As much of an offer as is looked at.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    offset: u64,
    request_id: String,
}

/// Reads, kills, waits, compares.
///
/// # Errors
/// Something is lost or there twice, or the services cannot be reached.
pub async fn ledger(project: Option<&Project>, screen: Screen, wanted: &Ledger) -> Result<()> {
    let is_elsewhere = wanted.account_url.is_some() || wanted.vip_url.is_some();
    let (account, vip) = match (&wanted.account_url, &wanted.vip_url, project) {
        (Some(account), Some(vip), _) => (trimmed(account), trimmed(vip)),
        (None, None, Some(project)) => {
            super::must_be_up(project).await?;
            let plan = state::load_plan(project)?;
            (address(&plan, "accountservice")?, address(&plan, "vipservice")?)
        }
        _ => return Err(Failure::Usage("give both, --account-url and --vip-url".into())),
    };
    let victim = wanted.kill.as_deref().map(task_name).transpose()?;
    if let (Some((name, slot)), false) = (&victim, is_elsewhere) {
        runs(name, *slot).await?;
    }
    // Elsewhere the broker is known only if it was said.
    let broker = match (is_elsewhere, &wanted.broker) {
        (true, None) => None,
        (_, given) => Some(queues::place(project.filter(|_| !is_elsewhere), given.as_deref()).await?),
    };
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    let client = client.timeout(Duration::from_secs(10)).build().unwrap_or_default();

    let before = offers(&client, &vip, None).await?;
    let from = before.last().map(|offer| offer.offset);
    let dead_before = waiting(broker.as_ref(), DEAD).await;
    let in_the_middle = victim.as_ref().map(|(name, slot)| format!(", {name}.{slot} killed in the middle"));
    let in_the_middle = in_the_middle.unwrap_or_default();
    screen.say(&format!("{} reads of {account}/accounts/10000{in_the_middle}", wanted.reads));
    let book = reads::read(&client, &account, wanted.reads, victim.as_ref(), is_elsewhere).await?;

    let balance =
        until_quiet(&client, &vip, from, &book, broker.as_ref(), Duration::from_secs(wanted.patience))
            .await?;
    let dead =
        waiting(broker.as_ref(), DEAD).await.zip(dead_before).map(|(now, before)| now.saturating_sub(before));
    report(screen, &book, &balance, dead)
}

/// Before the first read, that there is such a task to be killed.
async fn runs(name: &str, slot: u32) -> Result<()> {
    let services = status().await?.services;
    let tasks: Vec<_> = services.iter().flat_map(|service| &service.tasks).map(|task| &task.name).collect();
    if tasks.iter().any(|task| **task == format!("{name}.{slot}")) {
        return Ok(());
    }
    let tasks: Vec<_> = tasks.into_iter().map(String::as_str).collect();
    Err(Failure::Why(format!("there is no task {name}.{slot} to kill; there are {}", tasks.join(", "))))
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

/// Looks until every answered read has its offer and nothing moves, or nothing moves for too long.
async fn until_quiet(
    client: &reqwest::Client,
    vip: &str,
    from: Option<u64>,
    book: &Book,
    broker: Option<&Place>,
    patience: Duration,
) -> Result<Balance> {
    let (mut last_count, mut moved) = (usize::MAX, Instant::now());
    loop {
        let offers = offers(client, vip, from).await?;
        let balance = balance(book, offers.iter().map(|offer| offer.request_id.as_str()));
        let has_moved = std::mem::replace(&mut last_count, offers.len()) != offers.len();
        if has_moved {
            moved = Instant::now();
        }
        // What still waits could become a second offer; a broker that is away may have it.
        let is_whole = balance.lost.is_empty() && !has_moved;
        if is_whole && (broker.is_none() || waiting(broker, "vip_queue").await == Some(0)) {
            return Ok(balance);
        }
        if moved.elapsed() > patience {
            return Ok(balance);
        }
        sleep(LOOKS).await;
    }
}

fn balance<'a>(book: &Book, offers: impl Iterator<Item = &'a str>) -> Balance {
    let mut times = BTreeMap::<&str, usize>::new();
    for id in offers.filter(|id| book.sent.contains(*id)) {
        *times.entry(id).or_default() += 1;
    }
    let twice = times.iter().filter(|(_, times)| **times > 1).map(|(id, _)| (*id).to_owned());
    let lost = book.answered.iter().filter(|id| !times.contains_key(id.as_str()));
    Balance { offers: times.len(), twice: twice.collect(), lost: lost.cloned().collect() }
}

/// All offers after an offset, page by page. A replica that replays, or one that was just killed, is asked again.
async fn offers(client: &reqwest::Client, vip: &str, from: Option<u64>) -> Result<Vec<Offer>> {
    let deadline = Instant::now() + REFUSED;
    let (mut offers, mut after) = (vec![], from);
    loop {
        let url =
            format!("{vip}/offers?limit=1000{}", after.map_or_else(String::new, |at| format!("&after={at}")));
        let answer = client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        let page: reqwest::Result<Page> = match answer {
            Ok(answer) => answer.json().await,
            Err(error) => Err(error),
        };
        match page {
            Ok(page) => {
                offers.extend(page.offers);
                let Some(next) = page.next else { return Ok(offers) };
                after = Some(next);
            }
            Err(error) if Instant::now() > deadline => {
                return Err(Failure::Why(format!("{url}: {error}; `cargo hops status` shows how it is")));
            }
            Err(_) => sleep(LOOKS).await,
        }
    }
}

/// How many messages wait in a queue, if that can be known. A connection each time: the broker may be what is killed.
async fn waiting(broker: Option<&Place>, queue: &str) -> Option<u32> {
    let broker = broker?.connect().await.ok()?;
    let counts = broker.counts(queue).await;
    broker.close().await;
    Some(counts.ok()?.map_or(0, |(ready, _)| ready))
}

fn report(screen: Screen, book: &Book, balance: &Balance, dead: Option<u32>) -> Result<()> {
    let Balance { offers, twice, lost } = balance;
    let (reads, unanswered) = (book.answered.len(), book.sent.len() - book.answered.len());
    screen.value(&json!({
        "reads": reads, "unanswered": unanswered, "offers": offers, "twice": twice, "dead": dead, "lost": lost,
    }));
    for (what, ids) in [("LOST", lost), ("twice", twice)] {
        ids.iter()
            .for_each(|id| screen.say(&format!("{what}: {id} (`cargo hops service logs --request {id}`)")));
    }
    if unanswered > 0 {
        screen.say(&format!(
            "{unanswered} more were not answered 200, so nothing was promised; they may have offers"
        ));
    }
    let dead = dead.map_or_else(|| "?".into(), |dead| dead.to_string());
    screen.say(&format!(
        "reads {reads} - offers {offers} - twice {} - dead {dead} - LOST {}",
        twice.len(),
        lost.len()
    ));
    if lost.is_empty() && twice.is_empty() { Ok(()) } else { Err(Failure::Said) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sets_are_compared_and_not_counts() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let book = Book { sent: set(&["a", "b", "c"]), answered: set(&["a", "b"]), refusal: None };
        for (offers, count, twice, lost) in [
            (&["a", "b"][..], 2, &[][..], &[][..]),
            (&["a", "b", "c", "other"], 3, &[], &[]),
            (&["a", "a"], 1, &["a"], &["b"]),
            (&[], 0, &[], &["a", "b"]),
        ] {
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
            let expected = Balance { offers: count, twice: owned(twice), lost: owned(lost) };
            assert_eq!(balance(&book, offers.iter().copied()), expected, "{offers:?}");
        }
    }
}
