//! Is it alive, and can it work?
//!
//! `/livez` answers for the process alone: whoever restarts processes asks it, and a restart does not
//! bring a broker back. `/readyz` and `/health` answer for the work.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::IntoResponse,
};
use hops_config::Live;
use serde_json::{Map, Value, json};

type Check = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// The checks of a service.
#[derive(Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
    shown: Vec<(&'static str, Check)>,
    notes: Vec<(&'static str, Live<String>)>,
    draining: AtomicBool,
    requests: AtomicUsize,
}

/// A request that is worked on, for as long as this lives.
#[derive(Debug)]
pub(super) struct InHand<'a>(&'a AtomicUsize);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    /// Adds a check: `Ok` and `Err` both say how things are.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Box::new(check)));
        self
    }

    /// Adds a check that is shown and does not decide: the service works without it.
    #[must_use]
    pub fn with_shown(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.shown.push((name, Box::new(check)));
        self
    }

    /// Adds what is no reason to send nobody here, and is shown to who asks for more: `/readyz?verbose`.
    #[must_use]
    pub fn with_note(mut self, name: &'static str, note: Live<String>) -> Self {
        self.notes.push((name, note));
        self
    }

    /// From now on not ready: we are stopping.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(super) fn in_hand(&self) -> InHand<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InHand(&self.requests)
    }

    /// How many requests are worked on at the moment.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The same with the notes.
    fn verbose_report(&self) -> (bool, Value) {
        let (ready, mut report) = self.report();
        let notes = self.notes.iter().map(|(name, note)| ((*name).to_owned(), note.get().into()));
        report["notes"] = Value::Object(notes.collect());
        (ready, report)
    }

    /// Whether all is well, and each check's word.
    #[must_use]
    pub fn report(&self) -> (bool, Value) {
        let draining = self.is_draining();
        let mut ready = !draining;
        let mut checks = Map::new();
        let deciding = self.checks.iter().map(|check| (check, true));
        for ((name, check), decides) in deciding.chain(self.shown.iter().map(|check| (check, false))) {
            let (status, detail) = check().map_or_else(|why| ("DOWN", why), |how| ("UP", how));
            ready &= status == "UP" || !decides;
            checks.insert((*name).into(), json!({ "status": status, "detail": detail }));
        }
        (ready, json!({ "status": word(ready), "draining": draining, "checks": checks }))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.report().1).finish()
    }
}

/// Whether a path is asked by those who operate the service: they get an answer under any load.
pub(super) fn is_operation(path: &str) -> bool {
    matches!(path, "/health" | "/livez" | "/readyz" | "/metrics")
}

fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

fn status(up: bool) -> StatusCode {
    if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `GET /health`: one word, as in the series.
pub(super) async fn summary(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let (ready, _) = health.report();
    (status(ready), Json(json!({ "status": word(ready) })))
}

/// `GET /livez`.
pub(super) async fn live() -> impl IntoResponse {
    Json(json!({ "status": "UP" }))
}

/// `GET /readyz`: all checks by name; with `?verbose` the notes, too.
pub(super) async fn ready(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let is_verbose = query.is_some_and(|query| query.split('&').any(|word| word.starts_with("verbose")));
    let (ready, report) = if is_verbose { health.verbose_report() } else { health.report() };
    (status(ready), Json(report))
}
