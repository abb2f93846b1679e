//! What a config server answers, read as layers of settings: Spring Cloud Config's Environment in JSON, from
//! release 1.1 to 5.0.
//!
//! Pure. A newer server may say more than is read here, and an older one less.

use config::ValueKind;
use indexmap::IndexMap;
use properties::Node;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{flat::flatten, layers::Layer};

/// The Environment, as far as it is read: `profiles` may be split or not, `state` may be absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Environment {
    name: Option<String>,
    property_sources: Vec<PropertySource>,
}

#[derive(Deserialize)]
struct PropertySource {
    name: String,
    source: IndexMap<String, Node<Json>>,
}

/// Reads the answer for `service`: all property sources as layers, the weakest first.
///
/// # Errors
/// The first error.
pub(super) fn read(body: &[u8], service: &str) -> Result<Vec<Layer>, String> {
    let answer: Environment =
        serde_json::from_slice(body).map_err(|e| format!("its answer is no Environment: {e}"))?;
    // It repeats what it was asked for: after another address than its own it takes our name for a profile.
    if let Some(name) = answer.name.filter(|name| name != service) {
        return Err(format!(
            "its answer is for `{}`: is there more in the address than the server's own?",
            shown(&name)
        ));
    }
    let layers = answer.property_sources.into_iter().rev().map(|PropertySource { name, source }| {
        let origin = shown(&name);
        let values = flatten(source, &origin, scalar).map_err(|why| format!("{origin}: {why}"))?;
        Ok(Layer { is_own: is_own(&name, service), origin, values })
    });
    layers.collect()
}

fn scalar(json: Json) -> ValueKind {
    match json {
        Json::Bool(yes) => yes.into(),
        Json::String(text) => text.into(),
        number => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().into(),
        },
    }
}

/// Whether a source is the service's own file, whose every key it has to know. Servers name sources as they
/// like; what cannot be told is taken for one that others read too.
fn is_own(name: &str, service: &str) -> bool {
    let is_file = |word: &str| {
        let Some((stem, end)) = word.rsplit_once('.') else { return false };
        let rest = stem.strip_prefix(service);
        ["yml", "yaml", "properties", "xml"].contains(&end)
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    name.split(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).any(is_file)
}

/// The name for people: on one line, and without the credentials that a repository's address may hold.
fn shown(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(300).collect();
    let mut parts = name.split("://");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        let end = part.find(['/', ' ', '\'']).unwrap_or(part.len());
        let host = part[..end].rfind('@').map_or(0, |at| at + 1);
        format!("{shown}://{}", &part[host..])
    })
}

#[cfg(test)]
mod tests;
