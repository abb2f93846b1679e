//! The time as the core has it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time as the core has it: it never goes back while the broker runs.
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

    /// Since the start, in milliseconds.
    pub(crate) fn uptime(&self) -> u64 {
        millis(self.started.elapsed())
    }

    pub(crate) fn now(&self) -> u64 {
        self.unix_millis + millis(self.started.elapsed())
    }

    pub(crate) fn at(&self, unix_millis: u64) -> tokio::time::Instant {
        let after = unix_millis.saturating_sub(self.unix_millis);
        // One millisecond more, so that it is over when we look.
        (self.started + Duration::from_millis(after + 1)).into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
