//! The clock of the core.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clock in Unix milliseconds that never goes back while the broker runs, even if the system's clock does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    unix_millis: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), unix_millis: millis(unix) }
    }

    /// Returns the milliseconds since the start.
    pub(crate) fn uptime(&self) -> u64 {
        millis(self.started.elapsed())
    }

    pub(crate) fn now(&self) -> u64 {
        self.unix_millis + millis(self.started.elapsed())
    }

    pub(crate) fn at(&self, unix_millis: u64) -> tokio::time::Instant {
        let after = unix_millis.saturating_sub(self.unix_millis);
        // One millisecond more, so that the time has passed when the timer fires.
        (self.started + Duration::from_millis(after + 1)).into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
