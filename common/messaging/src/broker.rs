//! The broker's address, parsed once: it catches what a client library would misread.
//!
//! The AMQP URI is that of <https://www.rabbitmq.com/docs/uri-spec>. Its two traps: a bare trailing `/`
//! names the *empty* vhost, not the default one, and lapin takes `[::1]` for `localhost`.

use std::fmt;

use hops_config::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::Url;

/// One address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// `amqps://`: with TLS.
    pub tls: bool,
    /// A name or an IPv4 address.
    pub host: String,
    /// 5672, or 5671 with TLS, unless it was given.
    pub port: u16,
    /// The virtual host, `/` by default.
    pub vhost: String,
    /// The part before the `@`.
    pub credentials: Credentials,
}

/// Credentials of an address; either part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

/// The value of `amqp_server_url`: one address, or several of the same cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerUrls(Vec<BrokerUrl>);

/// Complete credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Addresses, each with its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker(Vec<(BrokerUrl, Login)>);

impl Broker {
    /// Returns the addresses, at least one.
    #[must_use]
    pub fn addresses(&self) -> &[(BrokerUrl, Login)] {
        &self.0
    }
}

impl BrokerUrls {
    /// Parses a comma-separated list.
    ///
    /// # Errors
    /// What is wrong and what to write instead; never with a password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).map(BrokerUrl::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The settings' credentials go before those in the address; `guest` is for this machine's broker only.
    pub(super) fn with_credentials(&self, settings: &Credentials) -> Result<Broker, String> {
        let complete = |url: &BrokerUrl| {
            let username = settings.username.clone().or_else(|| url.credentials.username.clone());
            let password = settings.password.clone().or_else(|| url.credentials.password.clone());
            let login = match (username, password) {
                (Some(username), Some(password)) => Login { username, password },
                (None, None) if url.is_loopback() => {
                    Login { username: "guest".into(), password: Secret::new("guest") }
                }
                (None, None) => return Err(missing(url, "APP_AMQP_USERNAME and APP_AMQP_PASSWORD")),
                (Some(_), None) => return Err(missing(url, "APP_AMQP_PASSWORD")),
                (None, Some(_)) => return Err(missing(url, "APP_AMQP_USERNAME")),
            };
            Ok((url.clone(), login))
        };
        self.0.iter().map(complete).collect::<Result<_, _>>().map(Broker)
    }
}

fn missing(url: &BrokerUrl, what: &str) -> String {
    format!("amqp_server_url: {url} needs credentials: set {what} (or the same with _FILE)")
}

impl Default for BrokerUrls {
    fn default() -> Self {
        Self::parse("amqp://localhost:5672").expect("BUG: the default is an address")
    }
}

impl<'de> Deserialize<'de> for BrokerUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// With `***` for the credentials of an address that has some.
impl Serialize for BrokerUrls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = |url: &BrokerUrl| match url.credentials == Credentials::default() {
            true => url.to_string(),
            false => url.to_string().replacen("://", "://***@", 1),
        };
        serializer.serialize_str(&self.0.iter().map(shown).collect::<Vec<_>>().join(", "))
    }
}

impl BrokerUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let tls = match text.split_once("://") {
            Some(("amqp", _)) => false,
            Some(("amqps", _)) => true,
            Some((scheme, _)) => {
                return Err(format!(
                    "`{scheme}://` is not a broker's scheme: write amqp:// or amqps:// (TLS)"
                ));
            }
            None => return Err("an address looks like amqp://localhost:5672".into()),
        };
        // Only now may the parser see it: its own errors do not quote the text, which may hold a password.
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::InvalidPort => "the port is not a number from 1 to 65535".to_owned(),
            error => format!("{error}: an address looks like amqp://localhost:5672"),
        })?;
        let host = match url.host_str() {
            Some(host) if host.starts_with('[') => {
                return Err(format!(
                    "{host} is an IPv6 address, which the client cannot dial: write a host name"
                ));
            }
            Some(host) if !host.is_empty() => decoded(host)?,
            _ => {
                return Err("the host is missing: an address looks like amqp://localhost:5672".into());
            }
        };
        if url.port() == Some(0) {
            return Err("the port is not a number from 1 to 65535".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(
                "heartbeat and the like have settings of their own: drop what follows the ? or #".into()
            );
        }
        let username = (!url.username().is_empty()).then(|| decoded(url.username())).transpose()?;
        let password = url.password().map(decoded).transpose()?.map(Secret::new);
        let parsed = Self {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
            vhost: "/".into(),
            credentials: Credentials { username, password },
        };
        let vhost = match url.path() {
            "" => "/".into(),
            "/" => {
                return Err(format!(
                    "a bare trailing `/` names the empty vhost: write {parsed} for the default vhost `/`, \
                     or {parsed}/NAME for another"
                ));
            }
            path if path.contains('@') => {
                return Err("a `/` in a password is written %2f, and an `@` in a vhost %40".into());
            }
            path if path[1..].contains('/') => {
                return Err("a vhost with a `/` in its name is written with %2f".into());
            }
            path => decoded(&path[1..])?,
        };
        if vhost.len() > 255 {
            return Err("a vhost's name has at most 255 bytes".into());
        }
        Ok(Self { vhost, ..parsed })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

fn decoded(text: &str) -> Result<String, String> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(Into::into)
        .map_err(|_| "a part of the address is not UTF-8 after percent-decoding".into())
}

/// Without credentials, so that it may be logged.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "amqps" } else { "amqp" }, self.host, self.port)?;
        if self.vhost == "/" { Ok(()) } else { write!(f, "/{}", self.vhost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> BrokerUrl {
        BrokerUrls::parse(text).unwrap().0.remove(0)
    }

    #[test]
    fn usual_addresses_are_understood() {
        for (text, shown) in [
            ("amqp://localhost", "amqp://localhost:5672"),
            ("amqps://rabbit.example", "amqps://rabbit.example:5671"),
            ("amqp://10.0.0.1:1234/hops", "amqp://10.0.0.1:1234/hops"),
            ("amqp://h:5672/%2f", "amqp://h:5672"),
            ("amqp://u:p%40ss@h:5672/a%2Fb", "amqp://h:5672/a/b"),
        ] {
            assert_eq!(parsed(text).to_string(), shown, "{text}");
        }
        assert_eq!(parsed("amqp://u:p%40ss@h").credentials.password.unwrap().expose(), "p@ss");
        assert_eq!(BrokerUrls::parse("amqp://a, amqp://b").unwrap().0.len(), 2);
    }

    #[test]
    fn a_trap_is_named_together_with_what_to_write() {
        for (text, says) in [
            ("amqp://rabbitmq:5672/", "write amqp://rabbitmq:5672 for the default vhost"),
            ("http://rabbitmq:5672", "write amqp:// or amqps://"),
            ("rabbitmq:5672", "looks like amqp://localhost:5672"),
            ("", "looks like amqp://localhost:5672"),
            ("amqp://", "amqp://localhost:5672"),
            ("amqp://h:70000", "port"),
            ("amqp://h:0", "port"),
            ("amqp://h:abc", "port"),
            ("amqp://[::1]:5672", "write a host name"),
            ("amqp://h/a/b", "%2f"),
            ("amqp://u:123/geheim@h", "%2f"),
            ("amqp://h?heartbeat=5", "settings of their own"),
        ] {
            let error = BrokerUrls::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_in_no_error_and_in_no_debug() {
        for text in [
            "amqp://u:hunter2@h:5672/",
            "http://u:hunter2@h",
            "amqp://u:hunter2@h:99999",
            "amqp://u:hunter2@",
        ] {
            assert!(!BrokerUrls::parse(text).unwrap_err().contains("hunter2"), "{text}");
        }
        let url = parsed("amqp://u:hunter2@h");
        assert!(!format!("{url:?} {url}").contains("hunter2"));
    }

    #[test]
    fn guest_is_for_this_machine_only() {
        let none = Credentials::default();
        let with = |text: &str, settings| BrokerUrls::parse(text).unwrap().with_credentials(settings);
        let local = with("amqp://127.0.0.1", &none).unwrap();
        assert_eq!(local.addresses()[0].1.username, "guest");
        assert!(
            with("amqp://rabbitmq", &none).unwrap_err().contains("APP_AMQP_USERNAME and APP_AMQP_PASSWORD")
        );
        let own = Credentials { username: Some("hops".into()), password: Some(Secret::new("s")) };
        let login = with("amqp://a:b@rabbitmq", &own).unwrap().addresses()[0].1.clone();
        assert_eq!((login.username.as_str(), login.password.expose()), ("hops", "s"));
    }
}
