//! Permits for reading files: a disk may be slow and a file large, so they are read beside the requests, a few at once.

use std::{panic::resume_unwind, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Number of requests that read files at a time.
const PERMITS: usize = 4;

/// Permits of the requests that read files.
#[derive(Debug)]
pub struct ReadPermits(Arc<Semaphore>);

impl Default for ReadPermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PERMITS)))
    }
}

impl ReadPermits {
    /// Runs the work once a permit is free.
    ///
    /// # Panics
    /// If the work panics.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = Arc::clone(&self.0).acquire_owned().await.expect("BUG: the semaphore is never closed");
        // The work holds the permit, since it goes on after its request has timed out.
        let work = spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        work.await.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_permit_until_it_is_done() {
        let permits = ReadPermits::default();
        let (started, has_started) = oneshot::channel();
        let (go_on, may_go_on) = mpsc::sync_channel::<()>(1);
        let work = permits.run(move || {
            let _ = started.send(());
            let _ = may_go_on.recv();
        });
        tokio::select! {
            () = work => panic!("it may not go on yet"),
            started = has_started => started.unwrap(),
        }
        assert_eq!(permits.0.available_permits(), PERMITS - 1);
        go_on.send(()).unwrap();
        let all = permits.0.acquire_many(u32::try_from(PERMITS).unwrap());
        let all = timeout(Duration::from_secs(20), all).await.expect("the permit is free again");
        assert!(all.is_ok());
    }
}
