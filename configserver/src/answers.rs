//! The settings of the answers. In brackets what Spring calls a key, where it has one.

use documented::DocumentedFields;
use hops_config::{InvalidValue, Moment, Section, secret::Secret};
use indexmap::IndexMap;
use properties::flatten;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spring::request::is_place;

/// The settings of the answers.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// true: an application without any file is answered with an empty list; false: with 404 (default true)
    /// [spring.cloud.config.server.accept-empty]
    pub accept_empty: bool,
    /// Prefix of each address of the configuration, such as /config (default none) [...server.prefix]
    pub prefix: String,
    /// true: the folder of a label, or of default_label, is read before the root (default true)
    /// [...server.native.add-label-locations]
    pub add_label_locations: bool,
    /// The label of a request that names none (default master) [...server.native.default-label]
    pub default_label: String,
    /// The version in each answer (default none) [...server.native.version]
    pub version: Option<String>,
    /// Values that win over every file: a map, or in the environment its JSON (default none) [...server.overrides]
    pub overrides: Overrides,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            accept_empty: true,
            prefix: String::new(),
            add_label_locations: true,
            default_label: "master".into(),
            version: None,
            overrides: Overrides::default(),
        }
    }
}

impl Section for Settings {
    fn check(&self, _: Moment) -> Result<(), InvalidValue> {
        let is_segment =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let segments = self.prefix.strip_prefix('/').map(|rest| rest.split('/').all(is_segment));
        if !self.prefix.is_empty() && segments != Some(true) {
            return Err(InvalidValue::new("prefix", "write it as in /config"));
        }
        if !is_place(&self.default_label) {
            return Err(InvalidValue::new(
                "default_label",
                "is a folder below config_repo, without `..` and `#`",
            ));
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
