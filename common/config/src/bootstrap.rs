//! The keys that say where the settings are. They are needed before anything can be read, so they come from flags and
//! the environment alone.

use std::{path::PathBuf, time::Duration};

use config_client::{ConfigServer, ServerUrl};
use documented::DocumentedFields;
use serde::{Deserialize, Serialize};

use super::{
    InvalidValue, Section, more_than_zero,
    secret::{Secret, SecretFile},
};

/// Its fields are flags and `APP_` variables, as the settings themselves are; no file can set them.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub(super) struct Bootstrap {
    /// The folder with application.yml and its siblings; without it and a server the compiled defaults apply
    pub(super) config_repo: Option<PathBuf>,
    /// The config server to read the settings from, as in "http://configserver:8888"
    pub(super) config_server: Option<ServerUrl>,
    /// The label to ask the config server for: a branch, a tag or a commit (default: the server's own)
    pub(super) config_label: Option<String>,
    /// The password of the config server's user, who stands in its address, as in "http://user@configserver:8888"
    pub(super) config_password: Option<Secret>,
    /// A file that holds the password, such as a Docker secret
    pub(super) config_password_file: Option<SecretFile>,
    /// PEM file with the authority that signed the config server's certificate, for https:// (default: the system's)
    pub(super) config_ca_file: Option<PathBuf>,
    /// Time limit for waiting for the config server at the start (default 60s)
    #[serde(with = "humantime_serde")]
    pub(super) config_patience: Duration,
    /// Without its config server a service exits (true, the default), or starts with config_repo or the compiled
    /// defaults and reloads when the server is there (false)
    pub(super) config_fail_fast: bool,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            config_repo: None,
            config_server: None,
            config_label: None,
            config_password: None,
            config_password_file: None,
            config_ca_file: None,
            config_patience: Duration::from_secs(60),
            config_fail_fast: true,
        }
    }
}

impl Section for Bootstrap {}

impl Bootstrap {
    /// Returns the config server, if there is one, with its credentials.
    ///
    /// # Errors
    /// The key that is wrong, and what to write.
    pub(super) fn server(self) -> Result<Option<ConfigServer>, InvalidValue> {
        let Some(url) = self.config_server else { return Ok(None) };
        more_than_zero([("config_patience", self.config_patience.is_zero())])?;
        let (password, file) = (self.config_password.as_ref(), self.config_password_file.as_ref());
        let password = Secret::given_or_in_file("config_password", password, file)?;
        let url = url.with_password(password.as_ref().map(Secret::expose));
        Ok(Some(ConfigServer {
            url,
            label: self.config_label,
            patience: self.config_patience,
            fail_fast: self.config_fail_fast,
            ca_file: self.config_ca_file,
        }))
    }
}
