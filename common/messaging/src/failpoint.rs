//! Places where a test may end this process, as `kill -9` does, or make it stumble.
//!
//! Only a build with the feature `failpoints` knows them; in any other, [`reach`] is nothing, and no shipped
//! binary has that feature. They stand where a crash is worst: between two steps that belong together. The
//! crash table in `docs/GUARANTEES.md` has one row for each.

/// Says that a place is reached, by its name.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_place: &str) {}

#[cfg(feature = "failpoints")]
pub use self::armed::reach;

#[cfg(feature = "failpoints")]
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

    /// Long enough for a test to do something while the process stands there.
    const STALL: Duration = Duration::from_secs(3);

    /// What happens at a place, the nth time that it is reached.
    struct Armed {
        place: String,
        nth: u32,
        action: String,
        reached: AtomicU32,
    }

    /// Says that a place is reached. What happens there the test has said in the environment:
    /// `HOPS_FAILPOINT=outbox-flushed@20=kill`, several with commas between; `kill`, `panic` and `stall` are known.
    #[expect(clippy::disallowed_methods, reason = "a process that stands still is what the test wants")]
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
                    sleep(STALL);
                }
                "stall" => sleep(STALL),
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
