//! A load client: VIP reads with a request id each, some at a time, and the record of what was sent and what was answered.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    environment,
    http::{self, Reply},
    process::Address,
    wait::{PATIENCE, until_true},
};

/// Between a refused read and the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of notifications in flight when a fault happens: 100, and 500 with `HOPS_TESTS=full`.
pub fn in_flight() -> usize {
    if environment::is_full() { 500 } else { 100 }
}

/// A request id that no other request has.
pub fn request_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Results of the reads.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// S: the ids of all reads that were sent, whatever came of them.
    pub sent: BTreeSet<String>,
    /// A: the ids of the reads that were answered 200.
    pub answered: BTreeSet<String>,
    /// Why the others were not, by id.
    pub refused: Vec<(String, String)>,
}

impl Record {
    /// The record of two loads on one system.
    pub fn and(mut self, other: Self) -> Self {
        self.sent.extend(other.sent);
        self.answered.extend(other.answered);
        self.refused.extend(other.refused);
        self
    }
}

/// Requests to send.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    reads: usize,
    at_a_time: usize,
    every: Duration,
    is_retrying: bool,
}

impl Load {
    /// That many reads answered 200, eight at a time: a read that is not answered so is followed by another, with another id.
    pub fn answered(reads: usize) -> Self {
        Self { reads, at_a_time: 8, every: Duration::ZERO, is_retrying: true }
    }

    /// Some forty reads a second until [`RunningLoad::stop`]: what a service has to do while it is in trouble.
    pub fn steady() -> Self {
        Self::answered(usize::MAX).at_a_time(4).every(Duration::from_millis(100))
    }

    /// That many reads sent, whatever the answers.
    pub fn sent(reads: usize) -> Self {
        Self { is_retrying: false, ..Self::answered(reads) }
    }

    /// Sets the number of reads that wait for their answers at the same time.
    pub fn at_a_time(self, at_a_time: usize) -> Self {
        Self { at_a_time, ..self }
    }

    /// Spreads the reads out: each of those at a time waits this long before its next.
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Begins to send, in the background.
    #[must_use = "a load that is dropped ends"]
    pub fn start(self, account_service: &Address) -> RunningLoad {
        let shared = Arc::new(Shared {
            load: self,
            address: account_service.clone(),
            client: http::client(),
            taken: AtomicUsize::default(),
            is_over: AtomicBool::default(),
            record: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..self.at_a_time {
            tasks.spawn(worker(shared.clone()));
        }
        RunningLoad { shared, tasks }
    }

    /// Sends all of it and waits for all answers.
    pub async fn run(self, account_service: &Address) -> Record {
        self.start(account_service).finish().await
    }
}

/// A load in the background; dropped, it ends.
#[derive(Debug)]
pub struct RunningLoad {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl RunningLoad {
    /// Waits until that many reads were answered 200.
    pub async fn until_answered(&self, count: usize) {
        until_true("the reads are answered", PATIENCE, async || self.shared.record().answered.len() >= count)
            .await;
    }

    /// Waits until that many reads were sent and not answered 200.
    pub async fn until_refused(&self, count: usize) {
        until_true("the reads are refused", PATIENCE, async || self.shared.record().refused.len() >= count)
            .await;
    }

    /// Counts the reads that were answered 200 so far.
    pub fn answered(&self) -> usize {
        self.shared.record().answered.len()
    }

    /// Counts the reads that failed so far.
    pub fn refused(&self) -> usize {
        self.shared.record().refused.len()
    }

    /// Begins no further read, and waits until those that were begun are answered.
    pub async fn stop(self) -> Record {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until all is sent and answered.
    pub async fn finish(mut self) -> Record {
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("a worker of the load does not panic");
            }
        };
        timeout(PATIENCE, ended).await.expect("the load ends in time");
        self.shared.record().clone()
    }
}

#[derive(Debug)]
struct Shared {
    load: Load,
    address: Address,
    client: Client,
    taken: AtomicUsize,
    is_over: AtomicBool,
    record: Mutex<Record>,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("not poisoned")
    }

    /// One read with an id of its own; whether it was answered 200.
    async fn read(&self) -> bool {
        let id = request_id();
        self.record().sent.insert(id.clone());
        let request = self.client.get(self.address.url("/accounts/10000")).header("x-request-id", &id);
        let refusal = match Reply::of(request).await {
            Ok(reply) if reply.status == 200 => {
                self.record().answered.insert(id);
                return true;
            }
            Ok(reply) => format!("{} {}", reply.status, reply.text),
            Err(error) => format!("{error:?}"),
        };
        self.record().refused.push((id, refusal));
        false
    }
}

async fn worker(shared: Arc<Shared>) {
    let is_over = || shared.is_over.load(Ordering::Relaxed);
    while !is_over() && shared.taken.fetch_add(1, Ordering::Relaxed) < shared.load.reads {
        while !shared.read().await && shared.load.is_retrying && !is_over() {
            sleep(PAUSE).await;
        }
        sleep(shared.load.every).await;
    }
}
