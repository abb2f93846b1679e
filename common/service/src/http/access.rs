//! Access to the operators' routes, such as `/settings` and `/encrypt`: a client needs the token, or is on this machine.
//!
//! A browser on this machine speaks for any page that it shows, and a proxy for any client of its own: so where the
//! peer is all that is known, a request that names the page it comes from, a host that is not this machine, or
//! another client behind it gets nothing. A proxy on this machine that adds nothing (nginx's `proxy_pass` alone) cannot
//! be told from its machine: it has to refuse these paths itself.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{Extensions, HeaderMap, HeaderName, StatusCode, header, uri::Authority},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use documented::DocumentedFields;
use hops_config::{
    InvalidValue, Moment, Section,
    secret::{Secret, SecretFile},
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::Problem;

/// The settings of the operators' access.
#[derive(Debug, Clone, Default, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// Whoever sends it as a bearer token may use the operators' routes, as everyone on this machine may (default none)
    pub management_token: Option<Secret>,
    /// A file that holds that token, such as a Docker secret
    pub management_token_file: Option<SecretFile>,
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        Access::new(self).map(drop)
    }
}

/// The address of the client. [`serve`](super::serve) adds it to each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Headers that only a browser or a proxy adds to a request.
const OF_OTHERS: [HeaderName; 4] =
    [header::ORIGIN, header::FORWARDED, HeaderName::from_static("x-forwarded-for"), header::VIA];

/// The rule, with the token that it asks for.
#[derive(Debug, Clone, Default)]
pub struct Access {
    token: Option<Secret>,
}

impl Access {
    /// Makes the rule of the settings; reads `management_token_file`.
    ///
    /// # Errors
    /// A file that cannot be read, or an empty token.
    pub fn new(settings: &Settings) -> Result<Self, InvalidValue> {
        let (token, file) = (&settings.management_token, &settings.management_token_file);
        Ok(Self { token: Secret::given_or_in_file("management_token", token.as_ref(), file.as_ref())? })
    }

    /// Puts the rule before `routes`, of which there is at least one. Other clients are answered 403.
    pub fn guard(self, routes: Router) -> Router {
        routes.route_layer(from_fn_with_state(Arc::new(self), guarded))
    }

    /// Checks a request, for a route that has a further rule.
    ///
    /// # Errors
    /// The answer 403, with advice on what to set.
    pub fn check(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<(), Problem> {
        let peer = extensions.get::<Peer>().map(|peer| peer.0.ip());
        self.decide(peer, headers).map_err(|why| Problem::new(StatusCode::FORBIDDEN, why))
    }

    fn decide(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), &'static str> {
        match (&self.token, bearer(headers)) {
            (Some(token), Some(given)) if bool::from(token.expose().as_bytes().ct_eq(given)) => Ok(()),
            (Some(_), Some(_)) => Err("the bearer token is not that of management_token"),
            (None, Some(_)) => Err("no token is known here: set management_token or management_token_file"),
            (_, None) if peer.is_some_and(is_loopback) && is_direct(headers) => Ok(()),
            (Some(_), None) => Err("send the token of management_token as `Authorization: Bearer TOKEN`"),
            (None, None) => {
                Err("this is for requests from the machine itself; for others set management_token \
                                 or management_token_file, and send it as `Authorization: Bearer TOKEN`")
            }
        }
    }
}

async fn guarded(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    access.check(request.extensions(), request.headers())?;
    Ok(next.run(request).await)
}

/// The bearer token of RFC 6750, section 2.1; another kind of credentials is not ours to judge.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (kind, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    kind.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// An IPv4 client of a socket that listens to both looks like `::ffff:127.0.0.1`.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Neither from a page of elsewhere, be it under a name of its own that leads here, nor through a proxy.
fn is_direct(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_here = host.is_some_and(|host| {
        host.host().eq_ignore_ascii_case("localhost")
            || browser_guard::address(host.host()).is_some_and(is_loopback)
    });
    is_here && hosts.next().is_none() && !OF_OTHERS.iter().any(|name| headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::http::{self, Health};

    fn with_token(token: &str) -> Access {
        Access { token: Some(Secret::new(token)) }
    }

    /// A name may stand twice.
    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn whoever_is_on_this_machine_is_allowed_and_no_page_that_a_browser_shows() {
        const HERE: &str = "127.0.0.1";
        for (peer, given, expected) in [
            (HERE, &[("host", "localhost:6868")][..], true),
            (HERE, &[("host", "LOCALHOST")], true),
            (HERE, &[("host", "127.0.0.1:6868")], true),
            ("127.8.9.10", &[("host", "127.8.9.10")], true),
            ("::1", &[("host", "[::1]:6868")], true),
            ("::ffff:127.0.0.1", &[("host", "localhost")], true),
            // Other credentials are judged elsewhere.
            (HERE, &[("host", "localhost"), ("authorization", "Basic dTpw")], true),
            ("10.0.0.1", &[("host", "localhost")], false),
            ("fe80::1", &[("host", "localhost")], false),
            (HERE, &[], false),
            (HERE, &[("host", "evil.example:6868")], false),
            (HERE, &[("host", "localhost.evil.example")], false),
            (HERE, &[("host", "127.0.0.1.evil.example")], false),
            (HERE, &[("host", "localhost"), ("host", "evil.example")], false),
            (HERE, &[("host", "10.0.0.1:6868")], false),
            (HERE, &[("host", "localhost"), ("origin", "https://evil.example")], false),
            (HERE, &[("host", "localhost"), ("origin", "null")], false),
            (HERE, &[("host", "localhost"), ("x-forwarded-for", "10.0.0.1")], false),
            (HERE, &[("host", "localhost"), ("forwarded", "for=10.0.0.1")], false),
            (HERE, &[("host", "localhost"), ("via", "1.1 proxy")], false),
        ] {
            let (peer, headers) = (peer.parse().unwrap(), headers(given));
            assert_eq!(Access::default().decide(Some(peer), &headers).is_ok(), expected, "{peer} {given:?}");
            assert_eq!(with_token("t").decide(Some(peer), &headers).is_ok(), expected, "{peer} {given:?}");
        }
        assert!(
            Access::default().decide(None, &headers(&[("host", "localhost")])).is_err(),
            "no peer is known"
        );
    }

    #[test]
    fn the_token_is_enough_from_anywhere_and_a_wrong_one_is_too_little_from_here() {
        let far = "10.0.0.1".parse().ok();
        for (token, given, says) in [
            (Some("s3cret"), "Bearer s3cret", None),
            (Some("s3cret"), "bearer  s3cret ", None),
            (Some("s3cret"), "Bearer s3cret2", Some("is not that of management_token")),
            (Some("s3cret"), "Bearer ", Some("is not that of management_token")),
            (Some("s3cret"), "Basic s3cret", Some("as `Authorization: Bearer TOKEN`")),
            (None, "Bearer s3cret", Some("set management_token or management_token_file")),
            (None, "Basic s3cret", Some("set management_token or management_token_file")),
        ] {
            let access = Access { token: token.map(Secret::new) };
            let given = headers(&[("authorization", given), ("origin", "https://console.example")]);
            let answer = access.decide(far, &given);
            match says {
                None => assert_eq!(answer, Ok(()), "{given:?}"),
                Some(says) => assert!(answer.unwrap_err().contains(says), "{given:?}: {answer:?}"),
            }
        }
        let wrong = headers(&[("authorization", "Bearer wrong"), ("host", "localhost")]);
        assert!(with_token("t").decide("127.0.0.1".parse().ok(), &wrong).is_err());
    }

    #[test]
    fn an_empty_token_is_refused_and_none_is_ever_shown() {
        let with =
            |token: &str| Settings { management_token: Some(Secret::new(token)), ..Settings::default() };
        assert!(Access::new(&with("")).unwrap_err().to_string().contains("management_token: is empty"));
        assert!(!format!("{:?}", Access::new(&with("s3cret")).unwrap()).contains("s3cret"));
    }

    #[tokio::test]
    async fn the_rule_stands_before_its_own_routes_only() {
        let operator = Access::default().guard(Router::new().route("/settings", get(async || "keys")));
        let routes = Router::new().route("/offers", get(async || "offers")).merge(operator);
        let health = Arc::new(Health::default());
        let router =
            crate::http::router(routes, &http::Settings::default().into(), &health, Registry::default());
        let status = async |path: &str, peer: &str| {
            let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(Peer(peer.parse().unwrap()));
            router.answer(Request::from_parts(parts, body)).await.status().as_u16()
        };
        assert_eq!(status("/settings", "127.0.0.1:1").await, 200);
        assert_eq!(status("/settings", "10.0.0.1:1").await, 403);
        assert_eq!(status("/offers", "10.0.0.1:1").await, 200);
        assert_eq!(status("/nothing", "10.0.0.1:1").await, 404);
    }
}
