//! Placeholders of both sides, in tables.

use super::*;

fn look_up(key: &str) -> Option<String> {
    let known = [
        ("foo", "bar"),
        ("bar", "deep"),
        ("rec", "<${foo}>"),
        ("a", "${b}"),
        ("b", "${a}"),
        ("self", "x${self}"),
        ("esc", "\\${foo}"),
        ("x:y", "whole"),
        ("empty", ""),
        ("port", "6767"),
        ("host", "h"),
        ("url", "http://${host}:${port}"),
    ];
    let (many, next) = (key.strip_prefix("many"), |n: &str| n.parse::<u32>().ok().filter(|n| *n < 60));
    if let Some(n) = many.and_then(next) {
        return Some(format!("${{many{}}}${{many{}}}", n + 1, n + 1));
    }
    known.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
}

fn resolve(text: &str, rules: Rules) -> Result<String, PlaceholderError> {
    Resolver::new(&look_up, rules).resolve(text)
}

#[test]
fn a_placeholder_stands_for_a_key_or_for_its_default() {
    for (text, expected) in [
        ("plain", "plain"),
        ("x ${foo} y", "x bar y"),
        ("${ foo }", "bar"),
        ("${url}/x", "http://h:6767/x"),
        ("${nope:}", ""),
        ("${nope:fallback}", "fallback"),
        ("${nope:a:b}", "a:b"),
        ("${nope:http://x:1}", "http://x:1"),
        ("${nope:${foo}}", "bar"),
        ("${nope:${none:deep}}", "deep"),
        ("${nope:{}}", "{}"),
        ("${foo:${nope}}", "bar"),
        ("${${nope:foo}:c}", "bar"),
        ("${empty:default}", ""),
        ("${x:y}", "whole"),
        ("${${foo}}", "deep"),
        ("${rec}${rec}", "<bar><bar>"),
        ("\\${foo}", "${foo}"),
        ("a\\${foo} ${foo}", "a${foo} bar"),
        ("${esc}", "${foo}"),
        ("${foo", "${foo"),
        ("$foo {foo} $$", "$foo {foo} $$"),
        ("ü${host}ü", "ühü"),
    ] {
        for rules in [Rules::SERVER, Rules::CLIENT] {
            assert_eq!(resolve(text, rules).as_deref(), Ok(expected), "{text} {rules:?}");
        }
    }
}

#[test]
fn one_without_a_value_stays_for_the_server_and_is_named_by_the_client() {
    for (text, key) in [("${nope}", "nope"), ("${no${foo}}", "nobar"), ("${ nope }", "nope")] {
        assert_eq!(resolve(text, Rules::SERVER).as_deref(), Ok(text));
        assert_eq!(resolve(text, Rules::CLIENT), Err(PlaceholderError::Unresolved(key.into())), "{text}");
    }
    let error = resolve("${nope}", Rules::CLIENT).unwrap_err().to_string();
    assert_eq!(error, "the placeholder ${nope} has no value: set nope, or write ${nope:DEFAULT}");
}

#[test]
fn the_server_removes_a_second_backslash() {
    assert_eq!(resolve("\\\\${foo}", Rules::SERVER).as_deref(), Ok("${foo}"));
    assert_eq!(resolve("\\\\${foo}", Rules::CLIENT).as_deref(), Ok("\\${foo}"));
}

#[test]
fn circles_and_texts_that_grow_are_refused() {
    for rules in [Rules::SERVER, Rules::CLIENT] {
        let check = |text: &str, expected: PlaceholderError| {
            assert_eq!(resolve(text, rules), Err(expected), "{rules:?}");
        };
        check("${a}", PlaceholderError::Circular("a".into()));
        check("${self}", PlaceholderError::Circular("self".into()));
        let nested = format!("{}x{}", "${".repeat(100_000), "}".repeat(100_000));
        check(&nested, PlaceholderError::TooDeep(rules.max_depth));
        assert!(resolve(&"${".repeat(50_000), rules).is_ok());
        // Each key stands for the next one twice, and each is longer than the last.
        assert!(resolve("${many1}", rules).is_err());
        let endless = |key: &str| Some(format!("${{{key}x}}"));
        let error = Resolver::new(&endless, rules).resolve("${a}");
        assert_eq!(error, Err(PlaceholderError::TooDeep(rules.max_depth)));
        let half = "x".repeat(rules.max_bytes / 2);
        let long = |_: &str| Some(half.clone());
        let error = Resolver::new(&long, rules).resolve("${a}${b}${c}");
        assert_eq!(error, Err(PlaceholderError::TooLong(rules.max_bytes)));
    }
    let doubling = |key: &str| {
        let n: u32 = key.parse().ok()?;
        Some(if n < 30 { format!("${{{0}}}${{{0}}}", n + 1) } else { String::new() })
    };
    for rules in [Rules::SERVER, Rules::CLIENT] {
        let error = Resolver::new(&doubling, rules).resolve("${0}");
        assert_eq!(error, Err(PlaceholderError::TooMany(rules.max_placeholders)));
    }
}

#[test]
fn of_a_long_key_only_its_beginning_is_quoted() {
    let error = resolve(&format!("${{{}}}", "\u{e5}".repeat(10_000)), Rules::CLIENT).unwrap_err();
    assert_eq!(error.to_string().matches('\u{e5}').count(), 300);
}
