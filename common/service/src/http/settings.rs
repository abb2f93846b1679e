//! The keys of the HTTP server.

use std::time::Duration;

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Reloadable, Section, more_than_zero};
use serde::{Deserialize, Serialize};

/// The settings of the HTTP server.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// Time limit for a request; then it is answered 503 (default 5s)
    #[serde(with = "hops_config::reloadable::duration")]
    pub request_timeout: Reloadable<Duration>,
    /// How many requests are processed at a time; one more is answered 503 (default 512)
    pub request_concurrency: usize,
    /// Time limit for a client that is idle, sends a request's head, or reads its answer (default 30s)
    #[serde(with = "hops_config::reloadable::duration")]
    pub client_timeout: Reloadable<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5).into(),
            request_concurrency: 512,
            client_timeout: Duration::from_secs(30).into(),
        }
    }
}

impl Section for Settings {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        more_than_zero([
            ("request_timeout", self.request_timeout.at(moment).is_zero()),
            ("request_concurrency", self.request_concurrency == 0),
            ("client_timeout", self.client_timeout.at(moment).is_zero()),
        ])?;
        match self.request_concurrency {
            0..=1_000_000 => Ok(()),
            _ => Err(InvalidValue::new("request_concurrency", "must not be more than 1000000")),
        }
    }
}
