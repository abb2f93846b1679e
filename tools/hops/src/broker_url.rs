//! `--broker amqp://USER:PASSWORD@HOST:PORT/VHOST`: a broker that is there already.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;

/// Where a broker is and whom it lets in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerUrl {
    /// A name or an address.
    pub host: String,
    /// 5672 unless it is given.
    pub port: u16,
    /// `/` unless it is given.
    pub vhost: String,
    /// `guest` on this machine unless it is given.
    pub username: String,
    /// Likewise.
    pub password: String,
}

impl BrokerUrl {
    /// Reads the address.
    ///
    /// # Errors
    /// What to write instead; never with a password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const LIKE: &str = "write it as in --broker amqp://user:password@localhost:5672";
        let url = Url::parse(text).map_err(|e| format!("--broker: {e}; {LIKE}"))?;
        match url.scheme() {
            "amqp" => {}
            "amqps" => {
                return Err("--broker: amqps:// is not spoken here: give an address without TLS".into());
            }
            other => return Err(format!("--broker: `{other}://` is no broker's address; {LIKE}")),
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("--broker: the host is missing; {LIKE}"))?.to_owned();
        let vhost = match url.path() {
            "" | "/" => "/".into(),
            path => decoded(&path[1..]),
        };
        let is_here = matches!(host.as_str(), "localhost" | "127.0.0.1");
        let (username, password) = match (url.username(), url.password()) {
            ("", None) if is_here => ("guest".into(), "guest".into()),
            (username, Some(password)) if !username.is_empty() => (decoded(username), decoded(password)),
            _ => return Err(format!("--broker: {host} wants a user and a password; {LIKE}")),
        };
        Ok(Self { port: url.port().unwrap_or(5672), host, vhost, username, password })
    }

    /// With user and password: for a client, never for the screen.
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

/// A part of an address; what need not be encoded is left to be read.
pub(crate) fn encode(text: &str) -> String {
    const OTHERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, OTHERS).to_string()
}

/// Without user and password: what may stand on the screen and in a service's environment.
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
    fn addresses_are_understood_and_shown_without_the_password() {
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
    fn what_is_no_address_is_told_what_one_looks_like() {
        for text in ["rabbit", "http://h", "amqps://h", "amqp://", "amqp://h", "amqp://u@h"] {
            assert!(BrokerUrl::parse(text).unwrap_err().contains("--broker"), "{text}");
        }
    }
}
