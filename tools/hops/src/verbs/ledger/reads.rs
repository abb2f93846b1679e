//! The reads, and the kill in the middle of them.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::REFUSED;
use crate::{
    control::{Request, ask},
    failure::{Doing as _, Failure, Result},
};

/// How many reads wait for their answers at a time.
const AT_A_TIME: usize = 8;
/// Between a refused read and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// What became of the reads.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub sent: BTreeSet<String>,
    pub answered: BTreeSet<String>,
    pub refusal: Option<String>,
}

/// That many reads answered 200, and in the middle of them the kill.
pub(super) async fn read(
    client: &reqwest::Client,
    account: &str,
    reads: usize,
    victim: Option<&(String, u32)>,
    is_elsewhere: bool,
) -> Result<Book> {
    let (book, slots) = (Arc::<Mutex<Book>>::default(), Arc::new(Semaphore::new(reads)));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_A_TIME.min(reads) {
        let (book, slots, client) = (Arc::clone(&book), Arc::clone(&slots), client.clone());
        let url = format!("{account}/accounts/10000");
        tasks.spawn(async move {
            while let Ok(slot) = slots.try_acquire() {
                slot.forget();
                let deadline = Instant::now() + REFUSED;
                while !one(&client, &url, &book).await {
                    if Instant::now() > deadline {
                        return;
                    }
                    sleep(PAUSE).await;
                }
            }
        });
    }
    let answered = || book.lock().unwrap_or_else(PoisonError::into_inner).answered.len();
    if let Some((service, slot)) = victim {
        while answered() < reads / 2 && !tasks.is_empty() {
            tokio::select! {
                _ = tasks.join_next() => {}
                () = sleep(Duration::from_millis(2)) => {}
            }
        }
        kill(service, *slot, is_elsewhere).await?;
    }
    while tasks.join_next().await.is_some() {}
    let book = std::mem::take(&mut *book.lock().unwrap_or_else(PoisonError::into_inner));
    if book.answered.len() < reads {
        let why = book.refusal.unwrap_or_default();
        return Err(Failure::Why(format!(
            "{account} does not answer 200 for {} s: {why}; `cargo hops status` shows how it is",
            REFUSED.as_secs()
        )));
    }
    Ok(book)
}

/// One read with an id that no other has; whether it was answered 200.
async fn one(client: &reqwest::Client, url: &str, book: &Mutex<Book>) -> bool {
    let id = format!("ledger-{}", uuid::Uuid::now_v7().simple());
    let locked = || book.lock().unwrap_or_else(PoisonError::into_inner);
    locked().sent.insert(id.clone());
    let refusal = match client.get(url).header("x-request-id", &id).send().await {
        Ok(answer) if answer.status() == 200 => {
            locked().answered.insert(id);
            return true;
        }
        Ok(answer) => answer.status().to_string(),
        Err(error) => error.to_string(),
    };
    locked().refusal = Some(refusal);
    false
}

/// Here the supervisor kills; in a swarm, Docker does.
async fn kill(service: &str, slot: u32, is_elsewhere: bool) -> Result<()> {
    if !is_elsewhere {
        return ask(&Request::Kill { service: service.to_owned(), slot }, |_| true).await.map(drop);
    }
    let name = format!("name=^/?hops_{service}\\.{slot}\\.");
    let found = Command::new("docker").args(["ps", "--quiet", "--filter", &name]).output();
    let found = found.doing(|| "run docker, which is to kill the task".into())?;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let container = found.lines().next().ok_or_else(|| {
        format!("no container hops_{service}.{slot} runs on this machine: `docker service ps hops_{service}`")
    })?;
    let killed = Command::new("docker").args(["kill", "--signal", "KILL", container]).output();
    let killed = killed.doing(|| "run docker, which is to kill the task".into())?;
    match killed.status.success() {
        true => Ok(()),
        false => Err(Failure::Why(String::from_utf8_lossy(&killed.stderr).trim().to_owned())),
    }
}
