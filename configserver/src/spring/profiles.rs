//! Which profiles are active, and which documents that makes active.

use std::collections::HashMap;

use super::{Properties, Scalar, shown};

/// How deep an expression's parentheses may lie in each other.
const DEEPEST: usize = 50;
/// How many profiles are active at once, those of groups included.
const MOST: usize = 100;

/// What a document says of profiles.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `spring.config.activate.on-profile`: any of them.
    pub on_profile: Option<Vec<String>>,
    /// `spring.config.activate.on-cloud-platform`: this server is on none.
    pub on_cloud_platform: bool,
    /// `spring.profiles.include`
    pub include: Vec<String>,
    /// `spring.profiles.group.*`
    pub groups: HashMap<String, Vec<String>>,
    /// `spring.config.import`
    pub import: Vec<String>,
    /// `spring.profiles.active` or `.default`, which a served file cannot say.
    pub activates: bool,
}

impl Said {
    /// Reads a document.
    ///
    /// # Errors
    /// The key of old, which nobody should take for a condition.
    pub fn by(document: &Properties) -> Result<Self, String> {
        let mut said = Self::default();
        for (key, value) in document {
            let Some(name) = own(key) else { continue };
            let name = name.split('[').next().unwrap_or_default();
            match name {
                "config.activate.onprofile" => said.on_profile.get_or_insert_default().extend(words(value)),
                "config.activate.oncloudplatform" => said.on_cloud_platform = true,
                "config.import" => said.import.extend(words(value)),
                "profiles.include" => said.include.extend(words(value)),
                "profiles.active" | "profiles.default" => said.activates = true,
                "profiles" => {
                    return Err("spring.profiles: write spring.config.activate.on-profile instead".into());
                }
                _ if name.starts_with("profiles.group") => {
                    let group = key.splitn(4, '.').nth(3).unwrap_or_default();
                    let group = group.split('[').find(|part| !part.is_empty()).unwrap_or_default();
                    said.groups.entry(group.trim_end_matches(']').into()).or_default().extend(words(value));
                }
                _ => {}
            }
        }
        Ok(said)
    }

    /// Whether a document takes part.
    ///
    /// # Errors
    /// An expression that is none.
    pub fn is_active(&self, profiles: &[String]) -> Result<bool, String> {
        let Some(expressions) = &self.on_profile else { return Ok(!self.on_cloud_platform) };
        let mut any = false;
        for expression in expressions {
            any |= holds(expression, profiles)?;
        }
        Ok(any && !self.on_cloud_platform)
    }
}

/// A key below `spring.`, as Spring compares keys: without case, hyphens and underscores.
fn own(key: &str) -> Option<String> {
    let rest = key.get(..7).filter(|start| start.eq_ignore_ascii_case("spring.")).map(|_| &key[7..])?;
    Some(rest.chars().filter(|c| !"-_".contains(*c)).map(|c| c.to_ascii_lowercase()).collect())
}

fn words(value: &Scalar) -> Vec<String> {
    let text = value.to_string();
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The active profiles, last wins: those that were asked for, then those that the base documents include, each
/// followed by the members of its group. `said` is of the base documents, highest first. When `default` was asked
/// for, files add none.
///
/// # Errors
/// A document with a condition that wants to say which profiles there are.
pub fn active(requested: &str, said: &[&Said]) -> Result<Vec<String>, String> {
    let mut profiles = unique(requested.split(',').map(str::to_owned));
    if is_default(requested) {
        return Ok(profiles);
    }
    let mut groups: HashMap<&str, &[String]> = HashMap::new();
    for said in said {
        if said.on_profile.is_some() && !(said.include.is_empty() && said.groups.is_empty()) {
            return Err("spring.profiles.include and .group have no place beside on-profile".into());
        }
        profiles.extend(said.include.iter().cloned());
        for (name, members) in &said.groups {
            groups.entry(name).or_insert(members);
        }
    }
    let mut stack: Vec<_> = profiles.into_iter().rev().collect();
    let mut expanded = vec![];
    while let Some(profile) = stack.pop() {
        if expanded.len() > MOST {
            return Err(format!("more than {MOST} profiles"));
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

/// Whether the first profile of a request is `default`: then files activate nothing.
#[must_use]
pub fn is_default(requested: &str) -> bool {
    requested.split(',').next().is_some_and(|first| first.eq_ignore_ascii_case("default"))
}

/// Each once, at its first place.
pub fn unique(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = vec![];
    for word in words {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    all
}

/// Whether an expression of `!`, `&`, `|` and parentheses holds.
///
/// # Errors
/// What is no expression; `&` beside `|` needs parentheses.
pub fn holds(expression: &str, profiles: &[String]) -> Result<bool, String> {
    let mut parser = Expression { rest: expression, profiles, depth: 0 };
    let value = parser.operands()?;
    match parser.next() {
        None => Ok(value),
        Some(other) => {
            Err(format!("on-profile `{}`: `{}` has no place there", shown(expression), shown(other)))
        }
    }
}

struct Expression<'a> {
    rest: &'a str,
    profiles: &'a [String],
    depth: usize,
}

impl<'a> Expression<'a> {
    /// The next word or mark.
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
        if self.depth > DEEPEST {
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

    fn said(entries: &[(&str, &str)]) -> Said {
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), Scalar::text(*value)));
        Said::by(&entries.collect()).unwrap()
    }

    #[test]
    fn keys_are_known_in_every_spelling() {
        for key in [
            "spring.config.activate.on-profile",
            "spring.config.activate.onProfile",
            "SPRING.CONFIG.ACTIVATE.ON_PROFILE",
        ] {
            assert_eq!(said(&[(key, "a, b")]).on_profile, Some(profiles("a b")), "{key}");
        }
        let list = said(&[("spring.profiles.include[0]", "a"), ("spring.profiles.include[1]", "b")]);
        assert_eq!(list.include, profiles("a b"));
        assert_eq!(said(&[("spring.profiles.group.dev[0]", "g1")]).groups["dev"], profiles("g1"));
        assert!(
            Said::by(&[("spring.profiles".to_owned(), Scalar::text("x"))].into_iter().collect()).is_err()
        );
        assert_eq!(said(&[("spring.application.name", "x"), ("springs", "x")]), Said::default());
    }

    #[test]
    fn groups_follow_their_profile_and_included_ones_come_last() {
        let base = [said(&[("spring.profiles.group.dev", "g1,g2"), ("spring.profiles.include", "extra")])];
        for (requested, expected) in [
            ("z,dev", "z dev g1 g2 extra"),
            ("dev,z,dev", "dev g1 g2 z extra"),
            ("default", "default"),
            ("Default,dev", "Default dev"),
        ] {
            assert_eq!(active(requested, &base.each_ref()), Ok(profiles(expected)), "{requested}");
        }
        let conditional =
            [said(&[("spring.config.activate.on-profile", "a"), ("spring.profiles.include", "b")])];
        assert!(active("a", &conditional.each_ref()).is_err());
        assert!(active("default", &conditional.each_ref()).is_ok());
        let circle = [said(&[("spring.profiles.group.a", "b"), ("spring.profiles.group.b", "a")])];
        assert_eq!(active("a", &circle.each_ref()), Ok(profiles("a b")));
    }
}
