//! YAML with places: each value knows its line and its path, and a key that nobody reads is refused by name.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use humantime_serde::re::humantime;
use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use super::interpolate::interpolate;
use crate::failure::{Failure, Result};

/// What is the same for all values of a file.
#[derive(Debug)]
pub(crate) struct File<'a> {
    /// As shown in errors.
    pub name: &'a str,
    /// What `${X}` is replaced by.
    pub variables: &'a BTreeMap<String, String>,
}

/// A value in the file.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    file: &'a File<'a>,
    yaml: &'a MarkedYaml<'a>,
    path: String,
}

/// A mapping whose keys are known.
#[derive(Debug)]
pub(crate) struct Section<'a>(Vec<(String, Node<'a>)>);

/// Reads a file's only document.
pub(crate) fn load<T>(text: &str, file: &File<'_>, read: impl FnOnce(Node<'_>) -> Result<T>) -> Result<T> {
    match MarkedYaml::load_from_str(text) {
        Ok(documents) => match &documents[..] {
            [yaml] => read(Node { file, yaml, path: String::new() }),
            _ => Err(format!("{}: one document is expected", file.name).into()),
        },
        Err(why) => Err(format!("{}: not YAML: {why}", file.name).into()),
    }
}

impl<'a> Node<'a> {
    /// An error at this place.
    pub(crate) fn error(&self, what: &str) -> Failure {
        self.error_at(self.yaml, what)
    }

    fn error_at(&self, yaml: &MarkedYaml<'_>, what: &str) -> Failure {
        let colon = if self.path.is_empty() { "" } else { ": " };
        Failure::Why(format!("{}:{}: {}{colon}{what}", self.file.name, yaml.span.start.line(), self.path))
    }

    fn below(&self, key: &str, yaml: &'a MarkedYaml<'a>) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { file: self.file, yaml, path }
    }

    /// Whether nothing stands there.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.yaml.data, YamlData::Value(Scalar::Null))
    }

    pub(crate) fn is_map(&self) -> bool {
        self.yaml.is_mapping()
    }

    pub(crate) fn is_list(&self) -> bool {
        self.yaml.is_sequence()
    }

    /// A mapping from names that the file chooses; `<<` brings in another one's.
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
                let merged = self.below(key, value).entries()?;
                entries.extend(merged.into_iter().map(|(k, v)| (k.clone(), self.below(&k, v.yaml))));
            } else {
                entries.push((key.to_string(), self.below(key, value)));
            }
        }
        // What is written here goes before what is merged in.
        let mut seen = BTreeMap::new();
        for (at, (key, value)) in entries.iter().enumerate() {
            let own = map.iter().any(|(_, own)| std::ptr::eq(own, value.yaml));
            if own || !seen.contains_key(key) {
                seen.insert(key.clone(), at);
            }
        }
        Ok(entries
            .into_iter()
            .enumerate()
            .filter(|(at, (key, _))| seen[key] == *at)
            .map(|(_, e)| e)
            .collect())
    }

    /// A mapping with these keys and no others; names that begin with `x-` are the writer's own.
    pub(crate) fn section(&self, used: &[&str], passed_over: &[&str]) -> Result<Section<'a>> {
        let entries = self.entries()?;
        let known = |key: &str| used.contains(&key) || passed_over.contains(&key) || key.starts_with("x-");
        if let Some((key, value)) = entries.iter().find(|(key, _)| !known(key)) {
            let hint = nearest(key, used.iter().chain(passed_over).copied());
            let hint = hint.map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"));
            return Err(self.error_at(value.yaml, &format!("unknown key `{key}`{hint}")));
        }
        Ok(Section(entries))
    }

    pub(crate) fn list(&self) -> Result<Vec<Self>> {
        let YamlData::Sequence(list) = &self.yaml.data else {
            return Err(self.error("a list is expected here"));
        };
        Ok(list.iter().enumerate().map(|(n, yaml)| self.below(&n.to_string(), yaml)).collect())
    }

    /// A single value as text, with the variables in it replaced.
    pub(crate) fn text(&self) -> Result<String> {
        let raw = match &self.yaml.data {
            YamlData::Value(Scalar::String(text)) => text.to_string(),
            YamlData::Value(Scalar::Integer(number)) => number.to_string(),
            YamlData::Value(Scalar::FloatingPoint(number)) => number.to_string(),
            YamlData::Value(Scalar::Boolean(flag)) => flag.to_string(),
            YamlData::Value(Scalar::Null) => String::new(),
            _ => return Err(self.error("a single value is expected here")),
        };
        interpolate(&raw, self.file.variables).map_err(|why| self.error(&why))
    }

    /// A value of a type that is read from text; `what` says which values there are.
    pub(crate) fn parsed<T: FromStr>(&self, what: &str) -> Result<T> {
        let text = self.text()?;
        text.parse().map_err(|_| self.error(&format!("`{text}` is not {what}")))
    }

    pub(crate) fn duration(&self) -> Result<Duration> {
        let text = self.text()?;
        humantime::parse_duration(&text).map_err(|_| {
            self.error(&format!("`{text}` is not a duration: write it as in 500ms, 10s or 1m30s"))
        })
    }

    /// One of these words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let text = self.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.error(&format!("`{text}` is not {}", all.join(" or ")))
        })
    }
}

impl<'a> Section<'a> {
    /// What stands under a key; nothing there is as good as no key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// The same, read; `default` where there is none.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Result<T>,
    ) -> Result<T> {
        self.get(key).map_or(Ok(default), read)
    }
}

/// The name that looks most like this one.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &str| strsim::sorensen_dice(name, other).max(strsim::jaro(name, other) - 0.4);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|other| likeness(other) > 0.3)
}
