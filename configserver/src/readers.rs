//! Files may lie on a slow disk, and large ones take their time: they are read beside the requests, a few at once.

use std::{panic::resume_unwind, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// How many requests read files at a time.
const READERS: usize = 4;

/// The places of those who read.
#[derive(Debug)]
pub struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

impl Readers {
    /// Does the work once there is a place.
    ///
    /// # Panics
    /// When the work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let place = Arc::clone(&self.0).acquire_owned().await.expect("BUG: nobody closes the semaphore");
        // The place is the work's: once a request's time is up nobody waits any more, and the work goes on.
        let work = spawn_blocking(move || {
            let _place = place;
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
    async fn work_that_nobody_waits_for_any_more_keeps_its_place_until_it_is_done() {
        let readers = Readers::default();
        let (started, has_started) = oneshot::channel();
        let (go_on, told) = mpsc::sync_channel::<()>(1);
        let work = readers.run(move || {
            let _ = started.send(());
            let _ = told.recv();
        });
        tokio::select! {
            () = work => panic!("nobody has told it to go on"),
            started = has_started => started.unwrap(),
        }
        assert_eq!(readers.0.available_permits(), READERS - 1);
        go_on.send(()).unwrap();
        let all = readers.0.acquire_many(u32::try_from(READERS).unwrap());
        let all = timeout(Duration::from_secs(20), all).await.expect("the place is free again");
        assert!(all.is_ok());
    }
}
