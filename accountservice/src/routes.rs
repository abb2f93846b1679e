//! Hop 1, request: which address leads where.
//!
//! The request's id and its span are there already: [`service::http`] stands around every route.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, Method, StatusCode},
    response::Response,
    routing::{delete, get, post, put},
};
use contracts::RequestContext;
use service::http::{Problem, Route, openapi, table};

use crate::{
    conditions::ReadConditions,
    handlers::{self, AppState, PageQuery, writes},
};

/// The addresses of the accountservice.
pub const ROUTES: &[Route<Arc<AppState>>] = &[
    (Method::GET, "/accounts", || get(accounts)),
    (Method::POST, "/accounts", || post(create)),
    (Method::GET, "/accounts/{id}", || get(account)),
    (Method::PUT, "/accounts/{id}", || put(replace)),
    (Method::DELETE, "/accounts/{id}", || delete(remove)),
    (Method::GET, "/openapi.json", || get(async || openapi(include_str!("../openapi.json")))),
];

/// The routes of the accountservice.
pub fn router(state: AppState) -> Router {
    table(ROUTES).with_state(Arc::new(state))
}

async fn account(
    State(state): State<Arc<AppState>>,
    method: Method,
    Path(segment): Path<String>,
    conditions: ReadConditions,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Response, Problem> {
    tracing::debug!(hop = 1, name = "request", "{method} /accounts/{segment}");
    // axum runs the GET handler for HEAD too, and that one only asks whether the account is there.
    let notify = method == Method::GET;
    handlers::get_account(&state, &segment, &conditions, &context, notify).await
}

async fn accounts(
    State(state): State<Arc<AppState>>,
    query: Result<Query<PageQuery>, QueryRejection>,
    conditions: ReadConditions,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Response, Problem> {
    let Query(page) = query?;
    handlers::list_accounts(&state, &page, &conditions, &context).await
}

async fn create(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Extension(context): Extension<Arc<RequestContext>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    writes::create_account(&state, &headers, &read(body)?, &context).await
}

async fn replace(
    State(state): State<Arc<AppState>>,
    Path(segment): Path<String>,
    headers: HeaderMap,
    Extension(context): Extension<Arc<RequestContext>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    writes::replace_account(&state, &segment, &headers, &read(body)?, &context).await
}

async fn remove(
    State(state): State<Arc<AppState>>,
    Path(segment): Path<String>,
    headers: HeaderMap,
    Extension(context): Extension<Arc<RequestContext>>,
) -> Result<Response, Problem> {
    writes::delete_account(&state, &segment, &headers, &context).await
}

fn read(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(status, "the body is too large for an account")
        }
        status => Problem::new(status, rejection.body_text()),
    })
}
