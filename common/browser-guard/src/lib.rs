//! The rule of which requests an HTTP server refuses because of the page that a browser sends them for: one rule, for
//! everything that listens on HTTP.
//!
//! A browser reaches all that the machine reaches which it runs on, and sends requests for any page that it shows:
//! - A page of **another site** sends requests here. The browser says so, in `Sec-Fetch-Site` (W3C Fetch Metadata) and,
//!   unless it is a plain GET, in `Origin` (RFC 6454): such a request is refused. There is no CORS.
//! - A page gives its own host name the address of this server (**DNS rebinding**), and is the same site to the browser. But
//!   `Host` is the page's name: a server answers under names only that its [`Hosts`] allow.
//!
//! Programs send `Host` alone. HTTP/1.1 requires exactly one (RFC 9112, section 3.2); HTTP/1.0 requires none.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Version, header, uri::Authority};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Names under which a server answers, and with them its whole rule.
///
/// An IP address is always allowed, since nobody can rebind it, and so is `localhost`, which no DNS server answers for. The
/// unspecified address leads to this machine, too, and so do loopback addresses in the form of IPv6: but browsers do not
/// know that, and send neither `Sec-Fetch-Site` nor `Origin` with a GET to them. Where IP addresses count, these do not.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    scope: Scope,
    allowed: Arc<[String]>,
}

/// Names that a server has without a setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// IP addresses and `localhost`, for what listens on this machine only.
    #[default]
    Machine,
    /// Also names without a dot, which a private network gives to its services: no page of the internet has one.
    Network,
    /// Any name, for an API that other machines call under names that it does not know.
    Any,
}

/// Reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `Host` is missing, is there twice, or is not a host.
    #[error("send one Host header with the name or the address of this server, as RFC 9112 requires")]
    Malformed,
    /// `Host` is a name that the server does not have.
    #[error(
        "this server does not answer under that name: use its IP address, or localhost on the same machine"
    )]
    Host,
    /// A browser sends the request for a page of another site.
    #[error("a browser has sent this for a page of another site: open the address in a tab of its own")]
    OtherSite,
}

impl Refused {
    /// Returns the status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Host | Self::OtherSite => StatusCode::FORBIDDEN,
        }
    }
}

impl Hosts {
    /// Creates the rule of a server that has the names of `scope` and the `allowed` ones.
    pub fn new(scope: Scope, allowed: impl IntoIterator<Item = String>) -> Self {
        Self { scope, allowed: allowed.into_iter().collect() }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        self.check_host(request)?;
        if is_for_other_site(request.headers()) { Err(Refused::OtherSite) } else { Ok(()) }
    }

    /// Checks a request for a file that holds no data, such as a page: a person may follow a link to it from another site.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn check_page<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        if is_navigation(request) { self.check_host(request) } else { self.check(request) }
    }

    fn check_host<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        let Some(host) = host(request)? else { return Ok(()) };
        if self.has(host.host()) { Ok(()) } else { Err(Refused::Host) }
    }

    /// Returns true if the server has this name, which has no port.
    fn has(&self, name: &str) -> bool {
        let is_allowed = |allowed: &String| allowed.eq_ignore_ascii_case(name);
        match self.scope {
            Scope::Any => true,
            Scope::Network if !name.contains(['.', ':']) => true,
            _ => {
                name.eq_ignore_ascii_case("localhost")
                    || address(name).is_some_and(is_plain)
                    || self.allowed.iter().any(is_allowed)
            }
        }
    }
}

/// Returns the host that a request is for: that of its target, else of its `Host` header (RFC 9112, section 3.2.2). It is
/// `None` if HTTP/1.0 names none.
///
/// # Errors
/// There are several, there is none in HTTP/1.1, or it is not valid.
pub fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Refused> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).map_err(|_| Refused::Malformed)?,
        (None, _) if request.version() == Version::HTTP_10 => return Ok(None),
        _ => return Err(Refused::Malformed),
    };
    let host = request.uri().authority().cloned().unwrap_or(host);
    if host.as_str().contains('@') || host.host().is_empty() {
        Err(Refused::Malformed)
    } else {
        Ok(Some(host))
    }
}

/// Returns the address that a host without its port is, if it is one.
#[must_use]
pub fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Returns true unless this is an unspecified address, or one of IPv4 in the form of IPv6.
fn is_plain(address: IpAddr) -> bool {
    !address.is_unspecified() && address.to_canonical() == address
}

fn is_for_other_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    if sites.any(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_same = origin.is_some_and(|(scheme, of_page)| {
        ["http", "https"].contains(&scheme) && of_page.eq_ignore_ascii_case(host)
    });
    !is_same || origins.next().is_some()
}

/// Returns true if a browser is to show the answer as the document of a tab; the page that led there cannot read it.
fn is_navigation<B>(request: &Request<B>) -> bool {
    let is = |name, value| request.headers().get(name).is_some_and(|given| given == value);
    request.method() == Method::GET
        && is(SEC_FETCH_MODE, "navigate")
        && is(SEC_FETCH_DEST, "document")
        && !request.headers().contains_key(header::ORIGIN)
}

#[cfg(test)]
mod tests;
