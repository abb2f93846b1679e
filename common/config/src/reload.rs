//! Settings are read again, checked as a whole, and applied or refused.
//!
//! A new version goes the same way as the first one. A refused one changes nothing.

use std::sync::Arc;

use config_client::Failed;

use super::{LiveSettings, ServiceSettings, live::State, shown::changed, sources::Loaded};

/// The outcome of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The new version is effective.
    Applied,
    /// A person has to act.
    Refused,
    /// The config server is away, and may come back.
    Unavailable {
        /// `true` if the last reload had another outcome or another reason.
        is_news: bool,
    },
}

impl<S: ServiceSettings> LiveSettings<S> {
    /// Reads the settings again, and applies them if they are good. Otherwise nothing changes, and the reason is
    /// logged once and shown by [`note`](Self::note).
    pub async fn reload(&self) -> Reloaded {
        let (state, origin) = (&self.state, self.sources.origin());
        let (why, is_refused) = match self.sources.load_again::<S>().await {
            // For a moment a folder may be empty: that is no reason to fall back on the defaults.
            Ok(loaded) if !loaded.is_known && state.borrow().now.is_known => {
                (format!("{}; it is asked again", self.sources.unknown::<S>()), false)
            }
            Ok(loaded) => {
                let new = Arc::new(loaded);
                let mut changes = Changes::default();
                state.send_modify(|state| changes = apply(state, new));
                if let Some(on_apply) = &self.on_apply {
                    on_apply();
                }
                changes.log(&origin);
                return Reloaded::Applied;
            }
            Err(Failed::Refused(why)) => (why, true),
            Err(Failed::Later(why)) => (format!("{why}; it is asked again"), false),
        };
        let is_news = state.borrow().refused.as_ref() != Some(&why);
        if is_news {
            tracing::warn!("settings could not be read again, nothing has changed: {why}");
        }
        state.send_modify(|state| state.refused = Some(why));
        if is_refused { Reloaded::Refused } else { Reloaded::Unavailable { is_news } }
    }
}

/// The keys that a new version has changed.
#[derive(Default)]
struct Changes {
    live: Vec<&'static str>,
    at_next_start: Vec<&'static str>,
}

fn apply<S: ServiceSettings>(state: &mut State<S>, new: Arc<Loaded<S>>) -> Changes {
    let (live, other): (Vec<_>, Vec<_>) = changed(&state.now, &new).into_iter().partition(|key| key.is_live);
    let pending = changed(&state.started, &new);
    let at_next_start = other.into_iter().filter(|key| pending.contains(key));
    let changes = Changes {
        live: live.iter().map(|key| key.name).collect(),
        at_next_start: at_next_start.map(|key| key.name).collect(),
    };
    (state.now, state.refused) = (new, None);
    changes
}

impl Changes {
    /// Names only: values may be secrets.
    fn log(&self, origin: &str) {
        if !self.live.is_empty() {
            tracing::info!("settings reloaded from {origin}; changed: {}", self.live.join(", "));
        }
        for key in &self.at_next_start {
            tracing::warn!("{key}: takes effect at next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::tests::{Probe, repo};

    #[test]
    fn what_has_changed_is_logged_by_name_and_of_a_key_that_is_not_live_once() {
        let version = |text: &str| {
            let (_folder, sources) = repo(&[("probe.yml", text)]);
            Arc::new(sources.load_again::<Probe>().now_or_never().unwrap().unwrap())
        };
        let started = version("size: 1\namqp_password: a");
        let mut state = State { started: Arc::clone(&started), now: started, refused: None };
        for (text, live, at_next_start) in [
            (
                "size: 1\namqp_password: a\ngreeting: b\nlog_level: debug",
                &["greeting", "log_level"][..],
                &[][..],
            ),
            ("size: 2\namqp_password: a\ngreeting: b\nlog_level: debug", &[], &["size"]),
            ("size: 2\namqp_password: a\ngreeting: c\nlog_level: debug", &["greeting"], &[]),
            ("size: 3\namqp_password: b\ngreeting: c\nlog_level: debug", &[], &["size", "amqp_password"]),
            // The effective value, and one that says the same in other words: no change.
            ("size: '1'\namqp_password: a\ngreeting: c\nlog_level: DEBUG\nserver_host: 127.0.0.1", &[], &[]),
        ] {
            let changes = apply(&mut state, version(text));
            assert_eq!((&changes.live[..], &changes.at_next_start[..]), (live, at_next_start), "{text}");
        }
    }
}
