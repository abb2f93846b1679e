//! The rule of access for what listens on this machine: who may ask, and from where.
//!
//! Any program of any user of this machine can connect, and a browser connects for any page that it shows. So:
//! - `Host` is this machine under one of its own names, with the port of the listener: a name that somebody else has
//!   pointed here (DNS rebinding) is refused.
//! - `Origin`, which a browser adds, is the same: no other page can ask. There is no CORS.
//! - A request for data has the token, which only its owner can read.
//! - A request that changes something has the content type of JSON, which a form of another page cannot send.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use subtle::ConstantTimeEq as _;

use crate::problem::Problem;

/// Names of this machine that a `Host` may have.
const NAMES: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// The rule for one listener.
#[derive(Clone)]
pub struct Access {
    port: u16,
    token: Option<String>,
}

/// Reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The host is not this machine.
    #[error("this server answers under its own address only, as in http://127.0.0.1:PORT")]
    Host,
    /// The request comes from another page.
    #[error("requests of other pages are refused")]
    Origin,
    /// The token is missing or wrong.
    #[error("send the token as `Authorization: Bearer TOKEN`: `cargo hops live` prints the address with it")]
    Token,
    /// The body is not JSON.
    #[error("send the body as application/json")]
    ContentType,
}

impl Access {
    /// Creates the rule of a listener; without a token, only host, origin and content type are checked.
    #[must_use]
    pub fn new(port: u16, token: Option<String>) -> Self {
        Self { port, token }
    }

    /// Checks a request by its method and headers.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
        self.check_sender(headers)?;
        if self.token.as_ref().is_some_and(|token| !has_token(headers, token)) {
            return Err(Refused::Token);
        }
        let changes_something = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if changes_something && !is_json(headers) { Err(Refused::ContentType) } else { Ok(()) }
    }

    /// Checks only where a request comes from, for files that hold no data.
    ///
    /// # Errors
    /// The host or the origin is another one.
    pub fn check_sender(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let host = only(headers, header::HOST).ok_or(Refused::Host)?;
        let address: Authority = host.parse().map_err(|_| Refused::Host)?;
        let is_here = NAMES.iter().any(|name| address.host().eq_ignore_ascii_case(name));
        if !is_here || host.contains('@') || address.port_u16().unwrap_or(80) != self.port {
            return Err(Refused::Host);
        }
        if !headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        let origin = only(headers, header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
        if origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
            Ok(())
        } else {
            Err(Refused::Origin)
        }
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
    match access.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => why.into_response(),
    }
}

async fn sender_guarded(State(access): State<Access>, request: Request, next: Next) -> Response {
    match access.check_sender(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => why.into_response(),
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
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
        f.debug_struct("Access").field("port", &self.port).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: (&str, &str) = ("host", "127.0.0.1:7878");
    const TOKEN: (&str, &str) = ("authorization", "Bearer s3cret");
    const JSON: (&str, &str) = ("content-type", "application/json");

    #[track_caller]
    fn check(method: &Method, given: &[(&'static str, &str)], expected: Result<(), Refused>) {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        let access = Access::new(7878, Some("s3cret".into()));
        assert_eq!(access.check(method, &headers), expected, "{method} {given:?}");
    }

    #[test]
    fn the_host_is_this_machine_under_its_own_name_and_port() {
        for host in ["127.0.0.1:7878", "localhost:7878", "LocalHost:7878", "[::1]:7878"] {
            check(&Method::GET, &[("host", host), TOKEN], Ok(()));
        }
        for host in [
            "evil.example:7878",
            "127.0.0.1",
            "127.0.0.1:7879",
            "127.0.0.1.evil.example:7878",
            "localhost.:7878",
            "u@127.0.0.1:7878",
            "127.0.0.1:7878, evil.example",
            "::1:7878",
            "",
        ] {
            check(&Method::GET, &[("host", host), TOKEN], Err(Refused::Host));
        }
        check(&Method::GET, &[TOKEN], Err(Refused::Host));
        check(&Method::GET, &[HERE, HERE, TOKEN], Err(Refused::Host));
    }

    #[test]
    fn another_page_is_refused_even_with_the_token() {
        check(&Method::GET, &[HERE, TOKEN, ("origin", "http://127.0.0.1:7878")], Ok(()));
        for origin in [
            "https://evil.example",
            "http://evil.example:7878",
            "null",
            "",
            "http://localhost:7878",
            "https://127.0.0.1:7878",
            "http://127.0.0.1:7879",
        ] {
            check(&Method::GET, &[HERE, TOKEN, ("origin", origin)], Err(Refused::Origin));
        }
        let own = ("origin", "http://127.0.0.1:7878");
        check(&Method::GET, &[HERE, TOKEN, own, own], Err(Refused::Origin));
    }

    #[test]
    fn data_is_for_the_owner_of_the_token() {
        check(&Method::GET, &[HERE, ("authorization", "bearer  s3cret ")], Ok(()));
        for given in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "Basic s3cret", "s3cret", ""] {
            check(&Method::GET, &[HERE, ("authorization", given)], Err(Refused::Token));
        }
        check(&Method::GET, &[HERE], Err(Refused::Token));
        check(&Method::GET, &[HERE, TOKEN, TOKEN], Err(Refused::Token));
        assert!(!format!("{:?}", Access::new(1, Some("s3cret".into()))).contains("s3cret"));
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
        check(&Method::POST, &[TOKEN, JSON], Err(Refused::Host));
    }
}
