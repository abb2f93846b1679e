//! What is shown of the settings: each key's value, and the layer that it came from. A secret's type shows
//! nothing, and an address none of its credentials, so nothing here could.

use std::collections::BTreeMap;

use config::Value;
use serde::Serialize;
use serde_json::Value as Json;

use super::{ServiceSettings, is_live, keys, layers::is_delicate, live::Version};

/// All keys of a service with what counts for each.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Effective(BTreeMap<&'static str, Shown>);

/// A key's value, as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    value: Json,
    /// The file, the variable or the flag; or `default`.
    origin: String,
    /// Whether a new value takes effect at once.
    live: bool,
    /// The value that was read since, of a key that is not live.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_next_start: Option<Json>,
}

pub(super) fn effective<S: ServiceSettings>(started: &Version<S>, now: &Version<S>) -> Effective {
    let (before, after) = (values(&*started.settings), values(&*now.settings));
    let pending = changed(started, now);
    let shown = |key| {
        let live = is_live::<S>(key);
        let (version, values) = if live { (now, &after) } else { (started, &before) };
        let value = values.get(key).cloned().unwrap_or_default();
        let origin = version.values.get(key).and_then(Value::origin).unwrap_or("default").to_owned();
        let at_next_start =
            (!live && pending.contains(&key)).then(|| after.get(key).cloned().unwrap_or_default());
        Shown { value, origin, live, at_next_start }
    };
    Effective(keys::<S>().into_iter().map(|(key, _)| (key, shown(key))).collect())
}

/// The keys whose values differ.
pub(super) fn changed<S: ServiceSettings>(before: &Version<S>, after: &Version<S>) -> Vec<&'static str> {
    let (old, new) = (values(&*before.settings), values(&*after.settings));
    let raw = |version: &Version<S>, key: &str| version.values.get(key).map(|value| value.kind.clone());
    // Of two secrets the same is shown.
    let is_changed = |key: &&str| {
        old.get(*key) != new.get(*key) || is_delicate(key) && raw(before, key) != raw(after, key)
    };
    keys::<S>().into_iter().map(|(key, _)| key).filter(is_changed).collect()
}

/// The values by key, as they may be shown.
fn values<S: ServiceSettings>(settings: &S) -> BTreeMap<String, Json> {
    let Ok(Json::Object(own)) = serde_json::to_value(settings) else { return BTreeMap::new() };
    let mut values: BTreeMap<_, _> = own.into_iter().collect();
    if let Some(Json::Object(shared)) = values.remove("shared") {
        values.extend(shared);
    }
    values
}
