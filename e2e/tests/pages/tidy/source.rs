//! The Rust files of the repository as tokens, without what exists only in tests.

use std::collections::BTreeSet;

use e2e::repository::{files, read};

/// A word, a literal or a punctuation mark; `::` is one.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Lines on which it stands, counted from 0.
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Outside of comments and of what exists only in tests.
    pub(crate) tokens: Vec<Token>,
    /// Names of the modules in files of their own that exist only in tests.
    test_modules: Vec<String>,
    /// Lines of what exists only in tests.
    test_lines: usize,
}

impl Source {
    /// Lines outside of what exists only in tests: all, and those with code.
    pub(crate) fn lines(&self) -> [usize; 2] {
        let code: BTreeSet<_> = self.tokens.iter().flat_map(|token| token.first..=token.last).collect();
        [self.text.lines().count() - self.test_lines, code.len()]
    }

    /// Reads the text of a file.
    pub(crate) fn of(path: String, text: String) -> Self {
        let all = tokens(&text);
        let mut source = Self { path, text, tokens: vec![], test_modules: vec![], test_lines: 0 };
        let mut rest = &all[..];
        while let Some(token) = rest.first() {
            let length = if is_for_tests(rest) { item(rest) } else { 0 };
            if length == 0 {
                source.tokens.push(token.clone());
                rest = &rest[1..];
                continue;
            }
            let (tests, after) = rest.split_at(length);
            let last = &tests[length - 1];
            source.test_lines += last.last + 1 - token.first;
            if let [.., keyword, name, end] = tests
                && keyword.text == "mod"
                && end.text == ";"
            {
                source.test_modules.push(name.text.clone());
            }
            rest = after;
        }
        source
    }
}

/// Every Rust file that is compiled into a program or a library, and not only into a test or a benchmark.
pub(crate) fn shipped() -> Vec<Source> {
    let is_candidate = |path: &String| {
        path.ends_with(".rs") && !["tests", "benches"].iter().any(|f| path.split('/').any(|part| part == *f))
    };
    let sources: Vec<_> =
        files().into_iter().filter(is_candidate).map(|path| Source::of(path.clone(), read(path))).collect();
    let of_tests = |source: &Source| {
        let folder = source.path.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/main");
        source.test_modules.iter().map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    let of_tests: Vec<_> = sources.iter().flat_map(of_tests).collect();
    let is_of_tests = |path: &str| {
        let below = |module: &String| path.strip_prefix(module.as_str());
        of_tests.iter().filter_map(below).any(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    sources.into_iter().filter(|source| !is_of_tests(&source.path)).collect()
}

/// Tells whether an attribute begins here that keeps what follows for tests, alone or beside a feature.
fn is_for_tests(tokens: &[Token]) -> bool {
    let begins = |words: &[&str]| {
        tokens.iter().map(|token| token.text.as_str()).take(words.len()).eq(words.iter().copied())
    };
    begins(&["#", "[", "cfg", "(", "test"]) || begins(&["#", "[", "cfg", "(", "any", "(", "test"])
}

/// The number of tokens of an item with its attributes.
fn item(tokens: &[Token]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(token.text.as_str(), ";" | "}") {
            break;
        }
    }
    at
}

fn tokens(text: &str) -> Vec<Token> {
    let (mut found, mut line, mut rest) = (vec![], 0, text);
    while let Some(first) = rest.chars().next() {
        let length = length(rest, first);
        let (token, after) = rest.split_at(length);
        let last = line + token.matches('\n').count();
        let is_comment = token.starts_with("//") || token.starts_with("/*");
        if !first.is_whitespace() && !is_comment {
            found.push(Token { text: token.to_owned(), first: line, last });
        }
        (line, rest) = (last, after);
    }
    found
}

/// The length of the token, blank or comment that a text begins with.
fn length(text: &str, first: char) -> usize {
    let until = |end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    let word = |text: &str| text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until("*/");
    }
    if text.starts_with("::") {
        return 2;
    }
    if first == '\'' {
        let mut after = text.chars().skip(1);
        return match (after.next(), after.next()) {
            (Some('\\'), _) => {
                2 + text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
            }
            (Some(c), Some('\'')) => 2 + c.len_utf8(),
            _ => 1 + word(&text[1..]),
        };
    }
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let after = text.strip_prefix(prefix).map(|after| after.trim_start_matches('#'));
        after.is_some_and(|after| after.starts_with('"'))
    });
    match prefix {
        Some(prefix) if prefix.ends_with('r') => {
            let hashes = text[prefix.len()..].find('"').unwrap_or(0);
            let (open, end) = (prefix.len() + hashes + 1, format!("\"{}", "#".repeat(hashes)));
            text[open..].find(&end).map_or(text.len(), |at| open + at + end.len())
        }
        Some(prefix) if text[prefix.len()..].starts_with('"') => {
            let mut is_escaped = false;
            let open = prefix.len() + 1;
            let end = text[open..].char_indices().find(|(_, c)| {
                let is_end = *c == '"' && !is_escaped;
                is_escaped = *c == '\\' && !is_escaped;
                is_end
            });
            end.map_or(text.len(), |(at, _)| open + at + 1)
        }
        _ if first == '_' || first.is_alphanumeric() => word(text),
        _ => first.len_utf8(),
    }
}

#[test]
fn tokens_are_words_literals_and_marks() {
    let check = |text: &str, expected: &[&str]| {
        let found: Vec<_> = tokens(text).into_iter().map(|token| token.text).collect();
        assert_eq!(found, expected, "{text}");
    };
    check("a::b_1 // c\n+'d'", &["a", "::", "b_1", "+", "'d'"]);
    check("&'a str; '\\''; '\\u{1}' /* x\ny */", &["&", "'a", "str", ";", "'\\''", ";", "'\\u{1}'"]);
    check(r#"" \" // " b"x" r"\""#, &[r#"" \" // ""#, r#"b"x""#, r#"r"\""#]);
    check("r##\"a \"# b\"## #[c]", &["r##\"a \"# b\"##", "#", "[", "c", "]"]);
}
