//! What can be set.

use std::path::PathBuf;

use documented::DocumentedFields;
use hops_config::{ServiceSettings, SharedSettings, secret::Secret};
use indexmap::IndexMap;
use properties::flatten;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spring::{
    cipher::{Decryption, Key},
    request::is_place,
};

/// The configserver's settings. In brackets what Spring calls a key, where it has one.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// What every service has
    pub shared: SharedSettings,
    /// Whether an application without any file is answered with an empty list, and not 404 (default true)
    /// [spring.cloud.config.server.accept-empty]
    pub accept_empty: bool,
    /// What every address of the configuration begins with, such as /config (default none) [...server.prefix]
    pub prefix: String,
    /// Whether the folder of a label, or of default_label, is read before the root (default true)
    /// [...server.native.add-label-locations]
    pub add_label_locations: bool,
    /// The label of a request that names none (default master) [...server.native.default-label]
    pub default_label: String,
    /// What is answered as the version (default none) [...server.native.version]
    pub version: Option<String>,
    /// Values that win over every file: a map, or on the command line its JSON (default none) [...server.overrides]
    pub overrides: Overrides,
    /// The user of the configuration's basic authentication (default "user", once a password is set)
    pub auth_username: String,
    /// The user's password: once it is set, configuration is for those who know it (default none)
    pub auth_password: Option<Secret>,
    /// A file that holds the password, such as a Docker secret
    pub auth_password_file: Option<PathBuf>,
    /// The password of `{cipher}` values; prefer the environment or encrypt_key_file, since everyone can read a
    /// command line (default none) [encrypt.key]
    pub encrypt_key: Option<Secret>,
    /// A file that holds that password, such as a Docker secret
    pub encrypt_key_file: Option<PathBuf>,
    /// What the password is salted with, in hexadecimal (default deadbeef) [encrypt.salt]
    pub encrypt_salt: String,
    /// Whether values are decrypted before they go out; otherwise clients do it (default true)
    /// [...server.encrypt.enabled]
    pub encrypt_enabled: bool,
    /// Whether a value that cannot be decrypted is answered as invalid.KEY; otherwise it stays, without its {cipher}
    /// (default true) [encrypt.prefix-invalid-properties]
    pub encrypt_prefix_invalid: bool,
    /// What stands before /monitor in its address, such as /hooks (default none)
    /// [spring.cloud.config.monitor.endpoint.path]
    pub monitor_prefix: String,
    /// What a repository's host signs its notifications to /monitor with (default none: they need the rights of an
    /// operator)
    pub monitor_secret: Option<Secret>,
    /// A file that holds that secret, such as a Docker secret
    pub monitor_secret_file: Option<PathBuf>,
    /// The server's name on the bus (default config-server:PROFILE:INSTANCE:RANDOM) [spring.cloud.bus.id]
    pub bus_id: Option<String>,
    /// Whether the services are told when a file in the folder is saved (default true)
    pub watch: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shared: SharedSettings::default(),
            accept_empty: true,
            prefix: String::new(),
            add_label_locations: true,
            default_label: "master".into(),
            version: None,
            overrides: Overrides::default(),
            auth_username: "user".into(),
            auth_password: None,
            auth_password_file: None,
            encrypt_key: None,
            encrypt_key_file: None,
            encrypt_salt: "deadbeef".into(),
            encrypt_enabled: true,
            encrypt_prefix_invalid: true,
            monitor_prefix: String::new(),
            monitor_secret: None,
            monitor_secret_file: None,
            bus_id: None,
            watch: true,
        }
    }
}

impl Settings {
    /// What becomes of `{cipher}` values, with the key derived.
    ///
    /// # Errors
    /// A key or a salt that cannot be used, or a file that cannot be read.
    pub fn decryption(&self) -> Result<Decryption, String> {
        let (password, file) = (self.encrypt_key.as_ref(), self.encrypt_key_file.as_deref());
        let password = Secret::given_or_in_file("encrypt_key", password, file)?;
        let key = password.map(|password| Key::derive(password.expose(), &self.encrypt_salt));
        let key = key.transpose().map_err(|e| e.to_string())?;
        Ok(Decryption { enabled: self.encrypt_enabled, key, prefix_invalid: self.encrypt_prefix_invalid })
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "configserver";
    // What it serves to others is not checked before it serves: a mistake there must not keep it from starting.
    const READS_APPLICATION_FILES: bool = false;

    fn shared(&self) -> &SharedSettings {
        &self.shared
    }

    fn check(&self) -> Result<(), String> {
        let is_segment =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        for (key, prefix) in [("prefix", &self.prefix), ("monitor_prefix", &self.monitor_prefix)] {
            let segments = prefix.strip_prefix('/').map(|rest| rest.split('/').all(is_segment));
            if !prefix.is_empty() && segments != Some(true) {
                return Err(format!("{key}: write it as in /config"));
            }
        }
        if !is_place(&self.default_label) {
            return Err("default_label: is a folder below config_repo, without `..` and `#`".into());
        }
        Ok(())
    }
}

/// Keys and texts, from a tree or from a JSON object in a text. Any of the texts may be a password: none is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Value")]
pub struct Overrides(pub IndexMap<String, Secret>);

impl TryFrom<Value> for Overrides {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let value = match value {
            Value::String(text) => serde_json::from_str(&text).map_err(|e| format!("is not JSON: {e}"))?,
            value => value,
        };
        let tree = serde_json::from_value(value).map_err(|_| "is not a map of keys and texts")?;
        let flat = flatten(tree, &Value::from("")).map_err(|e| e.to_string())?;
        let secret = |(key, value)| match value {
            Value::String(text) => (key, Secret::new(text)),
            value => (key, Secret::new(value.to_string())),
        };
        Ok(Self(flat.into_iter().map(secret).collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use hops_config::{Sources, command};

    use super::*;

    /// The settings of a command line, or what is wrong.
    async fn load(arguments: &[&str]) -> Result<Settings, String> {
        let arguments = ["configserver"].iter().chain(arguments).map(OsString::from);
        let sources = Sources::parse::<Settings>(command::<Settings>(), arguments, []);
        let (mut sources, _) = sources.map_err(|_| "the command line")?;
        sources.server = None;
        sources.load().await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_default_label_stays_in_the_folder() {
        for label in ["master", "release/eu", "v1.0", "a,b"] {
            assert_eq!(load(&["--default-label", label]).await.unwrap().default_label, label);
        }
        for label in ["../..", "..", "a/../..", "/etc", "(_)etc", "%2e%2e/x", "a#b"] {
            let error = load(&["--default-label", label]).await.unwrap_err();
            assert!(error.contains("--default-label: default_label: is a folder below"), "{label}: {error}");
        }
    }

    #[tokio::test]
    async fn overrides_are_used_and_never_shown() {
        let settings = load(&["--overrides", r#"{"db": {"password": "hunter2"}, "n": 4711}"#]).await.unwrap();
        assert_eq!(settings.overrides.0["db.password"].expose(), "hunter2");
        assert_eq!(settings.overrides.0["n"].expose(), "4711");
        let shown = serde_json::to_string(&settings).unwrap();
        for shown in [format!("{settings:?}"), shown] {
            assert!(shown.contains("db.password"), "{shown}");
            assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
        }
    }

    #[tokio::test]
    async fn overrides_that_cannot_be_read_are_refused_without_their_content() {
        for text in [
            r#"{"db.password": "hunter2""#,
            r#"{"a" "hunter2"}"#,
            "hunter2",
            r#""hunter2""#,
            r#"["hunter2"]"#,
        ] {
            let error = load(&["--overrides", text]).await.unwrap_err();
            assert!(error.contains("overrides"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
