//! The rule of access for the page's server: who may ask, and from where.
//!
//! Any program of any user of this machine can connect, and a browser connects for any page that it shows. So:
//! - What a browser sends for a page of elsewhere is refused, by the rule of [`browser_guard`].
//! - A request for data has the token, which only its owner can read.
//! - A request that changes something has the content type of JSON, which a form of another page cannot send.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use browser_guard::Hosts;
use subtle::ConstantTimeEq as _;

use crate::problem::Problem;

/// The rule for a server of this machine.
#[derive(Clone, Default)]
pub struct Access {
    hosts: Hosts,
    token: Option<String>,
}

/// Reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The request is for another host, or comes from another page.
    #[error(transparent)]
    Browser(#[from] browser_guard::Refused),
    /// The token is missing or wrong.
    #[error("send the token as `Authorization: Bearer TOKEN`: `cargo hops live` prints the address with it")]
    Token,
    /// The body is not JSON.
    #[error("send the body as application/json")]
    ContentType,
}

impl Access {
    /// Creates the rule; without a token, only host, origin and content type are checked.
    #[must_use]
    pub fn new(token: Option<String>) -> Self {
        Self { hosts: Hosts::default(), token }
    }

    /// Checks a request by its method and headers.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn check<B>(&self, request: &axum::http::Request<B>) -> Result<(), Refused> {
        self.hosts.check(request)?;
        let headers = request.headers();
        if self.token.as_ref().is_some_and(|token| !has_token(headers, token)) {
            return Err(Refused::Token);
        }
        let changes_something = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if changes_something && !is_json(headers) { Err(Refused::ContentType) } else { Ok(()) }
    }

    /// Puts the whole rule before `routes`, of which there is at least one.
    pub fn guard(self, routes: Router) -> Router {
        routes.route_layer(from_fn_with_state(self, guarded))
    }

    /// Puts the part of the rule that needs no token before everything in `router`, missing routes too.
    pub fn guard_sender(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, sender_guarded))
    }
}

async fn guarded(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(why) => why.into_response(),
    }
}

async fn sender_guarded(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.hosts.check_page(&request) {
        Ok(()) => next.run(request).await,
        Err(why) => Refused::from(why).into_response(),
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Browser(why) => why.status(),
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        let mut response = Problem::new(status, self.to_string()).into_response();
        if self == Self::Token {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Returns the value of a header that is there once.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Compares the bearer token (RFC 6750, section 2.1) in a time that does not depend on how much of it is right.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = only(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let Some((scheme, given)) = given else { return false };
    scheme.eq_ignore_ascii_case("bearer") && token.as_bytes().ct_eq(given.trim().as_bytes()).into()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = only(headers, header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The token is not shown.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use browser_guard::Refused::{Host, Malformed, OtherSite};

    use super::*;

    const HERE: (&str, &str) = ("host", "127.0.0.1:7878");
    const TOKEN: (&str, &str) = ("authorization", "Bearer s3cret");
    const JSON: (&str, &str) = ("content-type", "application/json");

    #[track_caller]
    fn check(method: &Method, given: &[(&'static str, &str)], expected: Result<(), Refused>) {
        let request = axum::http::Request::builder().method(method);
        let request = given.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let access = Access::new(Some("s3cret".into()));
        assert_eq!(access.check(&request.body(()).unwrap()), expected, "{method} {given:?}");
    }

    #[test]
    fn the_host_is_this_machine_and_the_page_its_own_whatever_else_is_right() {
        check(&Method::GET, &[HERE, TOKEN, ("origin", "http://127.0.0.1:7878")], Ok(()));
        check(&Method::GET, &[("host", "evil.example:7878"), TOKEN], Err(Host.into()));
        check(&Method::GET, &[HERE, TOKEN, ("origin", "http://evil.example")], Err(OtherSite.into()));
        check(&Method::GET, &[TOKEN], Err(Malformed.into()));
        check(&Method::POST, &[TOKEN, JSON], Err(Malformed.into()));
    }

    #[test]
    fn data_is_for_the_owner_of_the_token() {
        check(&Method::GET, &[HERE, ("authorization", "bearer  s3cret ")], Ok(()));
        for given in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "Basic s3cret", "s3cret", ""] {
            check(&Method::GET, &[HERE, ("authorization", given)], Err(Refused::Token));
        }
        check(&Method::GET, &[HERE], Err(Refused::Token));
        check(&Method::GET, &[HERE, TOKEN, TOKEN], Err(Refused::Token));
        assert!(!format!("{:?}", Access::new(Some("s3cret".into()))).contains("s3cret"));
    }

    #[test]
    fn what_changes_something_is_json() {
        for kind in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
            check(&Method::POST, &[HERE, TOKEN, ("content-type", kind)], Ok(()));
        }
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonp",
            "",
        ] {
            check(&Method::POST, &[HERE, TOKEN, ("content-type", kind)], Err(Refused::ContentType));
        }
        check(&Method::POST, &[HERE, TOKEN], Err(Refused::ContentType));
        check(&Method::PUT, &[HERE, TOKEN], Err(Refused::ContentType));
        check(&Method::POST, &[HERE, JSON], Err(Refused::Token));
    }
}
