//! Errors as RFC 9457 `application/problem+json`: the possible answers, and nothing of their causes.

use axum::{
    Json,
    body::Body,
    extract::rejection::QueryRejection,
    http::{HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;

/// An answer that is an error. [`super::router`] adds the request's id, by which the log is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// An answer with this status; `detail` is for the client's eyes.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it says that the state of the resource is another one than the client thinks: 409 and 412.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.status, StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED)
    }

    /// What the client reads.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// 400: what is wrong with the request.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404: what there is not.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503 with `Retry-After`: it may work in a second.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 500: the log has the cause.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the log under this request id")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The members of RFC 9457, section 3.1, and one of ours.
#[derive(Serialize)]
struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

/// Writes the body of an error, whoever made it: a handler's [`Problem`], or a bare status of the framework.
pub(super) fn rendered(response: Response<Body>, method: &Method, request_id: &str) -> Response<Body> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let detail = match response.extensions().get::<Problem>() {
        Some(problem) => problem.detail.clone(),
        // An answer that brings its own JSON, as the health checks do.
        None if response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/json") => {
            return response;
        }
        None if status == StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = response.headers().get(header::ALLOW).and_then(|allow| allow.to_str().ok());
            let allowed = allowed.unwrap_or_default().replace(',', ", ");
            format!("{method} is not allowed here (allowed: {allowed})")
        }
        None => "the request cannot be answered".into(),
    };
    let body = ProblemBody {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: &detail,
        request_id,
    };
    let mut problem = (status, Json(body)).into_response();
    let headers = problem.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(allow) = response.headers().get(header::ALLOW) {
        headers.insert(header::ALLOW, allow.clone());
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    problem
}
