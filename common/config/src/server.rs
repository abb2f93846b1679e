//! A config server as a source of settings: `GET {url}/{service}/{profile}[/{label}]`, as Spring Cloud Config
//! has it.
//!
//! It is asked again while it may be coming up, for a bounded time; an answer that a person has to act on is
//! none to wait for. Its credentials are in no line that is printed.

use std::{fmt, path::PathBuf, time::Duration};

use backoff::Backoff;
use reqwest::{Client, ClientBuilder, StatusCode, header, redirect::Policy};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use super::{answer, layers::Layer, secret::Secret};

/// The largest answer, in bytes: some ten thousand keys.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// Between two questions, at most: what Spring's clients begin with, and what they end with.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Where the settings are asked for, and for how long.
#[derive(Debug, Clone)]
pub struct ConfigServer {
    /// Its address.
    pub url: ServerUrl,
    /// A branch, a tag or a commit; none is the server's own.
    pub label: Option<String>,
    /// For one request.
    pub timeout: Duration,
    /// For all of them, at the start.
    pub patience: Duration,
    /// Whether a service without its server ends.
    pub fail_fast: bool,
    /// The authority that signed its certificate, in PEM; without it, the system's.
    pub ca_file: Option<PathBuf>,
}

/// The server's address. What is printed of it has no credentials.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServerUrl {
    url: Url,
    username: Option<String>,
    password: Option<Secret>,
}

impl TryFrom<String> for ServerUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const LIKE: &str = "an address looks like http://configserver:8888";
        let mut url = Url::parse(&text).map_err(|e| format!("{e}: {LIKE}"))?;
        match url.scheme() {
            "http" => {}
            "https" if cfg!(feature = "tls") => {}
            "https" => {
                return Err(
                    "this build speaks no TLS: build it with `--features tls`, or write http://".into()
                );
            }
            other => return Err(format!("`{other}:` is no scheme of a config server: {LIKE}")),
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("drop what follows the ? or #: {LIKE}"));
        }
        let decoded =
            |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let username = Some(decoded(url.username())).filter(|name| !name.is_empty());
        let password = url.password().map(decoded).map(Secret::new);
        // Neither fails for an address that has a host, and each of these schemes has one.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Self { url, username, password })
    }
}

impl ServerUrl {
    /// What was set beside the address goes before what stands in it.
    pub(super) fn with_credentials(self, username: Option<String>, password: Option<Secret>) -> Self {
        let (username, password) = (username.or(self.username), password.or(self.password));
        Self { username, password, ..self }
    }

    /// Where a service's settings are. As Spring writes it, a slash in a label is `(_)`.
    fn of(&self, service: &str, profile: &str, label: Option<&str>) -> Url {
        let mut url = self.url.clone();
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
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// It may be there later: not reached, not found, an error of its own.
    Later(String),
    /// A person has to act.
    Refused(String),
}

/// Without credentials: what may stand in a log.
impl fmt::Display for ConfigServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the config server at {}", self.url)?;
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " (label {label})"))
    }
}

impl ConfigServer {
    /// Asks until there is an answer, for at most `patience`; `tell` hears why it takes longer.
    pub(super) async fn fetch(
        &self,
        service: &str,
        profile: &str,
        patience: Duration,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Vec<Layer>, Failed> {
        let client = self.client(service)?;
        let end = Instant::now() + patience;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let limit = self.timeout.min(left).max(Duration::from_millis(100));
            let why = match self.ask(&client, service, profile, limit).await {
                Err(Failed::Later(why)) => why,
                decided => return decided,
            };
            let wait = backoff.next_wait();
            if Instant::now() + wait >= end {
                return Err(Failed::Later(why));
            }
            tell(&why);
            sleep(wait).await;
        }
    }

    /// Asks once.
    pub(super) async fn fetch_once(&self, service: &str, profile: &str) -> Result<Vec<Layer>, Failed> {
        self.ask(&self.client(service)?, service, profile, self.timeout).await
    }

    fn client(&self, service: &str) -> Result<Client, Failed> {
        // What a proxy or another server is told by the environment or a redirect is not what was set.
        let client = Client::builder().no_proxy().redirect(Policy::none()).user_agent(service);
        let client = self.trusting(client).map_err(Failed::Refused)?;
        client.build().map_err(|e| Failed::Refused(format!("no HTTP client: {e}")))
    }

    /// For `https://`: the authorities that are trusted.
    #[cfg(feature = "tls")]
    fn trusting(&self, client: ClientBuilder) -> Result<ClientBuilder, String> {
        // The one that the broker's connections have, too; it can be said once in a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match &self.ca_file {
            Some(path) => {
                let broken =
                    |e: &dyn fmt::Display| format!("config_ca_file: cannot read {}: {e}", path.display());
                let pem = std::fs::read(path).map_err(|e| broken(&e))?;
                let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| broken(&e))?;
                Ok(client.tls_certs_only(authorities))
            }
            None if self.url.url.scheme() == "https" => Ok(client),
            // A machine without any authorities can do without them here.
            None => Ok(client.tls_certs_only([])),
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it is the same call in both builds")]
    fn trusting(&self, client: ClientBuilder) -> Result<ClientBuilder, String> {
        Ok(client)
    }

    async fn ask(
        &self,
        client: &Client,
        service: &str,
        profile: &str,
        limit: Duration,
    ) -> Result<Vec<Layer>, Failed> {
        let url = self.url.of(service, profile, self.label.as_deref());
        let later = |e: reqwest::Error| Failed::Later(said(&e.without_url()));
        // What newer servers send by default to those who name it is another format.
        let mut request = client.get(url.clone()).timeout(limit).header(header::ACCEPT, "application/json");
        let (username, password) = (self.url.username.as_deref(), self.url.password.as_ref());
        if username.is_some() || password.is_some() {
            // The name that Spring's servers have, and its clients take, where none is set.
            request = request.basic_auth(username.unwrap_or("user"), password.map(Secret::expose));
        }
        let mut response = request.send().await.map_err(later)?;
        judge(response.status(), url.path())?;
        let mut body = vec![];
        while let Some(chunk) = response.chunk().await.map_err(later)? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_LIMIT {
                return Err(Failed::Refused(format!("its answer is larger than {BODY_LIMIT} bytes")));
            }
        }
        answer::read(&body, service).map_err(Failed::Refused)
    }
}

/// What a status means for who waits: Spring's server says 404 also while its repository is not there yet.
fn judge(status: StatusCode, path: &str) -> Result<(), Failed> {
    match status.as_u16() {
        200 => Ok(()),
        401 | 403 => Err(Failed::Refused(format!(
            "it answers {status}: set APP_CONFIG_USERNAME and APP_CONFIG_PASSWORD (or APP_CONFIG_PASSWORD_FILE)"
        ))),
        404 => Err(Failed::Later(format!("it answers {status} to {path}: is the label right?"))),
        408 | 425 | 429 | 500.. => {
            Err(Failed::Later(format!("it answers {status} to {path}: its log says why")))
        }
        _ => Err(Failed::Refused(format!("it answers {status} to {path}: is that a config server?"))),
    }
}

/// An error with its causes: the outermost says only that there was one.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // The last one is the system's.
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
