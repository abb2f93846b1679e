//! Liveness and readiness.
//!
//! `/livez` answers for the process alone: it is for supervisors, and a restart does not bring a broker back. `/readyz`
//! and `/health` answer for everything that the service needs.

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
    http::{Method, StatusCode},
    response::IntoResponse,
    routing::get,
};
use hops_config::Live;
use messaging::MessagingClient;
use serde_json::{Map, Value, json};

use super::Route;

/// The addresses of the checks.
pub const ROUTES: &[Route<Arc<Health>>] = &[
    (Method::GET, "/health", || get(summary)),
    (Method::GET, "/livez", || get(live)),
    (Method::GET, "/readyz", || get(ready)),
];

/// A check by its name, and whether readiness depends on it.
type Check = (&'static str, bool, Box<dyn Fn() -> Result<String, String> + Send + Sync>);

/// A number that grows, or `None` once all is done.
type Progress = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The checks of a service.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
    notes: Vec<(&'static str, Live<String>)>,
    progress: Option<Progress>,
    draining: AtomicBool,
    requests: AtomicUsize,
}

/// A request in flight, for as long as this lives.
#[derive(Debug)]
pub(super) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    /// Adds a check. Both `Ok` and `Err` have a detail.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, true, Box::new(check)));
        self
    }

    /// Adds a check that is shown and never affects readiness: the service works without it.
    #[must_use]
    pub fn with_shown(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, false, Box::new(check)));
        self
    }

    /// Adds an informational entry. It never affects readiness; `/readyz?verbose` shows it.
    #[must_use]
    pub fn with_note(mut self, name: &'static str, note: Live<String>) -> Self {
        self.notes.push((name, note));
        self
    }

    /// Adds a number that grows while the service does what it has to do before it is ready, as `progress` in the
    /// report; `None` afterwards. Whoever waits for the service can tell slow from stuck.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Makes the service not ready, since it is stopping.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(super) fn in_flight(&self) -> InFlight<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.requests)
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the report with the notes.
    fn verbose_report(&self) -> (bool, Value) {
        let (ready, mut report) = self.report();
        let notes = self.notes.iter().map(|(name, note)| ((*name).to_owned(), note.get().into()));
        report["notes"] = Value::Object(notes.collect());
        (ready, report)
    }

    /// Returns `true` if the service is ready, and the result of each check.
    #[must_use]
    pub fn report(&self) -> (bool, Value) {
        let draining = self.is_draining();
        let mut ready = !draining;
        let mut checks = Map::new();
        for (name, decides, check) in &self.checks {
            let (status, detail) = check().map_or_else(|why| ("DOWN", why), |how| ("UP", how));
            ready &= status == "UP" || !decides;
            checks.insert((*name).into(), json!({ "status": status, "detail": detail }));
        }
        let mut report = json!({ "status": word(ready), "draining": draining, "checks": checks });
        if let Some(progress) = self.progress.as_ref().and_then(|progress| progress()) {
            report["progress"] = progress.into();
        }
        (ready, report)
    }
}

/// Returns the check of the broker's connections.
pub fn broker<C: MessagingClient + ?Sized + 'static>(
    client: &Arc<C>,
) -> impl Fn() -> Result<String, String> + Send + Sync + 'static {
    let client = Arc::clone(client);
    move || client.status().check()
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.report().1).finish()
    }
}

/// Returns `true` for a path that operators use: it is answered under any load.
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
async fn summary(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let (ready, _) = health.report();
    (status(ready), Json(json!({ "status": word(ready) })))
}

/// `GET /livez`.
async fn live() -> impl IntoResponse {
    Json(json!({ "status": "UP" }))
}

/// `GET /readyz`: all checks by name; with `?verbose` the notes, too.
async fn ready(State(health): State<Arc<Health>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let is_verbose = query.is_some_and(|query| query.split('&').any(|word| word.starts_with("verbose")));
    let (ready, report) = if is_verbose { health.verbose_report() } else { health.report() };
    (status(ready), Json(report))
}
