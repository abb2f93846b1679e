//! Waiting for a condition with a deadline: the only way a test of this project waits.

use std::time::{Duration, Instant};

/// Long enough for anything that works, on a loaded machine too; a test that needs this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
pub const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers `Some`, and panics with `what` when that takes longer than `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`until`] for a plain yes or no.
pub async fn until_true(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> bool) {
    until(what, limit, async || probe().await.then_some(())).await;
}
