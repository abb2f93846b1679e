//! Waits before another attempt: exponential, with full jitter.
//!
//! Full jitter (a wait drawn evenly between zero and the current ceiling) spreads the clients of a recovering broker
//! better than a fixed or a half-jittered wait does:
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.

use std::time::Duration;

/// A growing ceiling, and waits drawn below it.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Returns a back-off whose first wait is at most `min`; the ceiling doubles with each wait until it reaches `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, ceiling: min }
    }

    /// Draws the next wait, and doubles the ceiling.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(fastrand::f64());
        self.ceiling = (self.ceiling * 2).min(self.max);
        wait
    }

    /// Sleeps for the next wait.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_wait()).await;
    }

    /// Resets the ceiling after a success, so that the next wait is short again.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }
}

impl Default for Backoff {
    /// Returns waits from 50 ms to 2 s, for one operation on a broker that is connected.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_doubling_ceiling() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(500));
        for ceiling in [100, 200, 400, 500, 500] {
            assert!(backoff.next_wait() <= ms(ceiling));
        }
        backoff.reset();
        assert!(backoff.next_wait() <= ms(100));
    }

    #[test]
    fn waits_differ_from_client_to_client() {
        let waits: Vec<_> = (0..8).map(|_| Backoff::default().next_wait()).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }
}
