//! The address of a config server.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;

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
    #[must_use]
    pub fn with_password(mut self, password: Option<&str>) -> Self {
        if let Some(password) = password {
            let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
            // It does not fail for an address that has a host, and each of these schemes has one.
            let _ = self.0.set_password(Some(&encoded));
        }
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Returns the address of a service's settings, with the credentials. As in Spring, a slash in a label is written
    /// `(_)`, and a password alone is that of `user`.
    pub(crate) fn of(&self, service: &str, profile: &str, label: Option<&str>) -> Url {
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
