//! Dead letters over HTTP, read only, and the number of messages in each queue of a retry policy for `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::Method,
    routing::get,
};
use messaging::{LinkStatus, Subscription, metrics::gauges, retry::RetryPolicy};
use prometheus_client::registry::Registry;
use queue_browser::QueueBrowser;
use serde::Deserialize;
use service::http::{Problem, Route, table};
use tokio::{sync::Mutex, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DeadLetters, Filter, Limit, Page};

/// Most dead letters in one answer: each is fetched from the broker, with its body.
const MAX_LIMIT: u16 = 1000;
/// Dead letters in one answer if the request sets no limit.
const DEFAULT_LIMIT: u16 = 100;
/// Bytes of dead letters, with their bodies, after which an answer contains no more of them: a thousand usual ones have
/// half as many.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Time between two counts.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// The address of the dead letters.
pub const ROUTES: &[Route<Arc<Mutex<DeadLetters>>>] = &[(Method::GET, "/dead-letters", || get(list))];

/// Returns the route `GET /dead-letters`. It answers one request at a time.
pub fn router(letters: DeadLetters) -> Router {
    table(ROUTES).with_state(Arc::new(Mutex::new(letters)))
}

#[derive(Debug, Deserialize)]
struct PageQuery {
    limit: Option<u16>,
}

async fn list(
    State(letters): State<Arc<Mutex<DeadLetters>>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(page) = query?;
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: from 1 to {MAX_LIMIT}")));
    }
    let letters = letters
        .try_lock()
        .map_err(|_| Problem::unavailable("another request is listing the dead letters at the moment"))?;
    // Listing would wait for the broker longer than a request may take.
    if letters.client.status().consuming != LinkStatus::Up {
        return Err(Problem::unavailable("the broker is not connected: see /readyz"));
    }
    let page = letters.list(&Filter::All, Limit { letters: limit.into(), bytes: MAX_BYTES }).await;
    page.map(Json).map_err(|why| {
        tracing::warn!("the dead letters cannot be listed: {why}");
        Problem::unavailable("the dead letters cannot be listed at the moment")
    })
}

/// Counts the messages in the work queue of `policy`, in its retry queues and in its dead-letter queue every few seconds,
/// until it is cancelled. While the broker is away the gauges keep the last numbers.
pub fn count(browser: Arc<dyn QueueBrowser>, policy: &RetryPolicy, registry: &mut Registry) -> Subscription {
    let help = "Messages that wait in a queue, without those in flight; -1 until they are counted";
    let numbers = gauges(registry, "queue_messages", help);
    let retry_queues = policy.retry_queues().map(|(queue, _)| queue);
    let queues = [policy.queue().to_owned(), policy.dead_letter_queue()].into_iter().chain(retry_queues);
    let counted = queues.map(|queue| {
        let number = numbers.get_or_create(&[("queue", queue.clone())]).clone();
        number.set(-1);
        (queue, number)
    });
    let counted: Vec<_> = counted.collect();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (subscription, state) = Subscription::new(stop.clone(), tasks.clone());
    let counting = async move {
        let _state = state;
        loop {
            for (queue, number) in &counted {
                match browser.count_ready(queue).await {
                    Ok(count) => drop(number.set(count.into())),
                    Err(why) => tracing::debug!("the messages in {queue} cannot be counted: {why}"),
                }
            }
            sleep(COUNT_INTERVAL).await;
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(counting).await });
    subscription
}
