//! The keys that say where the broker is and who connects to it.

use std::{fs, path::PathBuf, time::Duration};

use documented::DocumentedFields;
use hops_config::{
    InvalidValue, Moment, Section, more_than_zero,
    secret::{Secret, SecretFile},
};
use serde::{Deserialize, Serialize};

use crate::broker::{Broker, BrokerUrls, Credentials};

/// The settings of the connection to the broker.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// The broker, or several of one cluster, comma-separated (default "amqp://localhost:5672")
    pub amqp_server_url: BrokerUrls,
    /// The broker's user (default "guest" for a broker on this machine, none for any other)
    pub amqp_username: Option<String>,
    /// The user's password
    pub amqp_password: Option<Secret>,
    /// A file that holds the user's name, such as a Docker secret
    pub amqp_username_file: Option<SecretFile>,
    /// A file that holds the password, such as a Docker secret
    pub amqp_password_file: Option<SecretFile>,
    /// PEM file with the authority that signed the broker's certificate, for amqps:// (default: the system's)
    pub amqp_ca_file: Option<PathBuf>,
    /// Interval of heartbeats; a dead connection is detected after two (default 10s)
    #[serde(with = "humantime_serde")]
    pub amqp_heartbeat: Duration,
    /// Time limit for a request to the broker, a confirm included (default 10s)
    #[serde(with = "humantime_serde")]
    pub amqp_operation_timeout: Duration,
    /// Time limit for connecting and the handshake together (default 5s)
    #[serde(with = "humantime_serde")]
    pub amqp_connect_timeout: Duration,
    /// The longest wait before another attempt to connect; the first is at most 100ms (default 10s)
    #[serde(with = "humantime_serde")]
    pub amqp_backoff_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            amqp_server_url: BrokerUrls::default(),
            amqp_username: None,
            amqp_password: None,
            amqp_username_file: None,
            amqp_password_file: None,
            amqp_ca_file: None,
            amqp_heartbeat: Duration::from_secs(10),
            amqp_operation_timeout: Duration::from_secs(10),
            amqp_connect_timeout: Duration::from_secs(5),
            amqp_backoff_max: Duration::from_secs(10),
        }
    }
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        more_than_zero([
            ("amqp_operation_timeout", self.amqp_operation_timeout.is_zero()),
            ("amqp_connect_timeout", self.amqp_connect_timeout.is_zero()),
            ("amqp_backoff_max", self.amqp_backoff_max.is_zero()),
        ])?;
        match self.amqp_heartbeat.as_secs() {
            1..=600 => Ok(()),
            _ => {
                Err(InvalidValue::new("amqp_heartbeat", "must be between 1s and 10min (5s to 20s is usual)"))
            }
        }
    }
}

impl Settings {
    /// Returns the broker's addresses with their credentials; reads the `*_FILE`s.
    ///
    /// # Errors
    /// A file that cannot be read, or a broker on another machine without credentials, with what to set.
    pub fn broker(&self) -> Result<Broker, String> {
        let username = self.amqp_username.clone().map(Secret::new);
        let read = Secret::given_or_in_file;
        let username = read("amqp_username", username.as_ref(), self.amqp_username_file.as_ref())?;
        let username = username.map(|username| username.expose().to_owned());
        let password = read("amqp_password", self.amqp_password.as_ref(), self.amqp_password_file.as_ref())?;
        self.amqp_server_url.with_credentials(&Credentials { username, password })
    }

    /// Returns the authority that signed the broker's certificate, in PEM, if one is set.
    ///
    /// # Errors
    /// A file that cannot be read, or that has no certificate.
    pub(super) fn ca(&self) -> Result<Option<String>, String> {
        let read = |path: &PathBuf| match fs::read_to_string(path) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(pem),
            Ok(_) => Err(format!("amqp_ca_file: {} has no certificate in PEM format", path.display())),
            Err(e) => Err(format!("amqp_ca_file: cannot read {}: {e}", path.display())),
        };
        self.amqp_ca_file.as_ref().map(read).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_from_a_file_and_is_never_shown() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "s3cret\n").unwrap();
        let settings = Settings {
            amqp_server_url: BrokerUrls::parse("amqp://rabbitmq").unwrap(),
            amqp_username: Some("007".into()),
            amqp_password_file: Some(file.into()),
            ..Settings::default()
        };
        let login = settings.broker().unwrap().addresses()[0].1.clone();
        assert_eq!((login.username.as_str(), login.password.expose()), ("007", "s3cret"));
        assert!(!format!("{:?}", settings.broker()).contains("s3cret"));

        let both = Settings { amqp_password: Some(Secret::new("other")), ..settings };
        assert!(both.broker().unwrap_err().contains("keep one of both"));
    }

    #[test]
    fn settings_show_that_an_address_has_credentials_and_not_which() {
        let shown = |url: &str| {
            let amqp_server_url = BrokerUrls::parse(url).unwrap();
            serde_json::to_value(Settings { amqp_server_url, ..Settings::default() }).unwrap()["amqp_server_url"]
                .clone()
        };
        assert_eq!(shown("amqp://u:s3cret@h, amqp://i/v"), "amqp://***@h:5672, amqp://i:5672/v");
    }
}
