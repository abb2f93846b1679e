//! One HTTP answer, with everything a test may want to look at; a refused connection is no answer.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// A client that gives up on an answer after 20 s, longer than any time-out of the services.
/// Its connections stay open until it is dropped.
pub fn client() -> reqwest::Client {
    build(builder())
}

/// The same, with a connection for each request: none is left with the service when nothing is asked.
pub fn client_without_keep_alive() -> reqwest::Client {
    build(builder().pool_max_idle_per_host(0))
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().timeout(Duration::from_secs(20))
}

fn build(builder: reqwest::ClientBuilder) -> reqwest::Client {
    builder.build().expect("an HTTP client without TLS always builds")
}

/// An answer that came back whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Reply {
    /// Reads the answer to its end.
    ///
    /// # Errors
    /// When nobody listens, or the connection ends before the answer does.
    pub async fn of(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    /// The body as JSON; panics with the body when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|e| panic!("not JSON ({e}), status {}: {:?}", self.status, self.text))
    }

    /// A header's value, or `""` where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
