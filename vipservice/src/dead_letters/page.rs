//! Dead letters over HTTP, read only, and their number for `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    routing::get,
};
use contracts::topology::VIP_DEAD;
use messaging::{LinkStatus, QueueBrowser, Subscription, metrics::gauge};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use service::http::Problem;
use tokio::{sync::Mutex, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DeadLetters, Page, Wanted};

/// How many letters an answer has at most: each is fetched from the broker, with its body.
const LIMIT: u16 = 1000;
/// How often they are counted.
const EVERY: Duration = Duration::from_secs(5);

/// The route. It looks once at a time.
pub fn router(letters: DeadLetters) -> Router {
    Router::new().route("/dead-letters", get(list)).with_state(Arc::new(Mutex::new(letters)))
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    #[serde(default = "default_limit")]
    limit: u16,
}

fn default_limit() -> u16 {
    100
}

async fn list(
    State(letters): State<Arc<Mutex<DeadLetters>>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(page) = query?;
    if !(1..=LIMIT).contains(&page.limit) {
        return Err(Problem::bad_request(format!("limit: from 1 to {LIMIT}")));
    }
    let letters = letters
        .try_lock()
        .map_err(|_| Problem::unavailable("another request is looking at them just now"))?;
    // It would wait for its broker longer than a request may take.
    if letters.client.status().consuming != LinkStatus::Up {
        return Err(Problem::unavailable("the broker is away: see /readyz"));
    }
    let page = letters.list(&Wanted::All, page.limit.into()).await;
    page.map(Json).map_err(|why| {
        tracing::warn!("the dead letters cannot be listed: {why}");
        Problem::unavailable("they cannot be listed at the moment")
    })
}

/// Counts them every few seconds, until it is cancelled. While the broker is away the last number stands.
pub fn count(browser: Arc<dyn QueueBrowser>, registry: &mut Registry) -> Subscription {
    let number = gauge(
        registry,
        "dead_letters",
        "Messages that wait in vip_queue.dead for a person; -1 until they are counted",
    );
    number.set(-1);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (subscription, activity) = Subscription::new(stop.clone(), tasks.clone());
    let counting = async move {
        let _activity = activity;
        loop {
            match browser.count_ready(VIP_DEAD).await {
                Ok(waiting) => drop(number.set(waiting.into())),
                Err(why) => tracing::debug!("the dead letters cannot be counted: {why}"),
            }
            sleep(EVERY).await;
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(counting).await });
    subscription
}
