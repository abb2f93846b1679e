//! What `/readyz` and `/health` say of the folder: the last look at it, since a look reads files.
//!
//! Whoever asks for it waits for no file, and however many ask, there is one look at a time.

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

/// How long an outcome is kept.
const KEPT: Duration = Duration::from_secs(1);
/// A look takes at most one part in so many of the time: over large files there are fewer.
const SHARE: u32 = 4;

/// How things are, or what is wrong.
type Outcome = Result<String, String>;

/// A check, and its last outcome.
#[derive(Clone)]
pub struct Kept {
    check: Arc<dyn Fn() -> Outcome + Send + Sync>,
    last: Arc<Mutex<Outcome>>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.last()).finish()
    }
}

impl Kept {
    /// A check that was not made yet, and fails until it was.
    pub fn new(check: impl Fn() -> Outcome + Send + Sync + 'static) -> Self {
        let last = Err("the folder was not looked at yet".to_owned());
        Self { check: Arc::new(check), last: Arc::new(Mutex::new(last)) }
    }

    /// The last outcome, at once.
    ///
    /// # Errors
    /// What was wrong.
    pub fn last(&self) -> Outcome {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the check.
    pub async fn look(&self) {
        let check = Arc::clone(&self.check);
        let outcome = spawn_blocking(move || check()).await;
        let outcome = outcome.unwrap_or_else(|e| Err(format!("the check itself has failed: {e}")));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }

    /// Makes the check again and again until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = KEPT;
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            let start = Instant::now();
            if stop.run_until_cancelled(self.look()).await.is_none() {
                return;
            }
            pause = KEPT.max(SHARE * start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::{sync::mpsc::channel, time::timeout};

    use super::*;

    #[tokio::test]
    async fn while_a_look_takes_its_time_the_last_outcome_is_answered() {
        let (started, mut has_started) = channel(8);
        let (outcome, outcomes) = mpsc::sync_channel::<Outcome>(1);
        let outcomes = Mutex::new(outcomes);
        let kept = Kept::new(move || {
            let _ = started.try_send(());
            outcomes.lock().unwrap().recv().unwrap_or_else(|_| Err("over".into()))
        });
        assert!(kept.last().unwrap_err().contains("not looked at yet"));
        outcome.send(Ok("fine".into())).unwrap();
        kept.look().await;
        assert_eq!(has_started.recv().await, Some(()));

        let stop = CancellationToken::new();
        let work = async {
            assert_eq!(has_started.recv().await, Some(()), "it looks again");
            assert_eq!(kept.last(), Ok("fine".into()), "and meanwhile answers what it has seen");
            outcome.send(Err("gone".into())).unwrap();
            assert_eq!(has_started.recv().await, Some(()));
            assert_eq!(kept.last(), Err("gone".into()));
            stop.cancel();
            drop(outcome);
        };
        let both = async { tokio::join!(kept.clone().run(stop.clone()), work) };
        timeout(Duration::from_secs(30), both).await.expect("it ends once it is stopped");
    }
}
