//! Settings that change while a service runs: they travel through a watch channel, and nothing keeps a copy.
//!
//! They are read again in `reload`.

use std::{fmt, sync::Arc};

use config::{Map, Value};
use tokio::sync::watch;

use super::{
    ServiceSettings, SharedSettings, Sources,
    shown::{Effective, effective},
    sources::Loaded,
};

/// A value that may change while the service runs: ask for it where it is used.
pub struct Live<T>(Arc<dyn Fn() -> T + Send + Sync>);

impl<T> Live<T> {
    /// The value at this moment.
    #[must_use]
    pub fn get(&self) -> T {
        (self.0)()
    }

    /// A value that follows from this one.
    #[must_use]
    pub fn map<U>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> Live<U>
    where
        T: 'static,
    {
        let get = Arc::clone(&self.0);
        Live(Arc::new(move || f(get())))
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// One that never changes.
impl<T: Clone + Send + Sync + 'static> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(move || value.clone()))
    }
}

/// Those of a service that reads its settings once.
impl From<&SharedSettings> for Live<Arc<SharedSettings>> {
    fn from(settings: &SharedSettings) -> Self {
        Arc::new(settings.clone()).into()
    }
}

type OnApply<S> = Arc<dyn Fn(&S) + Send + Sync>;

/// A service's settings, as they are and as they were at its start.
pub struct LiveSettings<S> {
    pub(super) sources: Arc<Sources>,
    /// What the person should know who started the service.
    warning: Option<String>,
    /// Called with each new version.
    pub(super) on_apply: Option<OnApply<S>>,
    pub(super) state: Arc<watch::Sender<State<S>>>,
}

/// One version of the settings, taken over as a whole.
pub(super) struct Version<S> {
    pub(super) settings: Arc<S>,
    shared: Arc<SharedSettings>,
    /// What was set, by key, with its origin; a secret stands here in clear.
    pub(super) values: Map<String, Value>,
    pub(super) is_known: bool,
}

pub(super) struct State<S> {
    /// Keys that are not live have these values for as long as the process runs.
    pub(super) started: Arc<Version<S>>,
    pub(super) now: Arc<Version<S>>,
    /// Why what was read last has not taken over.
    pub(super) refused: Option<String>,
    /// The same, once it was logged.
    pub(super) told: Option<String>,
}

impl<S: ServiceSettings> Version<S> {
    pub(super) fn new(loaded: Loaded<S>) -> Arc<Self> {
        let shared = Arc::new(loaded.settings.shared().clone());
        let Loaded { settings, values, is_known, .. } = loaded;
        Arc::new(Self { settings: Arc::new(settings), shared, values, is_known })
    }
}

impl<S: ServiceSettings> LiveSettings<S> {
    pub(super) fn new(sources: Sources, mut loaded: Loaded<S>) -> Self {
        let warning = loaded.warning.take();
        let version = Version::new(loaded);
        let state = State { started: Arc::clone(&version), now: version, refused: None, told: None };
        Self {
            sources: Arc::new(sources),
            warning,
            on_apply: None,
            state: Arc::new(watch::Sender::new(state)),
        }
    }

    /// The settings at this moment: at the start, those that count for keys that are not live.
    #[must_use]
    pub fn now(&self) -> Arc<S> {
        Arc::clone(&self.state.borrow().now.settings)
    }

    /// What is made of live keys.
    #[must_use]
    pub fn live<T>(&self, f: impl Fn(&S) -> T + Send + Sync + 'static) -> Live<T> {
        let state = self.state.subscribe();
        Live(Arc::new(move || f(&state.borrow().now.settings)))
    }

    /// The shared keys, for what stands around every service.
    #[must_use]
    pub fn shared(&self) -> Live<Arc<SharedSettings>> {
        let state = self.state.subscribe();
        Live(Arc::new(move || Arc::clone(&state.borrow().now.shared)))
    }

    /// All keys with what counts for each, for operators.
    #[must_use]
    pub fn effective(&self) -> Live<Effective> {
        let state = self.state.subscribe();
        Live(Arc::new(move || {
            let state = state.borrow();
            effective(&state.started, &state.now)
        }))
    }

    /// Where the settings came from, and whether what was read last has taken over; for `/readyz?verbose`.
    #[must_use]
    pub fn note(&self) -> Live<String> {
        let (state, origin) = (self.state.subscribe(), self.sources.origin());
        Live(Arc::new(move || match &state.borrow().refused {
            None => format!("from {origin}"),
            Some(why) => format!("as they were, since what was read last is refused: {why}"),
        }))
    }

    /// Calls `apply` with each new version from now on, before its changes are logged.
    #[must_use]
    pub fn on_apply(self, apply: impl Fn(&S) + Send + Sync + 'static) -> Self {
        Self { on_apply: Some(Arc::new(apply)), ..self }
    }

    /// Returns whether a file or a config server can change them.
    #[must_use]
    pub fn can_change(&self) -> bool {
        self.sources.can_change()
    }

    /// The profile whose files are read.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.sources.profile
    }

    /// Logs where the settings came from.
    pub fn announce(&self) {
        self.sources.announce(&*self.now());
        if let Some(warning) = &self.warning {
            tracing::warn!("{warning}");
        }
    }
}

/// Settings that never change.
impl<S: ServiceSettings> From<S> for LiveSettings<S> {
    fn from(settings: S) -> Self {
        Self::new(Sources::default(), Loaded { settings, values: Map::new(), is_known: false, warning: None })
    }
}

/// The same settings: a reload through one is seen through all.
impl<S> Clone for LiveSettings<S> {
    fn clone(&self) -> Self {
        Self {
            sources: Arc::clone(&self.sources),
            warning: self.warning.clone(),
            on_apply: self.on_apply.clone(),
            state: Arc::clone(&self.state),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for LiveSettings<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.borrow().now.settings.fmt(f)
    }
}
