//! `verify`: reads the VIP's account, each time with a new request id, and matches each read with its offer.
//!
//! It compares sets of ids and never counts: one lost offer and one duplicate add up to a correct count.
//! A read that is not answered with 200 promises nothing, and is repeated with a new id.
//!
//! - `system`: the system that is verified
//! - `reads`: sends the reads

mod system;
mod reads;

use std::{collections::BTreeMap, time::Duration};

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use self::{reads::Reads, system::System};
use crate::{
    cli::{TaskName, Verify},
    control::{Request, ask},
    failure::{Failure, Result},
    project::Project,
    render::Screen,
};

const QUEUE: &str = "vip_queue";
const DEAD_LETTER_QUEUE: &str = "vip_queue.dead";
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit for a request that is repeated because it fails: a replica that was killed is back by then.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Offers compared with the reads.
#[derive(Debug, PartialEq, Eq)]
struct Comparison {
    /// Number of different reads that have an offer.
    offers: usize,
    /// Request ids with more than one offer.
    duplicates: Vec<String>,
    /// Request ids that were answered with 200 and have no offer.
    lost: Vec<String>,
}

/// One page of `GET /offers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    offers: Vec<Offer>,
    next: Option<u64>,
}

/// The fields of an offer that are compared.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    offset: u64,
    request_id: String,
}

/// Reads, kills a task halfway if asked to, waits for the offers, and compares them with the reads.
///
/// # Errors
/// An offer is lost or duplicated, or a service cannot be reached.
pub async fn verify(
    project: Option<&Project>,
    is_swarm: bool,
    screen: Screen,
    options: &Verify,
) -> Result<(), Failure> {
    let system = System::find(project, is_swarm, options).await?;
    let (victim, frozen) = (options.kill.as_ref(), options.freeze.as_ref());
    let client = system.client().pool_max_idle_per_host(0).timeout(Duration::from_secs(10));
    let client = client.build().unwrap_or_default();

    let before = offers(&client, &system, None).await?;
    let from = before.last().map(|offer| offer.offset);
    let dead_before = system.ready(DEAD_LETTER_QUEUE).await;
    let is_frozen = frozen.map(|task| format!(", {task} frozen")).unwrap_or_default();
    let is_killed = victim.map(|task| format!(", {task} killed in the middle")).unwrap_or_default();
    let account = &system.account;
    screen.text(&format!("{} reads of {account}/accounts/10000{is_frozen}{is_killed}", options.reads));
    if let Some(TaskName { service, slot }) = frozen {
        ask(&Request::Pause { service: service.clone(), slot: *slot }, |_| true).await?;
    }
    let reads = reads::read(&client, &system, options.reads as usize, victim).await;
    if let Some(TaskName { service, slot }) = frozen.filter(|task| Some(*task) != victim) {
        ask(&Request::Unpause { service: service.clone(), slot: *slot }, |_| true).await?;
    }
    let reads = reads?;

    let patience = Duration::from_secs(options.patience);
    let comparison = until_settled(&client, &system, from, &reads, patience).await?;
    let dead_now = system.ready(DEAD_LETTER_QUEUE).await;
    let dead_lettered = dead_now.zip(dead_before).map(|(now, before)| now.saturating_sub(before));
    report(screen, &reads, &comparison, dead_lettered, system.command())
}

/// Polls until each answered read has its offer and no more offers arrive, or until no offer has arrived for `patience`.
async fn until_settled(
    client: &reqwest::Client,
    system: &System<'_>,
    from: Option<u64>,
    reads: &Reads,
    patience: Duration,
) -> Result<Comparison> {
    let (mut last_count, mut moved) = (usize::MAX, Instant::now());
    loop {
        let offers = offers(client, system, from).await?;
        let comparison = compare(reads, offers.iter().map(|offer| offer.request_id.as_str()));
        let has_moved = std::mem::replace(&mut last_count, offers.len()) != offers.len();
        if has_moved {
            moved = Instant::now();
        }
        // A message in the queue could still become a duplicate; so could one in a broker that is down.
        let is_complete = comparison.lost.is_empty() && !has_moved && moved.elapsed() >= system.lag();
        if is_complete && (!system.has_broker() || system.ready(QUEUE).await == Some(0)) {
            return Ok(comparison);
        }
        if moved.elapsed() > patience {
            return Ok(comparison);
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn compare<'a>(reads: &Reads, offers: impl Iterator<Item = &'a str>) -> Comparison {
    let mut counts = BTreeMap::<&str, usize>::new();
    for id in offers.filter(|id| reads.sent.contains(*id)) {
        *counts.entry(id).or_default() += 1;
    }
    let duplicates = counts.iter().filter(|(_, count)| **count > 1).map(|(id, _)| (*id).to_owned());
    let lost = reads.answered.iter().filter(|id| !counts.contains_key(id.as_str()));
    Comparison { offers: counts.len(), duplicates: duplicates.collect(), lost: lost.cloned().collect() }
}

/// Returns all offers after an offset, page by page. Retries: a replica may have been killed, or may still replay the
/// stream.
async fn offers(client: &reqwest::Client, system: &System<'_>, from: Option<u64>) -> Result<Vec<Offer>> {
    let (vip, hops) = (&system.vip, system.command());
    let deadline = Instant::now() + RETRY_TIMEOUT;
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
                return Err(anyhow!("{url}: {error}; `{hops} status` shows the state of each task"));
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

fn report(
    screen: Screen,
    reads: &Reads,
    comparison: &Comparison,
    dead_lettered: Option<u32>,
    hops: &str,
) -> Result<(), Failure> {
    let Comparison { offers, duplicates, lost } = comparison;
    let (answered, unanswered) = (reads.answered.len(), reads.sent.len() - reads.answered.len());
    screen.value(&json!({
        "reads": answered,
        "unanswered": unanswered,
        "offers": offers,
        "duplicates": duplicates,
        "deadLettered": dead_lettered,
        "lost": lost,
    }));
    for (what, ids) in [("LOST", lost), ("duplicate", duplicates)] {
        ids.iter()
            .for_each(|id| screen.text(&format!("{what}: {id} (`{hops} service logs --request {id}`)")));
    }
    if unanswered > 0 {
        screen.text(&format!(
            "{unanswered} more reads were not answered with 200: they promise no offer, but may have one"
        ));
    }
    let dead_lettered = dead_lettered.map_or_else(|| "?".into(), |count| count.to_string());
    screen.text(&format!(
        "reads {answered} - offers {offers} - duplicates {} - dead-lettered {dead_lettered} - LOST {}",
        duplicates.len(),
        lost.len()
    ));
    if lost.is_empty() && duplicates.is_empty() { Ok(()) } else { Err(Failure::AlreadyReported) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sets_are_compared_and_not_counts() {
        let set = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let reads = Reads { sent: set(&["a", "b", "c"]), answered: set(&["a", "b"]), last_error: None };
        for (offers, count, duplicates, lost) in [
            (&["a", "b"][..], 2, &[][..], &[][..]),
            (&["a", "b", "c", "other"], 3, &[], &[]),
            (&["a", "a"], 1, &["a"], &["b"]),
            (&[], 0, &[], &["a", "b"]),
        ] {
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
            let expected = Comparison { offers: count, duplicates: owned(duplicates), lost: owned(lost) };
            assert_eq!(compare(&reads, offers.iter().copied()), expected, "{offers:?}");
        }
    }
}
