//! Checks the keys of the file and the forms of their values, before anything is read.

use std::collections::BTreeSet;

use super::{
    forms::{
        COMPOSE,
        Form::{
            self, Any, Duration, Extensible, Flag, Integer, Keys as Only, List, Mode, Named, Number,
            OrNothing, Pairs, PlainFlag, PlainInteger, Refused, Required, ShortOrLong, Since, Size, Text,
            TextOrSet, TextOrTexts, Value,
        },
        Keys, MINOR_VERSIONS,
    },
    node::{Data, Node},
    values::{duration, is_name, is_size},
};
use crate::failure::Result;

/// Checks the keys of the file and the forms of their values.
pub(super) fn check(root: &Node) -> Result<()> {
    let minor = match root.get("version") {
        None => *MINOR_VERSIONS.end(),
        Some(version) => match version.text()? {
            "" | "3" => *MINOR_VERSIONS.end(),
            text => {
                let minor = MINOR_VERSIONS.clone().find(|minor| text == format!("3.{minor}"));
                let problem = || format!("`{text}` is not 3, or a version from 3.8 to 3.13");
                minor.ok_or_else(|| version.error(&problem()))?
            }
        },
    };
    Checker { minor }.check(root, &COMPOSE)?;
    ["networks", "secrets"].into_iter().filter_map(|key| root.get(key)).try_for_each(check_external_names)
}

fn check_external_names(named: &Node) -> Result<()> {
    let is_text = |node: &&Node| node.text().is_ok_and(|text| !text.is_empty());
    for (_, node) in named.entries()? {
        let inner = node.get("external").and_then(|external| external.get("name")).filter(is_text);
        if let (Some(inner), Some(_)) = (inner, node.get("name").filter(is_text)) {
            return Err(inner.error("`external.name` and `name` contradict each other: write `name`"));
        }
    }
    Ok(())
}

struct Checker {
    minor: u8,
}

impl Checker {
    fn check(&self, node: &Node, form: &Form) -> Result<()> {
        match form {
            Any | Refused(_) => Ok(()),
            Flag => node.flag().map(drop),
            PlainFlag => match node.data {
                Data::Flag(_) => Ok(()),
                _ => Err(node.error("true or false is expected here")),
            },
            Integer => node.number::<i64>("a whole number").map(drop),
            PlainInteger => match node.data {
                Data::Integer(_) => Ok(()),
                _ => Err(node.error("a whole number is expected here")),
            },
            Mode => check_mode(node),
            Number => match &node.data {
                Data::Integer(_) | Data::Decimal(_) => Ok(()),
                Data::OddNumber(text) if !text.parse().is_ok_and(f32::is_infinite) => Ok(()),
                Data::Text { text, is_replaced: true } if text.parse().is_ok_and(f32::is_finite) => Ok(()),
                _ => Err(node.error("a number is expected here")),
            },
            Text => node.text().map(drop),
            Value if node.is_null() => Ok(()),
            Value => node.text_or_number().map(drop),
            Duration => duration_of(node).map(drop),
            Size => match node.text()? {
                text if is_size(text) => Ok(()),
                text => Err(node.error(&format!("`{text}` is not a size: write it as in 64M"))),
            },
            List(item) => self.list(node, item),
            TextOrTexts => match &node.data {
                Data::Text { .. } => Ok(()),
                Data::List(items) => items.iter().try_for_each(|item| item.text().map(drop)),
                _ => Err(node.error("a text or a list of texts is expected here")),
            },
            TextOrSet if matches!(node.data, Data::Text { .. }) => Ok(()),
            TextOrSet => self.list(node, &Text),
            Named(form) => node.entries()?.iter().try_for_each(|(_, node)| self.check(node, form)),
            Pairs => match &node.data {
                Data::Map(entries) => entries.iter().try_for_each(|(_, node)| self.check(node, &Value)),
                Data::List(_) => self.list(node, &Text),
                _ => Err(node.error("a mapping or a list of texts is expected here")),
            },
            Only(keys) => self.keys(node, keys, false),
            Extensible(keys) => self.keys(node, keys, true),
            ShortOrLong(_, long) if node.is_map() => self.check(node, long),
            ShortOrLong(short, _) => self.check(node, short),
            OrNothing(_) if node.is_null() => Ok(()),
            OrNothing(form) | Required(form) => self.check(node, form),
            Since(minor, _) if *minor > self.minor => {
                Err(node.error(&format!("this key needs `version: \"3.{minor}\"`")))
            }
            Since(_, form) => self.check(node, form),
        }
    }

    fn list(&self, node: &Node, form: &Form) -> Result<()> {
        let problem = if matches!(form, Text) { "a list of texts" } else { "a list" };
        let items = node.list().map_err(|_| node.error(&format!("{problem} is expected here")))?;
        let mut known = BTreeSet::new();
        for item in items {
            self.check(item, form)?;
            if !known.insert(item.content()) {
                let text = item.text_or_number().map_or_else(|_| "this".into(), |text| format!("`{text}`"));
                return Err(item.error(&format!("{text} is here twice")));
            }
        }
        Ok(())
    }

    fn keys(&self, node: &Node, keys: Keys, is_extensible: bool) -> Result<()> {
        let entries = node.entries()?;
        for (key, value) in entries {
            match keys.iter().find(|(known, _)| known == key) {
                Some((_, Refused(advice))) => {
                    let colon = if advice.is_empty() { "" } else { ": " };
                    return Err(
                        node.error_at(value, &format!("`{key}` is not supported here{colon}{advice}"))
                    );
                }
                Some((_, form)) => self.check(value, form)?,
                None if is_extensible && key.starts_with("x-") => {}
                None => {
                    let known = keys.iter().filter(|(_, form)| !matches!(form, Refused(_)));
                    let hint = nearest(key, known.map(|(known, _)| *known));
                    let hint =
                        hint.map_or_else(String::new, |nearest| format!(": did you mean `{nearest}`?"));
                    return Err(node.error_at(value, &format!("unknown key `{key}`{hint}")));
                }
            }
        }
        for (key, _) in keys.iter().filter(|(_, form)| matches!(form, Required(_))) {
            node.required(key)?;
        }
        Ok(())
    }
}

/// Checks the permissions of a file. Docker makes others of a number with a fraction or with too many bits.
fn check_mode(node: &Node) -> Result<()> {
    const MOST: i64 = 0o7777;
    let octal = |text: &str| i64::from_str_radix(text.trim_start_matches("0o"), 8).ok();
    let mode = match &node.data {
        Data::Integer(mode) => Some(*mode),
        Data::OddNumber(text) if text.starts_with('0') => octal(text),
        Data::Text { text, is_replaced: true } => text.parse().ok(),
        _ => None,
    };
    let is_mode = mode.is_some_and(|mode| (0..=MOST).contains(&mode));
    if is_mode { Ok(()) } else { Err(node.error("permissions are expected here, such as 0440")) }
}

/// Returns the duration that a value describes.
pub(super) fn duration_of(node: &Node) -> Result<std::time::Duration> {
    let text = node.text_or_number()?;
    let parsed = duration(&text).filter(|_| matches!(node.data, Data::Text { .. }));
    parsed
        .ok_or_else(|| node.error(&format!("`{text}` is not a duration: write it as in 500ms, 10s or 1m30s")))
}

/// Checks names that are also names of files and folders.
pub(super) fn check_names(node: &Node) -> Result<()> {
    let problem = |name: &str| format!("`{name}` is not a name: use letters, digits, `.`, `_` and `-`");
    match node.entries()?.iter().find(|(name, _)| !is_name(name)) {
        Some((name, value)) => Err(node.error_at(value, &problem(name))),
        None => Ok(()),
    }
}

/// Returns the known name that is most similar to `name`, if any is similar.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similarity = |other: &str| strsim::sorensen_dice(name, other).max(strsim::jaro(name, other) - 0.4);
    let nearest = known.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    nearest.filter(|other| similarity(other) > 0.3)
}
