//! What counts for this process, for its operator: `GET /settings`.

use axum::{
    Json, Router,
    extract::State,
    http::{
        Method,
        header::{self, HeaderName},
    },
    routing::get,
};
use hops_config::{Live, shown::Effective};

use super::{Access, Route, table};

/// The address of the settings.
pub const ROUTES: &[Route<Live<Effective>>] = &[(Method::GET, "/settings", || get(settings))];

/// `GET /settings`: each key with its value, the layer that it came from, and whether it is live; for whom `access`
/// lets in.
pub fn router(effective: Live<Effective>, access: Access) -> Router {
    access.guard(table(ROUTES).with_state(effective))
}

async fn settings(
    State(effective): State<Live<Effective>>,
) -> ([(HeaderName, &'static str); 1], Json<Effective>) {
    ([(header::CACHE_CONTROL, "no-store")], Json(effective.get()))
}
