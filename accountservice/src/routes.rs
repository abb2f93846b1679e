//! Hop 1, request: which address leads where.
//!
//! The request's id and its span are there already: [`service::http`] stands around every route.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::Method,
    routing::get,
};
use contracts::RequestContext;
use service::http::Problem;

use crate::handlers::{self, AccountAnswer, AccountList, AppState, PageQuery};

/// The routes of the accountservice.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/accounts", get(accounts))
        .route("/accounts/{id}", get(account))
        .with_state(Arc::new(state))
}

async fn account(
    State(state): State<Arc<AppState>>,
    method: Method,
    Path(segment): Path<String>,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Json<AccountAnswer>, Problem> {
    tracing::debug!(hop = 1, name = "request", "{method} /accounts/{segment}");
    // axum runs the GET handler for HEAD too, and that one only asks whether the account is there.
    let notify = method == Method::GET;
    handlers::get_account(&state, &segment, &context, notify).await.map(Json)
}

async fn accounts(
    State(state): State<Arc<AppState>>,
    query: Result<Query<PageQuery>, QueryRejection>,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Json<AccountList>, Problem> {
    let Query(page) = query?;
    handlers::list_accounts(&state, &page, &context).map(Json)
}
