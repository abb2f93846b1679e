//! `--broker amqp://USER:PASSWORD@HOST:PORT/VHOST`: the address of a broker that is already running.

use std::fmt;

use anyhow::{Context as _, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::failure::Result;

/// Address of a broker, with user and password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerUrl {
    /// Host name or IP address.
    pub host: String,
    /// Port, 5672 by default.
    pub port: u16,
    /// Virtual host, `/` by default.
    pub vhost: String,
    /// User, `guest` by default if the broker is on this machine.
    pub username: String,
    /// Password, `guest` by default if the broker is on this machine.
    pub password: String,
}

impl BrokerUrl {
    /// Parses the address.
    ///
    /// # Errors
    /// The address is wrong; the error shows a right one, and contains no password.
    pub fn parse(text: &str) -> Result<Self> {
        const EXAMPLE: &str = "write it as in --broker amqp://user:password@localhost:5672";
        let url = Url::parse(text).map_err(|error| anyhow::anyhow!("--broker: {error}; {EXAMPLE}"))?;
        match url.scheme() {
            "amqp" => {}
            "amqps" => bail!("--broker: amqps:// is not supported: write an address without TLS, amqp://"),
            other => bail!("--broker: `{other}://` is not a broker's address; {EXAMPLE}"),
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.with_context(|| format!("--broker: the host is missing; {EXAMPLE}"))?.to_owned();
        let vhost = match url.path() {
            "" | "/" => "/".into(),
            path => decoded(&path[1..]),
        };
        let is_this_machine = matches!(host.as_str(), "localhost" | "127.0.0.1");
        let (username, password) = match (url.username(), url.password()) {
            ("", None) if is_this_machine => ("guest".into(), "guest".into()),
            (username, Some(password)) if !username.is_empty() => (decoded(username), decoded(password)),
            _ => bail!("--broker: {host} requires a user and a password; {EXAMPLE}"),
        };
        Ok(Self { port: url.port().unwrap_or(5672), host, vhost, username, password })
    }

    /// Returns the URL with user and password, which must not be printed.
    #[must_use]
    pub fn with_login(&self) -> String {
        format!(
            "amqp://{}:{}@{}:{}/{}",
            encode(&self.username),
            encode(&self.password),
            self.host,
            self.port,
            encode(&self.vhost)
        )
    }
}

/// Encodes a part of a URL; letters, digits and `-._~` stay as they are.
pub(crate) fn encode(text: &str) -> String {
    const OTHERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, OTHERS).to_string()
}

/// Formats the URL without user and password, for the screen and for a service's environment.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "amqp://{}:{}", self.host, self.port)?;
        if self.vhost == "/" { Ok(()) } else { write!(f, "/{}", encode(&self.vhost)) }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_the_password() {
        for (text, shown, login) in [
            ("amqp://localhost", "amqp://localhost:5672", "amqp://guest:guest@localhost:5672/%2F"),
            ("amqp://127.0.0.1:1234/", "amqp://127.0.0.1:1234", "amqp://guest:guest@127.0.0.1:1234/%2F"),
            ("amqp://u:p%40s@h/a%2Fb", "amqp://h:5672/a%2Fb", "amqp://u:p%40s@h:5672/a%2Fb"),
        ] {
            let url = BrokerUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.with_login().as_str()), (shown, login), "{text}");
            assert!(!format!("{url:?}").contains("p@s"), "{url:?}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_an_example() {
        for text in ["rabbit", "http://h", "amqps://h", "amqp://", "amqp://h", "amqp://u@h"] {
            assert!(BrokerUrl::parse(text).unwrap_err().to_string().contains("--broker"), "{text}");
        }
    }
}
