//! YAML with positions: each value knows its line and its path, for errors, and a key that nobody reads is refused by name.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use anyhow::{Context as _, anyhow};
use humantime_serde::re::humantime;
use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use super::interpolate::interpolate;
use crate::failure::Result;

/// File that the values come from.
#[derive(Debug)]
pub(crate) struct File<'a> {
    /// Name in errors.
    pub name: &'a str,
    /// Values of `${X}`.
    pub variables: &'a BTreeMap<String, String>,
}

/// Value in the file.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    file: &'a File<'a>,
    yaml: &'a MarkedYaml<'a>,
    path: String,
}

/// Mapping with a fixed set of keys.
#[derive(Debug)]
pub(crate) struct Section<'a>(Vec<(String, Node<'a>)>);

/// Reads a file's only document.
pub(crate) fn load<T>(text: &str, file: &File<'_>, read: impl FnOnce(Node<'_>) -> Result<T>) -> Result<T> {
    let documents = MarkedYaml::load_from_str(text).with_context(|| format!("{}: not YAML", file.name))?;
    match &documents[..] {
        [yaml] => read(Node { file, yaml, path: String::new() }),
        _ => Err(anyhow!("{}: one document is expected", file.name)),
    }
}

impl<'a> Node<'a> {
    /// Creates an error at this position.
    pub(crate) fn error(&self, problem: &str) -> anyhow::Error {
        self.error_at(self.yaml, problem)
    }

    fn error_at(&self, yaml: &MarkedYaml<'_>, problem: &str) -> anyhow::Error {
        let colon = if self.path.is_empty() { "" } else { ": " };
        anyhow!("{}:{}: {}{colon}{problem}", self.file.name, yaml.span.start.line(), self.path)
    }

    fn child(&self, key: &str, yaml: &'a MarkedYaml<'a>) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { file: self.file, yaml, path }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.yaml.data, YamlData::Value(Scalar::Null))
    }

    pub(crate) fn is_map(&self) -> bool {
        self.yaml.is_mapping()
    }

    pub(crate) fn is_list(&self) -> bool {
        self.yaml.is_sequence()
    }

    /// Returns the entries of a mapping whose keys are names; `<<` merges another mapping's entries.
    pub(crate) fn entries(&self) -> Result<Vec<(String, Self)>> {
        let YamlData::Mapping(map) = &self.yaml.data else {
            return Err(self.error("keys with values are expected here"));
        };
        let mut entries = vec![];
        for (key, value) in map {
            let YamlData::Value(Scalar::String(key)) = &key.data else {
                return Err(self.error_at(key, "a key is text"));
            };
            if key == "<<" {
                let merged = self.child(key, value).entries()?;
                entries.extend(merged.into_iter().map(|(k, v)| (k.clone(), self.child(&k, v.yaml))));
            } else {
                entries.push((key.to_string(), self.child(key, value)));
            }
        }
        // The mapping's own entries take precedence over merged ones.
        let mut positions = BTreeMap::new();
        for (at, (key, value)) in entries.iter().enumerate() {
            let own = map.iter().any(|(_, own)| std::ptr::eq(own, value.yaml));
            if own || !positions.contains_key(key) {
                positions.insert(key.clone(), at);
            }
        }
        let entries = entries.into_iter().enumerate();
        Ok(entries.filter(|(at, (key, _))| positions[key] == *at).map(|(_, entry)| entry).collect())
    }

    /// Returns a mapping with these keys and no others, apart from keys that begin with `x-`, which are the
    /// writer's own.
    pub(crate) fn section(&self, used: &[&str], ignored: &[&str]) -> Result<Section<'a>> {
        let entries = self.entries()?;
        let is_known = |key: &str| used.contains(&key) || ignored.contains(&key) || key.starts_with("x-");
        if let Some((key, value)) = entries.iter().find(|(key, _)| !is_known(key)) {
            let hint = nearest(key, used.iter().chain(ignored).copied());
            let hint = hint.map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"));
            return Err(self.error_at(value.yaml, &format!("unknown key `{key}`{hint}")));
        }
        Ok(Section(entries))
    }

    pub(crate) fn list(&self) -> Result<Vec<Self>> {
        let YamlData::Sequence(list) = &self.yaml.data else {
            return Err(self.error("a list is expected here"));
        };
        Ok(list.iter().enumerate().map(|(n, yaml)| self.child(&n.to_string(), yaml)).collect())
    }

    /// Returns a scalar as text, with its variables replaced.
    pub(crate) fn text(&self) -> Result<String> {
        let raw = match &self.yaml.data {
            YamlData::Value(Scalar::String(text)) => text.to_string(),
            YamlData::Value(Scalar::Integer(number)) => number.to_string(),
            YamlData::Value(Scalar::FloatingPoint(number)) => number.to_string(),
            YamlData::Value(Scalar::Boolean(flag)) => flag.to_string(),
            YamlData::Value(Scalar::Null) => String::new(),
            _ => return Err(self.error("a single value is expected here")),
        };
        interpolate(&raw, self.file.variables).map_err(|error| self.error(&error.to_string()))
    }

    /// Parses a value; `expected` describes the valid ones.
    pub(crate) fn parsed<T: FromStr>(&self, expected: &str) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| self.error(&format!("`{text}` is not {expected}")))
    }

    pub(crate) fn duration(&self) -> Result<Duration> {
        let text = self.text()?;
        humantime::parse_duration(&text).map_err(|_| {
            self.error(&format!("`{text}` is not a duration: write it as in 500ms, 10s or 1m30s"))
        })
    }

    /// Parses one of these words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.error(&format!("`{text}` is not {}", all.join(" or ")))
        })
    }
}

impl<'a> Section<'a> {
    /// Returns the value of a key; a null counts as no value.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Reads the value of a key, or returns `default` if there is none.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Result<T>,
    ) -> Result<T> {
        self.get(key).map_or(Ok(default), read)
    }
}

/// Returns the known name that is most similar to `name`, if any is similar.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |other: &str| strsim::sorensen_dice(name, other).max(strsim::jaro(name, other) - 0.4);
    let nearest = known.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    nearest.filter(|other| similarity(other) > 0.3)
}
