//! Layers become one struct, or an error that names the key and where it was set. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use config::{ConfigError, Map, Value};
use properties::{
    merge,
    placeholders::{Resolver, Rules},
    root,
};
use serde::de::DeserializeOwned;

use super::{
    ServiceSettings, SettingsError,
    flat::{Flat, tree},
    names, nearest,
};

/// What Spring's server puts before a key whose value it cannot decrypt.
const INVALID: &str = "invalid.";
/// Keys that speak to Spring and not to a service: a file of several documents has one in each.
const OF_SPRING: &str = "spring";

/// What was read from one place.
#[derive(Clone)]
pub(super) struct Layer {
    /// The file, or the server's name for it.
    pub(super) origin: String,
    /// Whether the service is its only reader.
    pub(super) is_own: bool,
    pub(super) values: Flat,
}

/// Its keys only: a value may be a secret.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layer").field(&self.origin).field(&self.values.keys()).finish()
    }
}

/// The variables that set keys. One that is set to nothing, as in `APP_X: ${X:-}`, is not set.
pub(super) fn environment(variables: &[(String, String)], known: &BTreeSet<&str>) -> Flat {
    let ours = variables.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix("APP_")?.to_ascii_lowercase();
        (known.contains(key.as_str()) && !value.is_empty())
            .then(|| (key, Value::new(Some(name), value.as_str())))
    });
    ours.collect()
}

/// The flags that set keys.
pub(super) fn flags(given: &[(String, String)]) -> Flat {
    let flag = |key: &str| format!("--{}", key.replace('_', "-"));
    given.iter().map(|(key, value)| (key.clone(), Value::new(Some(&flag(key)), value.as_str()))).collect()
}

/// Composes the settings of a service: the layers of its files, the weakest first, then the environment, then
/// the flags; and each key's value as it was set.
///
/// # Errors
/// The first thing that is wrong, with its key and its source.
pub(super) fn compose<S: ServiceSettings>(
    layers: Vec<Layer>,
    variables: &[(String, String)],
    given: &[(String, String)],
) -> Result<(S, Map<String, Value>), SettingsError> {
    let known = names::<S>();
    let over = [environment(variables, &known), flags(given)];
    if let Some(stranger) = layers.iter().filter(|layer| layer.is_own).find_map(|own| stranger(own, &known)) {
        return Err(stranger);
    }
    undecrypted(&layers, &over, &known)?;
    let files = merge(layers.into_iter().map(|layer| layer.values));
    let all = merge([files.clone()].into_iter().chain(over.clone()));
    let look_up = |key: &str| match all.get(key) {
        Some(value) => value.clone().into_string().ok(),
        None => variable(key, variables),
    };
    let files = files.into_iter().filter(|(key, _)| known.contains(root(key)));
    let resolved = files.map(|(key, value)| {
        let Ok(text) = value.clone().into_string() else { return Ok((key, value)) };
        if !text.contains("${") {
            return Ok((key, value));
        }
        let origin = value.origin().unwrap_or_default().to_owned();
        let text = Resolver::new(&look_up, Rules::CLIENT)
            .resolve(&text)
            .map_err(|why| SettingsError::Invalid(format!("{origin}: {}: {why}", root(&key))))?;
        Ok((key, Value::new(Some(&origin), text)))
    });
    let resolved = resolved.collect::<Result<Flat, SettingsError>>()?;
    let flat = merge([resolved].into_iter().chain(over));
    let values = tree(&flat, S::IN_FILES_ONLY).map_err(|why| invalid(&why, &flat))?;
    let settings = read::<S>(&values).map_err(|e| unreadable(&e, &values))?;
    settings.shared().check().and_then(|()| settings.check()).map_err(|why| invalid(&why, &flat))?;
    Ok((settings, values))
}

/// Reads a struct that has no shared part and no rules of its own.
///
/// # Errors
/// The first thing that is wrong, with its key and its source.
pub(super) fn unchecked<T: DeserializeOwned>(
    layers: impl IntoIterator<Item = Flat>,
) -> Result<T, SettingsError> {
    let flat = merge(layers);
    let values = tree(&flat, &[]).map_err(|why| invalid(&why, &flat))?;
    let tree = Value::new(None, values.clone());
    tree.try_deserialize().map_err(|e| unreadable(&e, &values))
}

/// The first key that nobody reads, in a file that only this service reads.
fn stranger(layer: &Layer, known: &BTreeSet<&str>) -> Option<SettingsError> {
    let is_known =
        |key: &str| known.contains(root(key)) || root(key) == OF_SPRING || key.starts_with(INVALID);
    let key = layer.values.keys().find(|key| !is_known(key))?;
    let (key, origin) = (key.clone(), layer.origin.clone());
    let nearest = nearest(&key, known);
    Some(SettingsError::UnknownKey { key, origin, nearest })
}

/// A value that the server cannot decrypt lets the one of a weaker layer show through: better none than that.
fn undecrypted(layers: &[Layer], over: &[Flat], known: &BTreeSet<&str>) -> Result<(), SettingsError> {
    let mut broken = BTreeMap::new();
    for layer in layers {
        broken.retain(|key, _| !layer.values.keys().any(|set| root(set) == *key));
        let invalid = layer.values.keys().filter_map(|key| Some(root(key.strip_prefix(INVALID)?)));
        broken.extend(invalid.filter(|key| known.contains(key)).map(|key| (key, layer.origin.as_str())));
    }
    let is_set_above = |key: &str| over.iter().any(|layer| layer.contains_key(key));
    match broken.into_iter().find(|(key, _)| !is_set_above(key)) {
        Some((key, origin)) => Err(SettingsError::Invalid(format!(
            "{origin}: {key}: the config server cannot decrypt it: encrypt it with the key that the server has, or \
             set APP_{}",
            key.to_uppercase()
        ))),
        None => Ok(()),
    }
}

/// A variable for a placeholder, by its name or by the one that Spring would look for: `SERVER_PORT` for
/// `server.port`.
fn variable(key: &str, variables: &[(String, String)]) -> Option<String> {
    let upper = key.replace(['.', '-', '['], "_").replace(']', "").to_uppercase();
    let find = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    find(key).or_else(|| find(&upper))
}

/// Reads the struct. The shared keys stand beside the service's own, so the tree is shown to serde a
/// second time as `shared`: serde's own `flatten` would lose the numbers that arrive as text.
fn read<S: DeserializeOwned>(values: &Map<String, Value>) -> Result<S, ConfigError> {
    let mut tree = values.clone();
    tree.insert("shared".into(), Value::new(None, values.clone()));
    Value::new(None, tree).try_deserialize()
}

/// The error with its key, its source and its value. `config` leaves some of them out of some errors, and
/// it speaks of `shared.server_port`, which nobody wrote.
fn unreadable(error: &ConfigError, values: &Map<String, Value>) -> SettingsError {
    let text = error.to_string().replace("`shared.", "`");
    let named = values.iter().find(|(key, _)| text.contains(&format!("`{key}`")));
    let Some((key, value)) = named else { return SettingsError::Invalid(text) };
    let origin = value.origin().filter(|origin| !text.contains(origin));
    let shown = value.clone().into_string().ok().filter(|value| !is_delicate(key) && !text.contains(value));
    let value = shown.map_or_else(String::new, |value| format!("`{value}`: "));
    SettingsError::Invalid(origin.map_or(text.clone(), |origin| format!("{origin}: {value}{text}")))
}

/// Whether a value may have a password in it.
pub(super) fn is_delicate(key: &str) -> bool {
    ["amqp_", "password", "token", "secret", "key", "url", "server", "overrides"]
        .iter()
        .any(|part| key.contains(part))
        && !["server_port", "server_host", "server_name"].contains(&key)
}

/// What a check says begins with the key; this adds where the key was set.
fn invalid(text: &str, values: &Flat) -> SettingsError {
    let key = text.split_once(':').map_or(text, |(key, _)| key);
    let set = values.iter().find(|(set, _)| root(set) == key).and_then(|(_, value)| value.origin());
    SettingsError::Invalid(set.map_or(text.to_owned(), |origin| format!("{origin}: {text}")))
}

#[cfg(test)]
mod tests;
