//! Placeholders, in tables.

use super::*;

fn look_up(key: &str) -> Option<String> {
    let values = [
        ("port", "6767"),
        ("host", "h"),
        ("url", "http://${host}:${port}"),
        ("which", "port"),
        ("a", "${b}"),
        ("b", "${a}"),
        ("self", "x${self}"),
        ("empty", ""),
        ("x:y", "never"),
    ];
    values.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
}

#[test]
fn a_placeholder_stands_for_a_key_or_for_its_default() {
    for (text, expected) in [
        ("plain", "plain"),
        ("${port}", "6767"),
        ("a ${host} b ${port} c", "a h b 6767 c"),
        ("${url}/x", "http://h:6767/x"),
        ("${nothing:5}", "5"),
        ("${nothing:}", ""),
        ("${nothing:http://x:1}", "http://x:1"),
        ("${nothing:${port}}", "6767"),
        ("${nothing:${none:deep}}", "deep"),
        ("${${which}}", "6767"),
        ("${empty:default}", ""),
        ("\\${port}", "${port}"),
        ("a\\${port} ${port}", "a${port} 6767"),
        ("${port", "${port"),
        ("$port {port} $$", "$port {port} $$"),
        ("ü${host}ü", "ühü"),
    ] {
        assert_eq!(resolve(text, &look_up), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn one_that_stands_for_nothing_or_for_itself_is_named() {
    for (text, says) in [
        ("${nothing}", "${nothing} stands for nothing: set nothing, or write ${nothing:DEFAULT}"),
        ("${a}", "${a} leads to itself"),
        ("${self}", "${self} leads to itself"),
    ] {
        let why = resolve(text, &look_up).unwrap_err();
        assert!(why.contains(says), "{text}: {why}");
    }
}

#[test]
fn a_few_lines_that_multiply_are_refused_in_bounded_time() {
    // Each key stands for the next one twice: a million million times in all.
    let doubling = |key: &str| {
        let n: u32 = key.parse().ok()?;
        Some(if n < 30 { format!("${{{0}}}${{{0}}}", n + 1) } else { String::new() })
    };
    assert!(resolve("${0}", &doubling).unwrap_err().contains("too many others"));
    let long = |_: &str| Some("x".repeat(60_000));
    assert!(resolve("${a}${b}${c}", &long).unwrap_err().contains("longer than"));
    let endless = |key: &str| Some(format!("${{{key}x}}"));
    assert!(resolve("${a}", &endless).unwrap_err().contains("nested deeper"));
    assert!(resolve(&"${".repeat(50_000), &|_| None).is_ok());
    assert!(resolve(&format!("{}x{}", "${".repeat(20_000), "}".repeat(20_000)), &|_| None).is_err());
}
