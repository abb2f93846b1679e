//! The view of the settings that operators get: each key's value, and the layer that it came from. The types of
//! secrets, and of addresses with credentials, hide them when they are serialized.

use std::collections::BTreeMap;

use config::Value;
use serde::Serialize;
use serde_json::Value as Json;

use super::{Key, ServiceSettings, secret::HIDDEN, sources::Loaded};

/// All keys of a service, each with its effective value.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Effective(BTreeMap<&'static str, Entry>);

/// A key's value, as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    value: Json,
    /// The file, the variable or the flag; or `default`.
    origin: String,
    /// `true` if a new value takes effect at once.
    live: bool,
    /// The new value, if it takes effect at the next start only.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_next_start: Option<Json>,
}

pub(super) fn effective<S: ServiceSettings>(started: &Loaded<S>, now: &Loaded<S>) -> Effective {
    let (before, after) = (started.settings.shown(), now.settings.shown());
    let pending = changed(started, now);
    let entry = |key: Key| {
        let (version, values) = if key.is_live { (now, &after) } else { (started, &before) };
        let value = values.get(key.name).cloned().unwrap_or_default();
        let origin = version.values.get(key.name).and_then(Value::origin).unwrap_or("default").to_owned();
        let is_pending = !key.is_live && pending.contains(&key);
        let at_next_start = is_pending.then(|| after.get(key.name).cloned().unwrap_or_default());
        Entry { value, origin, live: key.is_live, at_next_start }
    };
    Effective(S::keys().into_iter().map(|key| (key.name, entry(key))).collect())
}

/// Returns the keys whose values differ.
pub(super) fn changed<S: ServiceSettings>(before: &Loaded<S>, after: &Loaded<S>) -> Vec<Key> {
    let (old, new) = (before.settings.shown(), after.settings.shown());
    let raw = |version: &Loaded<S>, key: &Key| version.values.get(key.name).map(|value| value.kind.clone());
    let is_changed = |key: &Key| {
        let (old, new) = (old.get(key.name), new.get(key.name));
        // Two secrets look the same.
        let hides = |value: &Json| value.to_string().contains(HIDDEN);
        old != new || new.is_some_and(hides) && raw(before, key) != raw(after, key)
    };
    S::keys().into_iter().filter(is_changed).collect()
}
