//! `${key}` and `${key:default}` in values: nested, recursive, and bounded.
//!
//! A text between the braces that is a key as a whole wins over one that ends at the first colon. The colon counts
//! outside of nested placeholders only.

use crate::excerpt;

/// Treatment of a placeholder that has neither a value nor a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresolved {
    /// It stays as it is. The config server's rule: its client may know the key.
    Keep,
    /// It is an error. The client's rule: nobody comes after it.
    Refuse,
}

/// Rules of one side.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Treatment of a placeholder without a value.
    pub unresolved: Unresolved,
    /// Number of backslashes before `${` that are removed at most. Spring's server removes two, one by its own rule
    /// and one by its parser's; a client has the parser's alone.
    pub escapes: usize,
    /// Limit for placeholders that lie in each other or lead to each other.
    pub max_depth: usize,
    /// Limit for the placeholders that one resolver replaces, those in values that it looks up included.
    pub max_placeholders: usize,
    /// Limit for the bytes of all texts that one resolver produces, those in between included.
    pub max_bytes: usize,
}

impl Rules {
    /// The config server's: one resolver has a whole answer.
    pub const SERVER: Self = Self {
        unresolved: Unresolved::Keep,
        escapes: 2,
        max_depth: 64,
        max_placeholders: 100_000,
        max_bytes: 8 * 1024 * 1024,
    };
    /// A client's: one resolver has one value.
    pub const CLIENT: Self = Self {
        unresolved: Unresolved::Refuse,
        escapes: 1,
        max_depth: 32,
        max_placeholders: 1000,
        max_bytes: 256 * 1024,
    };
}

/// Reason why a text cannot be resolved. It has keys in it and no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// The key has no value.
    #[error("the placeholder ${{{key}}} has no value: set {key}, or write ${{{key}:DEFAULT}}", key = excerpt(.0))]
    Unresolved(String),
    /// The key's value leads to the key.
    #[error("the placeholder ${{{}}} leads to itself", excerpt(.0))]
    Circular(String),
    /// Placeholders lie too deep in each other.
    #[error("placeholders are nested deeper than {0} levels")]
    TooDeep(usize),
    /// There are too many placeholders.
    #[error("more than {0} placeholders")]
    TooMany(usize),
    /// The values are too long.
    #[error("placeholders make it longer than {0} bytes")]
    TooLong(usize),
}

/// Resolver of the placeholders of one or several texts, with common limits.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Resolver<'a> {
    look_up: &'a dyn Fn(&str) -> Option<String>,
    rules: Rules,
    /// The keys whose values are being resolved.
    path: Vec<String>,
    depth: usize,
    placeholders: usize,
    bytes: usize,
}

impl<'a> Resolver<'a> {
    /// Creates a resolver that takes values from `look_up`.
    #[must_use]
    pub fn new(look_up: &'a dyn Fn(&str) -> Option<String>, rules: Rules) -> Self {
        Self { look_up, rules, path: vec![], depth: 0, placeholders: 0, bytes: 0 }
    }

    /// Returns the text with its placeholders replaced. `\${x}` becomes a literal `${x}`, and so is a placeholder that
    /// is not closed.
    ///
    /// # Errors
    /// The first placeholder that cannot be replaced, or the limit that is exceeded.
    pub fn resolve(&mut self, text: &str) -> Result<String, PlaceholderError> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, found) = rest.split_at(at);
            let escapes = before.bytes().rev().take(self.rules.escapes).take_while(|b| *b == b'\\').count();
            resolved.push_str(&before[..at - escapes]);
            if escapes > 0 {
                resolved.push_str("${");
                rest = &found[2..];
                continue;
            }
            let Some(end) = outside_braces(&found[2..], b'}') else {
                rest = found;
                break;
            };
            let inner = &found[2..2 + end];
            rest = &found[end + 3..];
            match self.placeholder(inner)? {
                Some(value) => resolved.push_str(&value),
                None => resolved.extend(["${", inner, "}"]),
            }
        }
        resolved.push_str(rest);
        self.bytes += resolved.len();
        match self.bytes > self.rules.max_bytes {
            true => Err(PlaceholderError::TooLong(self.rules.max_bytes)),
            false => Ok(resolved),
        }
    }

    /// Returns the value of the text between the braces; `None` if it has none and the placeholder stays.
    fn placeholder(&mut self, inner: &str) -> Result<Option<String>, PlaceholderError> {
        self.placeholders += 1;
        self.depth += 1;
        if self.placeholders > self.rules.max_placeholders {
            return Err(PlaceholderError::TooMany(self.rules.max_placeholders));
        }
        if self.depth > self.rules.max_depth {
            return Err(PlaceholderError::TooDeep(self.rules.max_depth));
        }
        let colon = outside_braces(inner, b':');
        let (key, default) = colon.map_or((inner, None), |at| (&inner[..at], Some(&inner[at + 1..])));
        let mut value = None;
        if default.is_some() && !inner.contains("${") {
            value = self.value(inner)?;
        }
        if value.is_none() {
            let key = self.resolve(key)?;
            value = match (self.value(&key)?, default, self.rules.unresolved) {
                (None, Some(default), _) => Some(self.resolve(default)?),
                (None, None, Unresolved::Refuse) => {
                    return Err(PlaceholderError::Unresolved(key.trim().to_owned()));
                }
                (value, ..) => value,
            };
        }
        self.depth -= 1;
        Ok(value)
    }

    fn value(&mut self, key: &str) -> Result<Option<String>, PlaceholderError> {
        let key = key.trim();
        let Some(value) = (self.look_up)(key) else { return Ok(None) };
        if self.path.iter().any(|known| known == key) {
            return Err(PlaceholderError::Circular(key.to_owned()));
        }
        self.path.push(key.to_owned());
        let value = self.resolve(&value)?;
        self.path.pop();
        Ok(Some(value))
    }
}

/// Finds a byte that is not between braces; braces come in pairs.
fn outside_braces(text: &str, wanted: u8) -> Option<usize> {
    let mut open = 0_usize;
    text.bytes().position(|byte| {
        let found = byte == wanted && open == 0;
        open = match byte {
            b'{' => open + 1,
            b'}' => open.saturating_sub(1),
            _ => open,
        };
        found
    })
}

#[cfg(test)]
mod tests;
