//! Texts that are read, texts that are refused, and the limits.

use super::*;

fn one(text: &str) -> Node {
    let mut all = documents(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn text(text: &str) -> Node {
    Node::Scalar(Scalar::text(text))
}

fn map<const N: usize>(entries: [(&str, Node); N]) -> Node {
    Node::Map(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect())
}

#[test]
fn quotes_and_tags_decide_what_a_scalar_is() {
    for (written, read) in [
        ("12", Node::Scalar(Scalar::Number("12".into()))),
        ("'12'", text("12")),
        ("\"yes\"", text("yes")),
        ("!!str 12", text("12")),
        ("!!int '12'", Node::Scalar(Scalar::Number("12".into()))),
        ("!!bool 'no'", Node::Scalar(Scalar::Bool(false))),
        ("!!null x", Node::Null),
        ("2026-11-20", text("2026-11-20")),
        ("|\n  a\n  b\n", text("a\nb\n")),
        ("|\n  a\n  b", text("a\nb")),
        (">-\n  a\n  b\n", text("a b")),
    ] {
        assert_eq!(one(&format!("k: {written}")), map([("k", read)]), "{written}");
    }
}

#[test]
fn aliases_and_merges_are_resolved_and_own_keys_win() {
    let merged = one("b: &b {x: 1, y: 2}\nc: {<<: *b, y: own}\nd: {<<: [{x: first}, *b]}");
    let Node::Map(merged) = merged else { panic!("a map") };
    let number = |n: &str| Node::Scalar(Scalar::Number(n.into()));
    assert_eq!(merged["c"], map([("y", text("own")), ("x", number("1"))]));
    assert_eq!(merged["d"], map([("x", text("first")), ("y", number("2"))]));
}

#[test]
fn documents_without_a_node_are_left_out() {
    for (written, count) in [
        ("", 0),
        ("# only\n", 0),
        ("---\n", 0),
        ("a: 1\n---\nb: 2\n", 2),
        ("---\n# no\n---\nb: 2\n", 1),
        ("b: 2\n---\n''\n", 1),
    ] {
        assert_eq!(documents(written).unwrap().len(), count, "{written:?}");
    }
}

#[test]
fn marks_at_the_beginning_and_line_ends_of_windows_are_fine() {
    assert_eq!(one("\u{feff}a: b\r\nc: d\r\n"), map([("a", text("b")), ("c", text("d"))]));
}

#[test]
fn what_snakeyaml_refuses_is_refused_with_its_line() {
    for (written, line, why) in [
        ("foo:\n  bar: spam\n    bucket: wham\n", 3, ""),
        ("a: b: c\n", 1, ""),
        ("a: 1\nb: 2\na: 3\n", 3, "a is a duplicate"),
        ("a: 1\n'a': 2\n", 2, "a is a duplicate"),
        ("1: x\n01: y\n", 2, "[1] is a duplicate"),
        ("a: 1\nk: !!java.lang.String x\n", 2, "tag"),
        ("k: !x y\n", 1, "tag"),
        ("k: !x {a: b}\n", 1, "tag"),
        ("a:\n\tb: c\n", 2, ""),
        ("a:\tb\n", 1, ""),
        ("a:\t- b\n", 1, ""),
        ("a: b\n\t\nc: d\n", 3, "tab"),
        ("a: b\n\t# c\n", 2, "tab"),
        ("\t\n", 1, "tab"),
        ("k: [1,\t2]\n", 1, "tab"),
        ("~: x\n", 1, "null"),
        ("? [a]\n: x\n", 1, "list or a map"),
        ("a: &a [*a]\n", 1, "inside"),
        ("a: *b\n", 1, ""),
        ("<<: x\n", 1, "<<"),
        ("a: 1\nb: \u{1}\n", 2, "U+0001"),
        ("a: [1, 2\n", 2, ""),
        ("!!int x", 1, "not a valid int"),
    ] {
        let error = documents(written).expect_err(written);
        assert!(error.reason.contains(why), "{written:?}: {error}");
        assert!(error.line.abs_diff(line) <= 1, "{written:?}: {error}");
    }
}

#[test]
fn tabs_in_texts_and_after_values_are_fine() {
    assert_eq!(one("a: 'x\ty'\nb: z\t\n# c\td\n"), map([("a", text("x\ty")), ("b", text("z"))]));
}

#[test]
fn deep_texts_are_refused() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(documents(&nested(MAX_DEPTH)).is_ok());
    for depth in [MAX_DEPTH + 1, 100_000] {
        let error = documents(&nested(depth)).unwrap_err();
        assert!(error.reason.contains("deep") || error.reason.contains("recursion"), "{error}");
    }
    let chain: String = (1..100).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)).collect();
    assert!(documents(&format!("a0: &a0 [x]\n{chain}")).unwrap_err().reason.contains("deeper"));
}

#[test]
fn aliases_that_multiply_are_refused() {
    let lines = (1..30).map(|n| format!("a{n}: &a{n} [*a{m},*a{m},*a{m},*a{m}]\n", m = n - 1));
    let bomb = format!("a0: &a0 [x,x,x,x]\n{}", lines.collect::<String>());
    assert!(documents(&bomb).unwrap_err().reason.contains("nodes"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(900_000), "*a,".repeat(40_000));
    assert!(documents(&long).unwrap_err().reason.contains("bytes"));
    let merges = (1..30).map(|n| format!("m{n}: &m{n}\n  <<: *m{}\n  k{n}: [*m{}]\n", n - 1, n - 1));
    let merges = format!("m0: &m0 {{a: [x,x,x,x]}}\n{}", merges.collect::<String>());
    assert!(documents(&merges).is_err());
}

#[test]
fn anchors_in_each_other_are_counted_with_what_they_keep() {
    let anchors: String = (0..MAX_DEPTH - 2).map(|n| format!("&a{n} [")).collect();
    let nested = |ones: usize| format!("a: {anchors}{}1{}", "1,".repeat(ones), "]".repeat(MAX_DEPTH - 2));
    assert!(documents(&nested(1_000)).is_ok());
    let error = documents(&nested(200_000)).unwrap_err();
    assert!(error.reason.contains("nodes"), "{error}");
}

#[test]
fn pairs_of_escapes_in_json_are_one_character() {
    for (written, read) in [
        (r#"{"k": "\ud83d\ude00"}"#, "\u{1f600}"),
        (r#"{"k": "a\uD83D\uDE00b\u00e5\\ud83d\/\ud834\udd1e"}"#, "a\u{1f600}b\u{e5}\\ud83d/\u{1d11e}"),
        ("k: '\\ud83d\\ude00'", "\\ud83d\\ude00"),
        ("k: \\ud83d\\ude00", "\\ud83d\\ude00"),
    ] {
        assert_eq!(one(written), map([("k", text(read))]), "{written}");
    }
    for written in [
        r#"{"k": "\ud83d"}"#,
        r#"{"k": "\ude00\ud83d"}"#,
        r#"{"k": "\ud83d\u0041"}"#,
        r#"["\ud83d\ude00", "\ud83d"]"#,
    ] {
        let error = documents(written).expect_err(written);
        assert!(error.reason.contains(INVALID_ESCAPE), "{written}: {error}");
    }
}
