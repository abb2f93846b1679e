//! Profiles: those that are active, and the documents that they make active.

use std::collections::HashMap;

use indexmap::IndexSet;
use properties::excerpt;

use crate::{Properties, Scalar};

/// Limit for an expression's parentheses in each other.
const MAX_DEPTH: usize = 50;
/// Limit for the profiles that are active at once, with those of groups.
const MAX_PROFILES: usize = 100;

/// Directives of a document about profiles and imports.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProfileDirectives {
    /// `spring.config.activate.on-profile`: one of these expressions must hold.
    pub on_profile: Option<Vec<String>>,
    /// `spring.config.activate.on-cloud-platform` is set; this server is on no such platform.
    pub on_cloud_platform: bool,
    /// `spring.profiles.include`
    pub include: Vec<String>,
    /// `spring.profiles.group.*`
    pub groups: HashMap<String, Vec<String>>,
    /// `spring.config.import`
    pub import: Vec<String>,
    /// `spring.profiles.active` or `.default` is set, which a profile's file must not do.
    pub activates: bool,
}

impl ProfileDirectives {
    /// Reads the directives of a document.
    ///
    /// # Errors
    /// The document has the key `spring.profiles`, which was a condition in old versions and is ignored in new ones.
    pub fn of(document: &Properties) -> Result<Self, String> {
        let mut found = Self::default();
        for (key, value) in document {
            let Some(name) = own(key) else { continue };
            let name = name.split('[').next().unwrap_or_default();
            match name {
                "config.activate.onprofile" => found.on_profile.get_or_insert_default().extend(words(value)),
                "config.activate.oncloudplatform" => found.on_cloud_platform = true,
                "config.import" => found.import.extend(words(value)),
                "profiles.include" => found.include.extend(words(value)),
                "profiles.active" | "profiles.default" => found.activates = true,
                "profiles" => {
                    return Err("spring.profiles: write spring.config.activate.on-profile instead".into());
                }
                _ if name.starts_with("profiles.group") => {
                    let group = key.splitn(4, '.').nth(3).unwrap_or_default();
                    let group = group.split('[').find(|part| !part.is_empty()).unwrap_or_default();
                    found.groups.entry(group.trim_end_matches(']').into()).or_default().extend(words(value));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Returns whether the document is active with these profiles.
    ///
    /// # Errors
    /// An expression that is not valid.
    pub fn is_active(&self, profiles: &[String]) -> Result<bool, String> {
        let Some(expressions) = &self.on_profile else { return Ok(!self.on_cloud_platform) };
        let results = expressions.iter().map(|expression| holds(expression, profiles));
        let results = results.collect::<Result<Vec<_>, _>>()?;
        Ok(results.contains(&true) && !self.on_cloud_platform)
    }
}

/// Returns the part of a key below `spring.`, as Spring compares keys: without case, hyphens and underscores.
fn own(key: &str) -> Option<String> {
    let rest = key.get(..7).filter(|start| start.eq_ignore_ascii_case("spring.")).map(|_| &key[7..])?;
    Some(rest.chars().filter(|c| !"-_".contains(*c)).map(|c| c.to_ascii_lowercase()).collect())
}

fn words(value: &Scalar) -> Vec<String> {
    let text = value.to_string();
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the active profiles, of which the last wins: the requested ones, then those that the base documents include,
/// each followed by the members of its group. `base` has the directives of the base documents, highest first. For a
/// request of `default`, files add no profiles.
///
/// # Errors
/// A document with a condition that adds profiles.
pub fn active(requested: &str, base: &[&ProfileDirectives]) -> Result<Vec<String>, String> {
    let mut profiles = unique(requested.split(',').map(str::to_owned));
    if is_default(requested) {
        return Ok(profiles);
    }
    let mut groups: HashMap<&str, &[String]> = HashMap::new();
    for document in base {
        if document.on_profile.is_some() && !(document.include.is_empty() && document.groups.is_empty()) {
            return Err("spring.profiles.include and .group are not allowed beside on-profile".into());
        }
        profiles.extend(document.include.iter().cloned());
        for (name, members) in &document.groups {
            groups.entry(name).or_insert(members);
        }
    }
    let mut stack: Vec<_> = profiles.into_iter().rev().collect();
    let mut expanded = vec![];
    while let Some(profile) = stack.pop() {
        if expanded.len() > MAX_PROFILES {
            return Err(format!("more than {MAX_PROFILES} profiles"));
        }
        if !expanded.contains(&profile) {
            stack.extend(
                groups.get(profile.as_str()).into_iter().flat_map(|group| group.iter().rev().cloned()),
            );
            expanded.push(profile);
        }
    }
    Ok(expanded)
}

/// Returns whether the first profile of a request is `default`, in which case files add no profiles.
#[must_use]
pub fn is_default(requested: &str) -> bool {
    requested.split(',').next().is_some_and(|first| first.eq_ignore_ascii_case("default"))
}

/// Removes the duplicates of a list; the first of each stays.
pub fn unique(words: impl Iterator<Item = String>) -> Vec<String> {
    words.collect::<IndexSet<_>>().into_iter().collect()
}

/// Evaluates an expression of `!`, `&`, `|` and parentheses.
///
/// # Errors
/// The expression is not valid; `&` beside `|` needs parentheses.
pub fn holds(expression: &str, profiles: &[String]) -> Result<bool, String> {
    let mut parser = Expression { rest: expression, profiles, depth: 0 };
    let value = parser.operands()?;
    match parser.next() {
        None => Ok(value),
        Some(other) => Err(format!("on-profile `{}`: unexpected `{}`", excerpt(expression), excerpt(other))),
    }
}

struct Expression<'a> {
    rest: &'a str,
    profiles: &'a [String],
    depth: usize,
}

impl<'a> Expression<'a> {
    /// Takes the next word or mark.
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let first = rest.chars().next()?;
        let is_mark = |c: char| "!&|()".contains(c);
        let end = if is_mark(first) { 1 } else { rest.find(is_mark).unwrap_or(rest.len()) };
        self.rest = &rest[end..];
        Some(rest[..end].trim_end())
    }

    fn peek(&self) -> Option<char> {
        self.rest.trim_start().chars().next()
    }

    fn operands(&mut self) -> Result<bool, String> {
        let mut value = self.operand()?;
        let Some(operator @ ('&' | '|')) = self.peek() else { return Ok(value) };
        while self.peek() == Some(operator) {
            self.next();
            let other = self.operand()?;
            value = if operator == '&' { value & other } else { value | other };
        }
        match self.peek() {
            Some('&' | '|') => Err("on-profile: `&` beside `|` needs parentheses".into()),
            _ => Ok(value),
        }
    }

    fn operand(&mut self) -> Result<bool, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("on-profile: too many parentheses".into());
        }
        let value = match self.next() {
            Some("!") => !self.operand()?,
            Some("(") => {
                let value = self.operands()?;
                match self.next() {
                    Some(")") => value,
                    _ => return Err("on-profile: a parenthesis is not closed".into()),
                }
            }
            Some(")" | "&" | "|") | None => return Err("on-profile: a profile is missing".into()),
            Some(word) => self.profiles.iter().any(|profile| profile == word),
        };
        self.depth -= 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn expressions_hold_or_not() {
        for (expression, active, expected) in [
            ("dev", "dev", true),
            ("dev", "DEV", false),
            ("!dev", "prod", true),
            ("dev & cloud", "dev", false),
            ("dev & cloud", "dev cloud", true),
            ("a|b|c", "c", true),
            ("(a & b) | c", "c", true),
            ("!(a | b)", "c", true),
            ("a & !(b | c) & d", "a d", true),
            ("!!a", "a", true),
        ] {
            assert_eq!(holds(expression, &profiles(active)), Ok(expected), "{expression} of {active}");
        }
        for wrong in ["a & b | c", "", "a &", "(a", "a)", "& a", "a b (c)", "!", &"(".repeat(10_000)] {
            assert!(holds(wrong, &profiles("a")).is_err(), "{wrong}");
        }
    }

    fn directives(entries: &[(&str, &str)]) -> ProfileDirectives {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), Scalar::text(*value)));
        ProfileDirectives::of(&entries.collect()).unwrap()
    }

    #[test]
    fn keys_are_known_in_every_spelling() {
        for key in [
            "spring.config.activate.on-profile",
            "spring.config.activate.onProfile",
            "SPRING.CONFIG.ACTIVATE.ON_PROFILE",
        ] {
            assert_eq!(directives(&[(key, "a, b")]).on_profile, Some(profiles("a b")), "{key}");
        }
        let list = directives(&[("spring.profiles.include[0]", "a"), ("spring.profiles.include[1]", "b")]);
        assert_eq!(list.include, profiles("a b"));
        assert_eq!(directives(&[("spring.profiles.group.dev[0]", "g1")]).groups["dev"], profiles("g1"));
        assert!(
            ProfileDirectives::of(&[("spring.profiles".to_owned(), Scalar::text("x"))].into_iter().collect())
                .is_err()
        );
        assert_eq!(
            directives(&[("spring.application.name", "x"), ("springs", "x")]),
            ProfileDirectives::default()
        );
    }

    #[test]
    fn groups_follow_their_profile_and_included_ones_come_last() {
        let base =
            [directives(&[("spring.profiles.group.dev", "g1,g2"), ("spring.profiles.include", "extra")])];
        for (requested, expected) in [
            ("z,dev", "z dev g1 g2 extra"),
            ("dev,z,dev", "dev g1 g2 z extra"),
            ("default", "default"),
            ("Default,dev", "Default dev"),
        ] {
            assert_eq!(active(requested, &base.each_ref()), Ok(profiles(expected)), "{requested}");
        }
        let conditional =
            [directives(&[("spring.config.activate.on-profile", "a"), ("spring.profiles.include", "b")])];
        assert!(active("a", &conditional.each_ref()).is_err());
        assert!(active("default", &conditional.each_ref()).is_ok());
        let circle = [directives(&[("spring.profiles.group.a", "b"), ("spring.profiles.group.b", "a")])];
        assert_eq!(active("a", &circle.each_ref()), Ok(profiles("a b")));
    }
}
