//! Where the settings are: what has to be known before anything can be read, from flags and the environment
//! alone.

use std::{path::PathBuf, time::Duration};

use documented::DocumentedFields;
use serde::Deserialize;

use super::{
    secret::Secret,
    server::{ConfigServer, ServerUrl},
};

/// Its fields are flags and `APP_` variables, as the settings themselves are; no file can set them.
#[derive(Debug, Clone, Deserialize, DocumentedFields)]
#[serde(default)]
pub(super) struct Bootstrap {
    /// The folder with application.yml and its siblings; without it and a server the compiled defaults stand
    pub(super) config_repo: Option<PathBuf>,
    /// The config server to read the settings from, as in "http://configserver:8888"
    pub(super) config_server: Option<ServerUrl>,
    /// The label to ask the config server for: a branch, a tag or a commit (default: the server's own)
    pub(super) config_label: Option<String>,
    /// The config server's user, if it wants one; it may stand in its address, too
    pub(super) config_username: Option<String>,
    /// The user's password; prefer the environment or config_password_file, since everyone can read a command line
    pub(super) config_password: Option<Secret>,
    /// A file that holds the password, such as a Docker secret
    pub(super) config_password_file: Option<PathBuf>,
    /// PEM file with the authority that signed the config server's certificate, for https:// (default: the system's)
    pub(super) config_ca_file: Option<PathBuf>,
    /// How long one request to the config server may take (default 10s)
    #[serde(with = "humantime_serde")]
    pub(super) config_timeout: Duration,
    /// How long the config server is waited for at the start (default 60s)
    #[serde(with = "humantime_serde")]
    pub(super) config_patience: Duration,
    /// Without its config server a service ends (true, the default), or goes on with config_repo or the compiled
    /// defaults until it hears of it (false)
    pub(super) config_fail_fast: bool,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            config_repo: None,
            config_server: None,
            config_label: None,
            config_username: None,
            config_password: None,
            config_password_file: None,
            config_ca_file: None,
            config_timeout: Duration::from_secs(10),
            config_patience: Duration::from_secs(60),
            config_fail_fast: true,
        }
    }
}

impl Bootstrap {
    /// The config server, if there is one, with the credentials that go with it.
    ///
    /// # Errors
    /// The key that is wrong, and what to write.
    pub(super) fn server(self) -> Result<Option<ConfigServer>, String> {
        let Some(url) = self.config_server else { return Ok(None) };
        if self.config_timeout.is_zero() || self.config_patience.is_zero() {
            return Err("config_timeout and config_patience: must be more than 0".into());
        }
        let (password, file) = (self.config_password.as_ref(), self.config_password_file.as_deref());
        let password = Secret::given_or_in_file("config_password", password, file)?;
        let url = url.with_credentials(self.config_username, password);
        Ok(Some(ConfigServer {
            url,
            label: self.config_label,
            timeout: self.config_timeout,
            patience: self.config_patience,
            fail_fast: self.config_fail_fast,
            ca_file: self.config_ca_file,
        }))
    }
}
