//! `${key}` and `${key:default}` in the merged view, against the environment that is served and nothing else.

use super::{
    request::{Refusal, refuse},
    shown,
};

/// How deep placeholders lead to, or lie in, each other.
const DEEPEST: usize = 64;
/// How many placeholders an answer has, those of values that are looked up included.
const MOST: usize = 100_000;
/// How many bytes their values have, all together.
const LONGEST: usize = 8 * 1024 * 1024;

/// Resolves all texts of one answer; the bounds are those of the answer.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Resolver<'a> {
    look_up: &'a dyn Fn(&str) -> Option<String>,
    /// The keys that lead to where we are.
    path: Vec<String>,
    depth: usize,
    placeholders: usize,
    bytes: usize,
}

impl<'a> Resolver<'a> {
    /// With what gives a key's value.
    #[must_use]
    pub fn new(look_up: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { look_up, path: vec![], depth: 0, placeholders: 0, bytes: 0 }
    }

    /// The text with its placeholders resolved. Those without a value stay; `\${x}` becomes a literal `${x}`.
    ///
    /// # Errors
    /// 400 for a circle, 500 when it grows too large.
    pub fn resolve(&mut self, text: &str) -> Result<String, Refusal> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, found) = rest.split_at(at);
            let escapes = before.bytes().rev().take(2).take_while(|b| *b == b'\\').count();
            resolved.push_str(&before[..at - escapes]);
            if escapes > 0 {
                resolved.push_str("${");
                rest = &found[2..];
                continue;
            }
            let Some(end) = end(&found[2..]) else {
                rest = found;
                break;
            };
            let inner = &found[2..2 + end];
            rest = &found[end + 3..];
            match self.value(inner)? {
                Some(value) => resolved.push_str(&value),
                None => resolved.extend(["${", inner, "}"]),
            }
        }
        resolved.push_str(rest);
        self.bytes += resolved.len();
        match self.bytes > LONGEST {
            true => refuse(500, format!("placeholders grow to more than {LONGEST} bytes")),
            false => Ok(resolved),
        }
    }

    /// The value of what stands between the braces.
    fn value(&mut self, inner: &str) -> Result<Option<String>, Refusal> {
        self.placeholders += 1;
        self.depth += 1;
        if self.depth > DEEPEST || self.placeholders > MOST {
            return refuse(500, format!("more than {MOST} placeholders, or deeper than {DEEPEST}"));
        }
        let (key, default) = inner.split_once(':').map_or((inner, None), |(key, rest)| (key, Some(rest)));
        let mut value = None;
        for candidate in [Some(inner), default.map(|_| key)].into_iter().flatten() {
            value = self.key(candidate)?;
            if value.is_some() {
                break;
            }
        }
        if let (None, Some(default)) = (&value, default) {
            value = Some(self.resolve(default)?);
        }
        self.depth -= 1;
        Ok(value)
    }

    fn key(&mut self, text: &str) -> Result<Option<String>, Refusal> {
        let key = self.resolve(text)?.trim().to_owned();
        let Some(value) = (self.look_up)(&key) else { return Ok(None) };
        if self.path.contains(&key) {
            return refuse(400, format!("the placeholder {} leads to itself", shown(&key)));
        }
        self.path.push(key);
        let value = self.resolve(&value)?;
        self.path.pop();
        Ok(Some(value))
    }
}

/// Where the brace that closes stands; braces in between come in pairs.
fn end(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    text.bytes().position(|byte| {
        let closes = byte == b'}' && open == 0;
        open = match byte {
            b'{' => open + 1,
            b'}' => open.saturating_sub(1),
            _ => open,
        };
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(key: &str) -> Option<String> {
        let known = [
            ("foo", "bar"),
            ("bar", "deep"),
            ("rec", "<${foo}>"),
            ("a", "${b}"),
            ("b", "${a}"),
            ("esc", "\\${foo}"),
            ("x:y", "whole"),
        ];
        let (many, next) = (key.strip_prefix("many"), |n: &str| n.parse::<u32>().ok().filter(|n| *n < 60));
        if let Some(n) = many.and_then(next) {
            return Some(format!("${{many{}}}${{many{}}}", n + 1, n + 1));
        }
        known.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn placeholders_are_resolved_and_unknown_ones_stay() {
        for (text, expected) in [
            ("x ${foo} y", "x bar y"),
            ("${ foo }", "bar"),
            ("${nope}", "${nope}"),
            ("${nope:}", ""),
            ("${nope:fallback}", "fallback"),
            ("${nope:a:b}", "a:b"),
            ("${nope:${foo}}", "bar"),
            ("${nope:{}}", "{}"),
            ("${x:y}", "whole"),
            ("${${foo}}", "deep"),
            ("${rec}${rec}", "<bar><bar>"),
            ("\\${foo}", "${foo}"),
            ("\\\\${foo}", "${foo}"),
            ("${esc}", "${foo}"),
            ("${foo", "${foo"),
            ("$foo {foo}", "$foo {foo}"),
            ("${no${foo}}", "${no${foo}}"),
        ] {
            assert_eq!(Resolver::new(&look_up).resolve(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn circles_and_texts_that_grow_are_refused() {
        let status = |text: &str| Resolver::new(&look_up).resolve(text).unwrap_err().status;
        assert_eq!(status("${a}"), 400);
        assert_eq!(status("${many1}"), 500);
        assert_eq!(status(&format!("{}{}", "${".repeat(100_000), "}".repeat(100_000))), 500);
    }
}
