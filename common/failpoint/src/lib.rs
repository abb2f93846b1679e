//! Places where a test may kill this process, as `kill -9` does, or make it panic or stall.
//!
//! Only a build with the feature `armed` has them; in any other [`reach`] does nothing, and no shipped binary has
//! that feature. They are where a crash is worst: between two steps that belong together. The crash table in
//! `docs/GUARANTEES.md` has one row for each.

/// Marks a place, by its name.
#[cfg(not(feature = "armed"))]
#[inline]
pub fn reach(_place: &str) {}

#[cfg(feature = "armed")]
pub use self::armed::reach;

#[cfg(feature = "armed")]
mod armed {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
        thread::sleep,
        time::Duration,
    };

    use rustix::process::{Signal, getpid, kill_process};

    /// Time that a stalled process gives a test to do something.
    const STALL_DURATION: Duration = Duration::from_secs(3);

    /// An action at a place, the nth time that it is reached.
    struct Armed {
        place: String,
        nth: u32,
        action: String,
        reached: AtomicU32,
    }

    /// Marks a place, by its name. A test sets what happens there in the environment:
    /// `HOPS_FAILPOINT=outbox-flushed@20=kill`, several separated by commas; the actions are `kill`, `panic` and `stall`.
    #[expect(clippy::disallowed_methods, reason = "the test wants the process to stand still")]
    pub fn reach(place: &str) {
        static ALL: OnceLock<Vec<Armed>> = OnceLock::new();
        for armed in ALL.get_or_init(from_environment).iter().filter(|armed| armed.place == place) {
            if armed.reached.fetch_add(1, Ordering::SeqCst) + 1 != armed.nth {
                continue;
            }
            tracing::warn!(failpoint = place, "failpoint {place} reached: {}", armed.action);
            match armed.action.as_str() {
                "kill" => {
                    let _ = kill_process(getpid(), Signal::KILL);
                    sleep(STALL_DURATION);
                }
                "stall" => sleep(STALL_DURATION),
                action => panic!("failpoint {place}: {action}"),
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test arms a place from outside, whatever the process is"
    )]
    fn from_environment() -> Vec<Armed> {
        let text = std::env::var("HOPS_FAILPOINT").unwrap_or_default();
        let armed = text.split(',').filter(|one| !one.is_empty()).map(|one| {
            let parts = one.split_once('=').and_then(|(at, action)| Some((at.split_once('@')?, action)));
            let ((place, nth), action) = parts.expect("HOPS_FAILPOINT: PLACE@N=ACTION");
            let nth = nth.parse().expect("HOPS_FAILPOINT: N is a number");
            Armed { place: place.into(), nth, action: action.into(), reached: AtomicU32::new(0) }
        });
        armed.collect()
    }
}
