//! Requests settings from a config server: `GET {url}/{service}/{profile}[/{label}]`, as Spring Cloud Config has it.
//!
//! While the server may be starting, the request is repeated for a limited time. An answer that a person has to act on
//! ends that at once. The server's credentials are never printed.
//! It knows no setting: an answer is a list of property sources.
//! - this file: requests, and their repetition
//! - `address`: the server's address, with the credentials
//! - `answer`: the property sources of an answer; pure

mod address;
mod answer;

use std::{error::Error as _, fmt, iter, path::PathBuf, time::Duration};

use backoff::Backoff;
use reqwest::{Client, ClientBuilder, StatusCode, header, redirect::Policy};
use tls_advice::{TlsKeys, advice};
use tokio::time::{Instant, sleep};

pub use self::{
    address::ServerUrl,
    answer::{PropertySource, read},
};

/// Time limit for one request, as in Spring's clients.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
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

/// A failure to get an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
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
    /// Repeats the request until there is an answer, for at most `patience`; calls `on_retry` with each reason. Returns the
    /// property sources, the weakest first.
    ///
    /// # Errors
    /// The reason of the last failure.
    pub async fn fetch(
        &self,
        service: &str,
        profile: &str,
        mut on_retry: impl FnMut(&str) + Send,
    ) -> Result<Vec<PropertySource>, Failed> {
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
            None if self.url.is_https() => Ok(client),
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
    ///
    /// # Errors
    /// The reason why there is no answer, or no valid one.
    pub async fn fetch_once(
        &self,
        service: &str,
        profile: &str,
        limit: Duration,
    ) -> Result<Vec<PropertySource>, Failed> {
        // Credentials go to the configured server only: not to a proxy of the environment, and not where a redirect leads.
        let client = Client::builder().no_proxy().redirect(Policy::none()).user_agent(service).timeout(limit);
        let client = self.trusting(client).map_err(Failed::Refused)?;
        let client = client.build().map_err(|e| Failed::Refused(format!("no HTTP client: {e}")))?;
        let url = self.url.of(service, profile, self.label.as_deref());
        let failed = |e: reqwest::Error| match advice(&e, TLS_KEYS) {
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
        read(&body, service).map_err(Failed::Refused)
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
