//! Texts as SnakeYAML writes them.

use indexmap::IndexMap;

use super::*;

fn dumped(value: &str) -> String {
    let map = IndexMap::from([("k".to_owned(), Node::Scalar(Scalar::text(value)))]);
    yaml(&Node::Map(map)).strip_prefix("k: ").unwrap().to_owned()
}

#[test]
fn a_text_is_quoted_when_it_would_read_back_as_something_else() {
    for (text, expected) in [
        ("plain text", "plain text"),
        ("it's", "it's"),
        ("a:b", "a:b"),
        ("a#b", "a#b"),
        ("-a", "-a"),
        ("\u{e5}\u{1f600}", "\u{e5}\u{1f600}"),
        ("12", "'12'"),
        ("007", "'007'"),
        ("09", "'09'"),
        ("true", "'true'"),
        ("yes", "'yes'"),
        ("null", "'null'"),
        ("", "''"),
        ("~", "'~'"),
        ("2026-11-20", "'2026-11-20'"),
        ("2026-11-20 10:11:12.5 +01:00", "'2026-11-20 10:11:12.5 +01:00'"),
        ("12:30:45", "'12:30:45'"),
        ("a: b", "'a: b'"),
        ("a:", "'a:'"),
        ("# x", "'# x'"),
        ("a #b", "'a #b'"),
        (" lead", "' lead'"),
        ("trail ", "'trail '"),
        ("@at", "'@at'"),
        ("{x}", "'{x}'"),
        ("- a", "'- a'"),
        ("-", "'-'"),
        ("? a", "'? a'"),
        ("--- a", "'--- a'"),
        ("<<", "'<<'"),
        ("=", "'='"),
        ("==", "=="),
        ("=a", "=a"),
        ("'a'", "'''a'''"),
        ("a\tb", "\"a\\tb\""),
        ("a\r\n", "\"a\\r\\n\""),
        ("\u{1}\"\\\u{2028}", "\"\\x01\\\"\\\\\\L\""),
    ] {
        assert_eq!(dumped(text), format!("{expected}\n"), "{text:?}");
    }
}

#[test]
fn several_lines_are_a_literal_block() {
    for (text, expected) in [
        ("l1\nl2\n", "|\n  l1\n  l2\n"),
        ("l1\nl2", "|-\n  l1\n  l2\n"),
        ("l1\n\nl2\n\n", "|+\n  l1\n\n  l2\n\n"),
        ("  l1\nl2\n", "|2\n    l1\n  l2\n"),
        ("\nl1", "|2-\n\n  l1\n"),
        ("a\nb ", "'a\n\n  b '\n"),
        ("a \nb", "\"a \\nb\"\n"),
    ] {
        assert_eq!(dumped(text), expected, "{text:?}");
    }
}

#[test]
fn long_texts_are_folded_after_80_columns() {
    let words = "word ".repeat(40);
    let plain = dumped(words.trim_end());
    let lines: Vec<_> = plain.lines().collect();
    assert_eq!(lines[0], "word ".repeat(16).trim_end());
    assert!(lines[1..].iter().all(|line| line.starts_with("  word")), "{plain}");
    assert!(dumped(&words).starts_with('\'') && dumped(&words).lines().count() == 3);
    assert_eq!(dumped(&"x".repeat(200)), format!("{}\n", "x".repeat(200)));
    assert!(dumped(&format!("\t{words}")).contains("word\\\n  \\ word"));
}

#[test]
fn collections_are_blocks_and_dashes_stand_below_their_key() {
    let text = "a:\n  b:\n  - 1\n  - c: d\n    e:\n    - - x\n      - y\n    - []\n  f: {}\ng: null\n'1': yes it is\n";
    let tree = crate::yaml::documents(text).unwrap().remove(0);
    assert_eq!(yaml(&tree), text);
}

#[test]
fn keys_that_do_not_fit_before_a_colon_have_a_line_of_their_own() {
    for key in ["", "a\nb", &"k".repeat(200)] {
        let tree = Node::Map(IndexMap::from([(key.to_owned(), Node::Scalar(Scalar::text("v")))]));
        let text = yaml(&tree);
        assert!(text.starts_with("? "), "{text}");
        assert_eq!(crate::yaml::documents(&text).unwrap(), [tree]);
    }
}
