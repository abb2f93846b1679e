//! Layers become one struct, or an error that names the key and where it was set. Pure.

use std::collections::BTreeSet;

use config::{Map, Value, ValueKind};
use properties::{
    merge,
    placeholders::{Resolver, Rules},
    root,
};

use super::{
    InvalidValue, Sections, ServiceSettings,
    error::unknown_key,
    flat::{Flat, origin, tree},
    names,
    reloadable::Moment,
};

/// The prefix of keys whose values Spring's server cannot decrypt.
const INVALID: &str = "invalid.";
/// The root of keys for Spring and not for a service: each document of a file with several has one.
const OF_SPRING: &str = "spring";

/// The values from one source.
pub(super) struct Layer {
    /// The file, or the server's name for it.
    pub(super) origin: String,
    /// `true` if the service is its only reader.
    pub(super) is_own: bool,
    pub(super) values: Flat,
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
) -> Result<(S, Map<String, Value>), String> {
    let known = names::<S>();
    layers.iter().filter(|layer| layer.is_own).try_for_each(|own| reject_unknown_key(own, &known))?;
    let over = merge([environment(variables, &known), flags(given)]);
    let files = layers.into_iter().map(|layer| with_undecrypted(layer.values));
    let all = merge(files.chain([over.clone()]));
    let look_up = |key: &str| match all.get(key) {
        Some(value) => value.clone().into_string().ok(),
        None => variable(key, variables),
    };
    let own = all.iter().filter(|(key, _)| known.contains(root(key)));
    let resolved = own.map(|(key, value)| {
        let mut value = value.clone();
        let why = match &value.kind {
            ValueKind::Nil => format!(
                "the config server cannot decrypt it: encrypt it with the key that the server has, or set APP_{}",
                root(key).to_uppercase()
            ),
            ValueKind::String(text) if text.contains("${") && !over.contains_key(key) => {
                match Resolver::new(&look_up, Rules::CLIENT).resolve(text) {
                    Ok(text) => {
                        value.kind = text.into();
                        return Ok((key.clone(), value));
                    }
                    Err(why) => why.to_string(),
                }
            }
            _ => return Ok((key.clone(), value)),
        };
        let origin = value.origin().unwrap_or_default();
        Err(format!("{origin}: {}: {why}", root(key)))
    });
    read(&resolved.collect::<Result<_, String>>()?, S::IN_FILES_ONLY)
}

/// Reads sections from values without placeholders, and checks them. A key in `lists` whose value is empty is an empty
/// list.
///
/// # Errors
/// The first error, with its key and its source.
pub(super) fn read<S: Sections>(flat: &Flat, lists: &[&str]) -> Result<(S, Map<String, Value>), String> {
    let invalid = |error: InvalidValue| {
        let set = origin(flat, root(error.key()));
        set.map_or(error.to_string(), |origin| format!("{origin}: {error}"))
    };
    let values = tree(flat, lists).map_err(invalid)?;
    let settings = S::read(&values).map_err(invalid)?;
    settings.check(Moment::NOW).map_err(invalid)?;
    Ok((settings, values))
}

/// Returns an error for the first key that nobody reads, in a file that only this service reads.
fn reject_unknown_key(own: &Layer, known: &BTreeSet<&str>) -> Result<(), String> {
    let is_known =
        |key: &str| known.contains(root(key)) || root(key) == OF_SPRING || key.starts_with(INVALID);
    match own.values.keys().find(|key| !is_known(key)) {
        Some(key) => Err(format!("{}: {}", own.origin, unknown_key(key, known))),
        None => Ok(()),
    }
}

/// Sets each key that the server cannot decrypt to nil, which no file does, since null is an empty text there: otherwise
/// the value of a weaker layer would apply.
fn with_undecrypted(mut values: Flat) -> Flat {
    let invalid: Flat = values.extract_if(.., |key, _| key.starts_with(INVALID)).collect();
    values.extend(invalid.into_iter().map(|(key, mut value)| {
        value.kind = ValueKind::Nil;
        (key[INVALID.len()..].to_owned(), value)
    }));
    values
}

/// Returns the variable for a placeholder, by its name or by Spring's name for it: `SERVER_PORT` for `server.port`.
fn variable(key: &str, variables: &[(String, String)]) -> Option<String> {
    let upper = key.replace(['.', '-', '['], "_").replace(']', "").to_uppercase();
    let find = |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    find(key).or_else(|| find(&upper))
}

#[cfg(test)]
mod tests;
