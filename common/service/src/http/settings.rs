//! The keys of the HTTP server.

use std::{net::IpAddr, time::Duration};

use browser_guard::{Hosts, Scope};
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
    /// Host names under which clients may call the service, comma-separated, besides IP addresses and localhost (default
    /// none: on this machine no others, in a container any, except for secrets)
    pub allowed_hosts: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(5).into(),
            request_concurrency: 512,
            client_timeout: http_server::CLIENT_TIMEOUT.into(),
            allowed_hosts: String::new(),
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
        if self.request_concurrency > 1_000_000 {
            return Err(InvalidValue::new("request_concurrency", "must not be more than 1000000"));
        }
        match self.allowed().find(|name| !is_host_name(name)) {
            None => Ok(()),
            Some(name) => {
                let why = format!("`{name}` is not a host name without a port, such as accounts.example.com");
                Err(InvalidValue::new("allowed_hosts", why))
            }
        }
    }
}

fn is_host_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

impl Settings {
    fn allowed(&self) -> impl Iterator<Item = String> {
        self.allowed_hosts.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Returns the names under which a service answers that listens on `address`. Without a setting, a service that other
    /// machines reach is called under any name: it does not know its own.
    #[must_use]
    pub fn hosts(&self, address: IpAddr) -> Hosts {
        let is_any = !address.is_loopback() && self.allowed().next().is_none();
        if is_any { Hosts::new(Scope::Any, []) } else { self.hosts_of_secrets(address) }
    }

    /// Returns the names under which it answers requests for what only its own network is to read: never any name, since a
    /// page of the internet can give its name this address.
    #[must_use]
    pub fn hosts_of_secrets(&self, address: IpAddr) -> Hosts {
        let scope = if address.is_loopback() { Scope::Machine } else { Scope::Network };
        Hosts::new(scope, self.allowed())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_service_answers_under_the_names_that_fit_where_it_listens() {
        for (listens_on, allowed, host, expected) in [
            ("127.0.0.1", "", "localhost:6767", [true, true]),
            ("127.0.0.1", "", "evil.example:6767", [false, false]),
            ("127.0.0.1", "", "accountservice", [false, false]),
            ("127.0.0.1", " a.example, b.example ", "b.example", [true, true]),
            ("0.0.0.0", "", "accountservice:6767", [true, true]),
            ("0.0.0.0", "", "node1.corp.example:6767", [true, false]),
            ("0.0.0.0", "node1.corp.example", "node1.corp.example:6767", [true, true]),
            ("0.0.0.0", "node1.corp.example", "evil.example:6767", [false, false]),
            ("::", "node1.corp.example", "[fd00::1]:6767", [true, true]),
        ] {
            let settings = Settings { allowed_hosts: allowed.into(), ..Settings::default() };
            let (listens_on, request) =
                (listens_on.parse().unwrap(), Request::get("/").header("host", host).body(()).unwrap());
            let hosts = [settings.hosts(listens_on), settings.hosts_of_secrets(listens_on)];
            let answers = hosts.map(|hosts| hosts.check(&request).is_ok());
            assert_eq!(answers, expected, "{listens_on} {allowed:?} {host}");
        }
    }

    #[test]
    fn a_name_with_a_port_or_a_scheme_is_no_host_name() {
        for (name, is_valid) in
            [("a.example", true), ("b-1", true), ("a.example:80", false), ("http://a", false)]
        {
            assert_eq!(is_host_name(name), is_valid, "{name}");
        }
    }
}
