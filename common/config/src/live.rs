//! Settings that change while a service runs: they travel through a watch channel, and nothing keeps a copy. `reload`
//! replaces them.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use super::{
    ServiceSettings, SettingsError, Sources,
    reloadable::Moment,
    shown::{Effective, effective},
    sources::Loaded,
};

/// A value that may change while the service runs: call [`get`](Self::get) where it is used.
pub struct Live<T>(Arc<dyn Fn() -> T + Send + Sync>);

impl<T> Live<T> {
    /// Returns the value at this moment.
    #[must_use]
    pub fn get(&self) -> T {
        (self.0)()
    }

    /// Returns a value that follows from this one.
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

/// A value that never changes.
impl<T: Clone + Send + Sync + 'static> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(move || value.clone()))
    }
}

/// The settings of one owner: the values at the start, and those at any moment of keys that are live.
#[derive(Debug, Clone)]
pub struct LiveSection<T> {
    started: T,
    now: Live<T>,
}

impl<T: 'static> LiveSection<T> {
    /// Returns a section that follows `now`.
    #[must_use]
    pub fn new(now: Live<T>) -> Self {
        Self { started: now.get(), now }
    }

    /// Returns the section as it was at the start.
    #[must_use]
    pub fn started(&self) -> &T {
        &self.started
    }

    /// Returns a value made of live keys.
    #[must_use]
    pub fn live<U>(&self, value: impl Fn(&T, Moment) -> U + Send + Sync + 'static) -> Live<U> {
        self.now.map(move |now| value(&now, Moment::NOW))
    }
}

/// A section that never changes.
impl<T: Clone + Send + Sync + 'static> From<T> for LiveSection<T> {
    fn from(settings: T) -> Self {
        Self::new(settings.into())
    }
}

type OnApply = Arc<dyn Fn() + Send + Sync>;

/// The settings of a service, as they are and as they were at its start. A clone has the same settings: a reload through
/// one changes all.
#[derive(Clone)]
pub struct LiveSettings<S> {
    pub(super) sources: Arc<Sources>,
    /// Called with each new version.
    pub(super) on_apply: Option<OnApply>,
    pub(super) state: Arc<watch::Sender<State<S>>>,
}

pub(super) struct State<S> {
    /// The version whose values apply for keys that are not live, as long as the process runs.
    pub(super) started: Arc<Loaded<S>>,
    pub(super) now: Arc<Loaded<S>>,
    /// The reason why the last reload was refused, which is logged once.
    pub(super) refused: Option<String>,
}

impl<S: ServiceSettings> LiveSettings<S> {
    /// Loads settings that can be reloaded while the service runs: see [`reload`](Self::reload).
    ///
    /// # Errors
    /// As [`Sources::load`].
    pub async fn load(sources: Sources) -> Result<Self, SettingsError> {
        let started = Arc::new(sources.load_first().await?);
        let state = State { now: Arc::clone(&started), started, refused: None };
        let state = Arc::new(watch::Sender::new(state));
        Ok(Self { sources: Arc::new(sources), on_apply: None, state })
    }

    /// Returns the settings as they were at the start.
    #[must_use]
    pub fn started(&self) -> Arc<S> {
        Arc::clone(&self.state.borrow().started.settings)
    }

    /// Returns the settings of one owner.
    #[must_use]
    pub fn section<T: Clone>(&self, of: impl Fn(&S) -> &T + Send + Sync + 'static) -> LiveSection<T> {
        let state = self.state.subscribe();
        let started = of(&self.started()).clone();
        LiveSection { started, now: Live(Arc::new(move || of(&state.borrow().now.settings).clone())) }
    }

    /// Returns each key with its effective value, for operators.
    #[must_use]
    pub fn effective(&self) -> Live<Effective> {
        let state = self.state.subscribe();
        Live(Arc::new(move || {
            let state = state.borrow();
            effective(&state.started, &state.now)
        }))
    }

    /// Describes where the settings came from, and why the last reload was refused; for `/readyz?verbose`.
    #[must_use]
    pub fn note(&self) -> Live<String> {
        let (state, origin) = (self.state.subscribe(), self.sources.origin());
        Live(Arc::new(move || match &state.borrow().refused {
            None => format!("from {origin}"),
            Some(why) => format!("unchanged, since the last reload was refused: {why}"),
        }))
    }

    /// Calls `apply` after each new version from now on, before its changes are logged.
    #[must_use]
    pub fn on_apply(self, apply: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_apply: Some(Arc::new(apply)), ..self }
    }

    /// Returns the sources that the settings are loaded from.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Logs where the settings of the service, which calls itself `name`, came from.
    pub fn announce(&self, name: &str) {
        tracing::info!(profile = self.sources.profile, "settings for {name} from {}", self.sources.origin());
        if let Some(warning) = &self.state.borrow().started.warning {
            tracing::warn!("{warning}");
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for LiveSettings<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.borrow().now.settings.fmt(f)
    }
}
