//! The names under which a service answers, and the pages for which a browser may ask it: see [`browser_guard`].

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use browser_guard::{Hosts, Refused};

use super::Problem;

/// Puts a rule of its own before `routes`, of which there is at least one: they answer under these names only.
pub fn guard(routes: Router, hosts: Hosts) -> Router {
    routes.route_layer(from_fn_with_state(Arc::new(hosts), guarded))
}

async fn guarded(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Result<Response, Problem> {
    hosts.check(&request).map_err(problem)?;
    Ok(next.run(request).await)
}

/// Returns the answer to a request that is refused.
#[must_use]
pub fn problem(why: Refused) -> Problem {
    Problem::new(why.status(), advice(why))
}

/// Returns the reason with the setting that changes it.
#[must_use]
pub fn advice(why: Refused) -> String {
    match why {
        Refused::Host => format!("{why}; or add the name to the setting allowed_hosts"),
        why => why.to_string(),
    }
}
