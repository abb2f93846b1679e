//! Everything around a handler: request id, limits, problems, health, the operator's access, settings, metrics, the
//! server.
//!
//! One function, [`Guarded::answer`], stands around every request; what it does can be read top to bottom there.

pub mod routes;
pub mod problem;
pub mod health;
pub mod access;
pub mod effective;
pub mod hosts;
mod settings;
mod server;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use browser_guard::Hosts;
use contracts::{RequestContext, TRACEPARENT, TRACESTATE};
use futures_util::FutureExt;
use hops_config::{Live, LiveSection};
use http_body_util::Limited;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use messaging::panic_text;
use prometheus_client::registry::Registry;
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument;

pub use self::{
    access::{Access, Peer},
    health::Health,
    problem::Problem,
    routes::{Route, openapi, table},
    server::serve,
    settings::Settings,
};

/// The header that names a request: accepted or made, and echoed.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The largest request body, in bytes, by default: requests of the walk have none.
pub(crate) const BODY_LIMIT: usize = 16 * 1024;

/// The bounds of each request.
#[derive(Debug)]
struct Limits {
    timeout: Live<Duration>,
    slots: Semaphore,
    health: Arc<Health>,
}

/// A service's routes with all that stands around every request: see [`answer`](Self::answer).
///
/// It stands around the whole router and is no layer in it: axum boxes a layer's futures and clones its
/// services for each request, which costs a plain read 7,000 instructions of 37,000.
#[derive(Debug, Clone)]
pub struct Guarded {
    router: TowerToHyperService<Router>,
    limits: Arc<Limits>,
    /// The largest request body, in bytes.
    body: usize,
    /// The names under which it answers.
    hosts: Hosts,
}

/// The address of the metrics.
pub const METRICS: &[Route<Arc<Registry>>] = &[(Method::GET, "/metrics", || get(metrics))];

/// A service's routes with all that stands around them, and `/health`, `/livez`, `/readyz`, `/metrics`. A route
/// finds its request's context as an `Extension<Arc<RequestContext>>`.
pub fn router(
    routes: Router,
    settings: &LiveSection<Settings>,
    health: &Arc<Health>,
    registry: Registry,
) -> Guarded {
    let limits = Limits {
        timeout: settings.live(|settings, moment| *settings.request_timeout.at(moment)),
        slots: Semaphore::new(settings.started().request_concurrency),
        health: Arc::clone(health),
    };
    let router = routes
        .merge(table(health::ROUTES).with_state(Arc::clone(health)))
        .merge(table(METRICS).with_state(Arc::new(registry)))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such resource"));
    Guarded {
        router: TowerToHyperService::new(router),
        limits: Arc::new(limits),
        body: BODY_LIMIT,
        hosts: Hosts::default(),
    }
}

impl Guarded {
    /// Accepts request bodies of up to `bytes`, at most the two megabytes of axum's extractors.
    #[must_use]
    pub fn with_body_limit(self, bytes: usize) -> Self {
        Self { body: bytes, ..self }
    }

    /// Answers under these names; without this, under those of this machine.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    /// Answers a request.
    pub async fn answer(&self, mut request: Request) -> Response {
        let limits = &self.limits;
        let context = Arc::new(context(request.headers()));
        let (method, id) = (request.method().clone(), context.request_id.as_str());
        // At debug only: a span for each read costs a tenth of it. What is logged above debug names its request.
        let span = tracing::debug_span!("request", request = id, trace = context.trace.id());
        request.extensions_mut().insert(Arc::clone(&context));
        if !request.body().is_end_stream() {
            request = request.map(|body| Body::new(Limited::new(body, self.body)));
        }

        let _in_flight = limits.health.in_flight();
        let slot = limits.slots.try_acquire();
        let response = if let Err(why) = self.hosts.check(&request) {
            hosts::problem(why).into_response()
        } else if slot.is_err() && !health::is_operation(request.uri().path()) {
            Problem::unavailable("too many requests are in flight").into_response()
        } else if content_length(request.headers()) > self.body {
            let detail = format!("a body may have {} bytes", self.body);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response()
        } else {
            let work = AssertUnwindSafe(self.router.call(request)).catch_unwind().instrument(span);
            let limit = limits.timeout.get();
            match timeout(limit, work).await {
                Ok(Ok(Ok(response))) => response,
                Ok(Err(panic)) => {
                    tracing::error!(request = id, "the handler panicked: {}", panic_text(&*panic));
                    Problem::internal().into_response()
                }
                Err(_) => {
                    tracing::warn!(request = id, "not done within {limit:?}: answered 503");
                    Problem::unavailable(format!("not done within {limit:?}")).into_response()
                }
            }
        };
        let mut response = problem::rendered(response, &method, id);
        if let Ok(value) = HeaderValue::from_str(id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if limits.health.is_draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn context(headers: &HeaderMap) -> RequestContext {
    const PARENT: HeaderName = HeaderName::from_static(TRACEPARENT);
    const STATE: HeaderName = HeaderName::from_static(TRACESTATE);
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    RequestContext::from_parts_or_new(text(&REQUEST_ID), text(&PARENT), text(&STATE))
}

fn content_length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// `GET /metrics`, in the OpenMetrics text format that Prometheus reads.
async fn metrics(State(registry): State<Arc<Registry>>) -> Result<impl IntoResponse, Problem> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).map_err(|_| Problem::internal())?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text))
}

#[cfg(test)]
mod tests;
