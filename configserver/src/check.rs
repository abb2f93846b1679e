//! The state of the folder for `/readyz` and `/health`: the outcome of the last check, since a check reads files.
//!
//! A health request waits for no file, and however many there are, one check runs at a time.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Shortest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two checks, as a multiple of the time that a check takes: large files are checked less often.
const REST_FACTOR: u32 = 4;

/// The state, or the mistake.
type Outcome = Result<String, String>;

/// A check with its last outcome.
#[derive(Clone)]
pub struct CachedCheck {
    check: Arc<dyn Fn() -> Outcome + Send + Sync>,
    last: Arc<Mutex<Outcome>>,
}

impl fmt::Debug for CachedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedCheck").field(&self.last()).finish()
    }
}

impl CachedCheck {
    /// Creates a check that has not run yet, and fails until it has.
    pub fn new(check: impl Fn() -> Outcome + Send + Sync + 'static) -> Self {
        let last = Err("the folder was not checked yet".to_owned());
        Self { check: Arc::new(check), last: Arc::new(Mutex::new(last)) }
    }

    /// Returns the last outcome at once.
    ///
    /// # Errors
    /// The mistake that the check has found.
    pub fn last(&self) -> Outcome {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs the check once.
    pub async fn run_once(&self) {
        let check = Arc::clone(&self.check);
        let outcome = spawn_blocking(move || check()).await;
        let outcome = outcome.unwrap_or_else(|e| Err(format!("the check itself failed: {e}")));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }

    /// Runs the check again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = CHECK_INTERVAL;
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            let start = Instant::now();
            if stop.run_until_cancelled(self.run_once()).await.is_none() {
                return;
            }
            pause = CHECK_INTERVAL.max(REST_FACTOR * start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::{sync::mpsc::channel, time::timeout};

    use super::*;

    #[tokio::test]
    async fn while_a_check_takes_its_time_the_last_outcome_is_answered() {
        let (started, mut has_started) = channel(8);
        let (outcome, outcomes) = mpsc::sync_channel::<Outcome>(1);
        let outcomes = Mutex::new(outcomes);
        let cached = CachedCheck::new(move || {
            let _ = started.try_send(());
            outcomes.lock().unwrap().recv().unwrap_or_else(|_| Err("over".into()))
        });
        assert!(cached.last().unwrap_err().contains("not checked yet"));
        outcome.send(Ok("fine".into())).unwrap();
        cached.run_once().await;
        assert_eq!(has_started.recv().await, Some(()));

        let stop = CancellationToken::new();
        let work = async {
            assert_eq!(has_started.recv().await, Some(()), "it checks again");
            assert_eq!(cached.last(), Ok("fine".into()), "and meanwhile answers the last outcome");
            outcome.send(Err("gone".into())).unwrap();
            assert_eq!(has_started.recv().await, Some(()));
            assert_eq!(cached.last(), Err("gone".into()));
            stop.cancel();
            drop(outcome);
        };
        let both = async { tokio::join!(cached.clone().run(stop.clone()), work) };
        timeout(Duration::from_secs(30), both).await.expect("it returns once it is stopped");
    }
}
