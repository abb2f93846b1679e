//! A config server as a source of settings: `GET {url}/{service}/{profile}[/{label}]`, as Spring Cloud Config
//! has it.
//!
//! While the server may be starting, the request is repeated for a limited time. An answer that a person has to act on
//! ends that at once. Its credentials are never printed.

use std::{error::Error as _, fmt, iter, path::PathBuf, time::Duration};

use backoff::Backoff;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, ClientBuilder, StatusCode, header, redirect::Policy};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use url::Url;

use super::{
    answer,
    layers::Layer,
    secret::Secret,
    tls::{self, TlsKeys},
};

/// Time limit for one request, as in Spring's clients.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: some ten thousand keys.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// The first and the longest wait between two requests, as in Spring's clients.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

const TLS_KEYS: TlsKeys =
    TlsKeys { address: "config_server", ca_file: "config_ca_file", plain_scheme: "http://" };

/// A config server, and the limits of the requests to it.
#[derive(Debug, Clone)]
pub struct ConfigServer {
    /// Its address.
    pub url: ServerUrl,
    /// A branch, a tag or a commit; without one, the server's default.
    pub label: Option<String>,
    /// Time limit for all requests at the start.
    pub patience: Duration,
    /// `true` if a service exits without its server.
    pub fail_fast: bool,
    /// The authority that signed its certificate, in PEM; without it, the system's.
    pub ca_file: Option<PathBuf>,
}

/// The server's address. It is printed without credentials.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl(Url);

impl TryFrom<String> for ServerUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const LIKE: &str = "an address looks like http://configserver:8888";
        let url = Url::parse(&text).map_err(|e| format!("{e}: {LIKE}"))?;
        match url.scheme() {
            "http" => {}
            "https" if cfg!(feature = "tls") => {}
            "https" => {
                return Err(
                    "this build speaks no TLS: build it with `--features tls`, or write http://".into()
                );
            }
            other => return Err(format!("`{other}:` is not a config server's scheme: {LIKE}")),
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("drop what follows the ? or #: {LIKE}"));
        }
        Ok(Self(url))
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.to_string()
    }
}

impl ServerUrl {
    /// Returns the address with this password instead of its own, if there is one.
    pub(super) fn with_password(mut self, password: Option<Secret>) -> Self {
        if let Some(password) = password {
            let encoded = utf8_percent_encode(password.expose(), NON_ALPHANUMERIC).to_string();
            // It does not fail for an address that has a host, and each of these schemes has one.
            let _ = self.0.set_password(Some(&encoded));
        }
        self
    }

    /// Returns the address of a service's settings, with the credentials. As in Spring, a slash in a label is written
    /// `(_)`, and a password alone is that of `user`.
    fn of(&self, service: &str, profile: &str, label: Option<&str>) -> Url {
        let mut url = self.0.clone();
        if url.username().is_empty() && url.password().is_some() {
            let _ = url.set_username("user");
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend([service, profile])
                .extend(label.map(|label| label.replace('/', "(_)")));
        }
        url
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        let _ = (shown.set_username(""), shown.set_password(None));
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A failure to get an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// A later request may succeed: the server was not reached, found nothing, or failed.
    Later(String),
    /// A person has to act.
    Refused(String),
}

/// Without credentials, so that it may be logged.
impl fmt::Display for ConfigServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the config server at {}", self.url)?;
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " (label {label})"))
    }
}

impl ConfigServer {
    /// Repeats the request until there is an answer, for at most `patience`; calls `on_retry` with each reason.
    pub(super) async fn fetch(
        &self,
        service: &str,
        profile: &str,
        mut on_retry: impl FnMut(&str) + Send,
    ) -> Result<Vec<Layer>, Failed> {
        let end = Instant::now() + self.patience;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let limit = REQUEST_TIMEOUT.min(left).max(Duration::from_millis(100));
            let why = match self.fetch_once(service, profile, limit).await {
                Err(Failed::Later(why)) => why,
                decided => return decided,
            };
            let wait = backoff.next_wait();
            if Instant::now() + wait >= end {
                return Err(Failed::Later(why));
            }
            on_retry(&why);
            sleep(wait).await;
        }
    }

    /// Sets the authorities that are trusted for `https://`.
    #[cfg(feature = "tls")]
    fn trusting(&self, client: ClientBuilder) -> Result<ClientBuilder, String> {
        // The connections to the broker use it, too; it can be installed once in a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match &self.ca_file {
            Some(path) => {
                let broken =
                    |e: &dyn fmt::Display| format!("config_ca_file: cannot read {}: {e}", path.display());
                let pem = std::fs::read(path).map_err(|e| broken(&e))?;
                let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| broken(&e))?;
                Ok(client.tls_certs_only(authorities))
            }
            None if self.url.0.scheme() == "https" => Ok(client),
            // Without TLS, a machine without authorities is fine.
            None => Ok(client.tls_certs_only([])),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "both builds make the same call")]
    fn trusting(&self, client: ClientBuilder) -> Result<ClientBuilder, String> {
        Ok(client)
    }

    /// Sends one request, which may take `limit`.
    pub(super) async fn fetch_once(
        &self,
        service: &str,
        profile: &str,
        limit: Duration,
    ) -> Result<Vec<Layer>, Failed> {
        // Credentials go to the configured server only: not to a proxy of the environment, and not where a redirect leads.
        let client = Client::builder().no_proxy().redirect(Policy::none()).user_agent(service).timeout(limit);
        let client = self.trusting(client).map_err(Failed::Refused)?;
        let client = client.build().map_err(|e| Failed::Refused(format!("no HTTP client: {e}")))?;
        let url = self.url.of(service, profile, self.label.as_deref());
        let failed = |e: reqwest::Error| match tls::advice(&e, TLS_KEYS) {
            Some(advice) => Failed::Refused(advice),
            None => Failed::Later(root_cause(&e.without_url())),
        };
        // Newer servers have another format for clients that name it.
        let request = client.get(url.clone()).header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(failed)?;
        judge(response.status(), url.path())?;
        let mut body = vec![];
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_LIMIT {
                return Err(Failed::Refused(format!("its answer is larger than {BODY_LIMIT} bytes")));
            }
        }
        answer::read(&body, service).map_err(Failed::Refused)
    }
}

/// Decides by the status whether another request may succeed. Spring's server answers 404 also while its repository is
/// not there yet.
fn judge(status: StatusCode, path: &str) -> Result<(), Failed> {
    match status.as_u16() {
        200 => Ok(()),
        401 | 403 => Err(Failed::Refused(format!(
            "it answers {status}: set APP_CONFIG_PASSWORD (or APP_CONFIG_PASSWORD_FILE), and the user in its address, as in \
             http://USER@HOST:8888"
        ))),
        404 => Err(Failed::Later(format!("it answers {status} to {path}: is the label right?"))),
        408 | 425 | 429 | 500.. => {
            Err(Failed::Later(format!("it answers {status} to {path}: its log says why")))
        }
        _ => Err(Failed::Refused(format!("it answers {status} to {path}: is that a config server?"))),
    }
}

/// Returns the text of the innermost cause, which is the system's: the outermost error has no detail.
fn root_cause(error: &reqwest::Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests;
