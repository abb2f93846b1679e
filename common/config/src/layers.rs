//! Layers become one struct, or an error that names the key and where it was set. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use config::{Map, Value};
use properties::{
    merge,
    placeholders::{Resolver, Rules},
    root,
};

use super::{
    InvalidValue, Section, Sections, ServiceSettings, SettingsError,
    flat::{Flat, tree},
    names, nearest,
    reloadable::Moment,
};

/// The prefix of keys whose values Spring's server cannot decrypt.
const INVALID: &str = "invalid.";
/// The root of keys for Spring and not for a service: each document of a file with several has one.
const OF_SPRING: &str = "spring";

/// The values from one source.
#[derive(Clone)]
pub(super) struct Layer {
    /// The file, or the server's name for it.
    pub(super) origin: String,
    /// `true` if the service is its only reader.
    pub(super) is_own: bool,
    pub(super) values: Flat,
}

/// Without the values, which may be secrets.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Layer").field(&self.origin).field(&self.values.keys()).finish()
    }
}

/// Returns the variables that set keys. An empty one, as in `APP_X: ${X:-}`, does not.
pub(super) fn environment(variables: &[(String, String)], known: &BTreeSet<&str>) -> Flat {
    let ours = variables.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix("APP_")?.to_ascii_lowercase();
        (known.contains(key.as_str()) && !value.is_empty())
            .then(|| (key, Value::new(Some(name), value.as_str())))
    });
    ours.collect()
}

/// Returns the values of flags.
pub(super) fn flags(given: &[(String, String)]) -> Flat {
    let flag = |key: &str| format!("--{}", key.replace('_', "-"));
    given.iter().map(|(key, value)| (key.clone(), Value::new(Some(&flag(key)), value.as_str()))).collect()
}

/// Composes the settings of a service: the layers of its files, the weakest first, then the environment, then
/// the flags; and each key's value as it was set.
///
/// # Errors
/// The first error, with its key and its source.
pub(super) fn compose<S: ServiceSettings>(
    layers: Vec<Layer>,
    variables: &[(String, String)],
    given: &[(String, String)],
) -> Result<(S, Map<String, Value>), SettingsError> {
    let known = names::<S>();
    let over = [environment(variables, &known), flags(given)];
    if let Some(unknown) =
        layers.iter().filter(|layer| layer.is_own).find_map(|own| first_unknown_key(own, &known))
    {
        return Err(unknown);
    }
    reject_undecrypted(&layers, &over, &known)?;
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
    let values = tree(&flat, S::IN_FILES_ONLY).map_err(|error| invalid(&error, &flat))?;
    let settings = S::read(&values).map_err(|error| invalid(&error, &flat))?;
    settings.check(Moment::NOW).map_err(|error| invalid(&error, &flat))?;
    Ok((settings, values))
}

/// Reads one section from layers that have no placeholders; its rules are its owner's to check.
///
/// # Errors
/// The first error, with its key and its source.
pub(super) fn read<T: Section>(layers: impl IntoIterator<Item = Flat>) -> Result<T, SettingsError> {
    let flat = merge(layers);
    let values = tree(&flat, &[]).map_err(|error| invalid(&error, &flat))?;
    T::read(&values).map_err(|error| invalid(&error, &flat))
}

/// Returns the error for the first key that nobody reads, in a file that only this service reads.
fn first_unknown_key(layer: &Layer, known: &BTreeSet<&str>) -> Option<SettingsError> {
    let is_known =
        |key: &str| known.contains(root(key)) || root(key) == OF_SPRING || key.starts_with(INVALID);
    let key = layer.values.keys().find(|key| !is_known(key))?;
    let (key, origin) = (key.clone(), layer.origin.clone());
    let nearest = nearest(&key, known);
    Some(SettingsError::UnknownKey { key, origin, nearest })
}

/// Returns an error for a value that the server cannot decrypt: without it, the value of a weaker layer would apply.
fn reject_undecrypted(layers: &[Layer], over: &[Flat], known: &BTreeSet<&str>) -> Result<(), SettingsError> {
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

/// Returns the variable for a placeholder, by its name or by Spring's name for it: `SERVER_PORT` for `server.port`.
fn variable(key: &str, variables: &[(String, String)]) -> Option<String> {
    let upper = key.replace(['.', '-', '['], "_").replace(']', "").to_uppercase();
    let find = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    find(key).or_else(|| find(&upper))
}

/// Adds to an error where its key was set. A type's error quotes the value, unless it may hold a secret.
fn invalid(error: &InvalidValue, values: &Flat) -> SettingsError {
    let root_key = root(error.key());
    let set = values.iter().find(|(set, _)| root(set) == root_key).and_then(|(_, value)| value.origin());
    SettingsError::Invalid(set.map_or(error.to_string(), |origin| format!("{origin}: {error}")))
}

#[cfg(test)]
mod tests;
