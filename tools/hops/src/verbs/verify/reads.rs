//! Sends the reads, and kills a task halfway.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::bail;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{RETRY_TIMEOUT, system::System};
use crate::{cli::TaskName, failure::Result};

const CONCURRENT_READS: usize = 8;
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Short, so that the task is killed while reads are in flight and not after the last one.
const PROGRESS_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Request ids of the reads.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// All reads, including those that failed.
    pub sent: BTreeSet<String>,
    /// Reads that were answered with 200.
    pub answered: BTreeSet<String>,
    /// Status or error of the last read that failed.
    pub last_error: Option<String>,
}

/// Sends reads until `count` of them are answered with 200, and kills `victim` after half of them.
pub(super) async fn read(
    client: &reqwest::Client,
    system: &System<'_>,
    count: usize,
    victim: Option<&TaskName>,
) -> Result<Reads> {
    let (account, hops) = (&system.account, system.command());
    let (reads, slots) = (Arc::<Mutex<Reads>>::default(), Arc::new(Semaphore::new(count)));
    let mut tasks = JoinSet::new();
    for _ in 0..CONCURRENT_READS.min(count) {
        let (reads, slots, client) = (Arc::clone(&reads), Arc::clone(&slots), client.clone());
        let url = format!("{account}/accounts/10000");
        tasks.spawn(async move {
            while let Ok(slot) = slots.try_acquire() {
                slot.forget();
                let deadline = Instant::now() + RETRY_TIMEOUT;
                while !read_once(&client, &url, &reads).await {
                    if Instant::now() > deadline {
                        return;
                    }
                    sleep(RETRY_DELAY).await;
                }
            }
        });
    }
    let answered = || reads.lock().unwrap_or_else(PoisonError::into_inner).answered.len();
    if let Some(victim) = victim {
        while answered() < count / 2 && !tasks.is_empty() {
            tokio::select! {
                _ = tasks.join_next() => {}
                () = sleep(PROGRESS_POLL_INTERVAL) => {}
            }
        }
        system.kill(victim).await?;
    }
    while tasks.join_next().await.is_some() {}
    let reads = std::mem::take(&mut *reads.lock().unwrap_or_else(PoisonError::into_inner));
    if reads.answered.len() < count {
        let why = reads.last_error.unwrap_or_default();
        bail!(
            "{account} has not answered with 200 for {} s: {why}; `{hops} status` shows the state of each task",
            RETRY_TIMEOUT.as_secs()
        );
    }
    Ok(reads)
}

/// Sends one read with a new request id. Returns true if it is answered with 200.
async fn read_once(client: &reqwest::Client, url: &str, reads: &Mutex<Reads>) -> bool {
    let id = format!("verify-{}", uuid::Uuid::now_v7().simple());
    let locked = || reads.lock().unwrap_or_else(PoisonError::into_inner);
    locked().sent.insert(id.clone());
    let error = match client.get(url).header("x-request-id", &id).send().await {
        Ok(answer) if answer.status() == 200 => {
            locked().answered.insert(id);
            return true;
        }
        Ok(answer) => answer.status().to_string(),
        Err(error) => error.to_string(),
    };
    locked().last_error = Some(error);
    false
}
