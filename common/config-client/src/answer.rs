//! A config server's answer: Spring Cloud Config's Environment in JSON, from release 1.1 to 5.0.
//!
//! Pure. A newer server may say more than is read here, and an older one less.

use indexmap::IndexMap;
use properties::Node;
use serde::Deserialize;
use serde_json::Value as Json;

/// The Environment, as far as it is read: `profiles` may be split or not, `state` may be absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Environment {
    name: Option<String>,
    property_sources: Vec<PropertySource>,
}

/// The values that the server has read from one file, or from another source.
#[derive(Debug, Deserialize)]
pub struct PropertySource {
    name: String,
    /// Its values, by keys that Spring's server has made flat.
    pub source: IndexMap<String, Node<Json>>,
}

impl PropertySource {
    /// Returns its name for people: on one line, and without the credentials that a repository's address may hold.
    #[must_use]
    pub fn origin(&self) -> String {
        shown(&self.name)
    }

    /// Returns `true` if it is the service's own file, whose every key the service has to know. Servers name sources as
    /// they like; one whose name does not tell is taken for one that others read, too.
    #[must_use]
    pub fn is_own(&self, service: &str) -> bool {
        let is_file = |word: &str| {
            let Some((stem, end)) = word.rsplit_once('.') else { return false };
            let rest = stem.strip_prefix(service);
            ["yml", "yaml", "properties", "xml"].contains(&end)
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        self.name.split(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).any(is_file)
    }
}

/// Reads the answer for `service`: all property sources, the weakest first.
///
/// # Errors
/// The first error.
pub fn read(body: &[u8], service: &str) -> Result<Vec<PropertySource>, String> {
    let answer: Environment =
        serde_json::from_slice(body).map_err(|e| format!("its answer is no Environment: {e}"))?;
    // It repeats what it was asked for: after another address than its own it takes our name for a profile.
    if let Some(name) = answer.name.filter(|name| name != service) {
        return Err(format!(
            "its answer is for `{}`: is there more in the address than the server's own?",
            shown(&name)
        ));
    }
    Ok(answer.property_sources.into_iter().rev().collect())
}

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
