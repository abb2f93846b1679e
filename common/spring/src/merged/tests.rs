//! The three formats, in tables and by properties of random sources.

use proptest::prelude::*;

use super::*;
use crate::{Properties, document::properties_of, yaml::documents};

/// Sources from YAML texts, highest first.
fn from(texts: &[&str]) -> Vec<PropertySource> {
    let flat = |text: &&str| properties_of(documents(text).unwrap().remove(0)).unwrap();
    texts.iter().map(|text| PropertySource { name: "file:x".into(), source: flat(text) }).collect()
}

fn flat(entries: &[(&str, &str)]) -> Vec<PropertySource> {
    let source = entries.iter().map(|(key, value)| ((*key).to_owned(), Scalar::text(*value)));
    vec![PropertySource { name: "file:x".into(), source: source.collect() }]
}

fn text(sources: &[PropertySource], format: Format) -> String {
    answer(sources, format, true).unwrap().1
}

#[test]
fn the_highest_source_wins_and_lists_are_replaced_as_a_whole() {
    let sources = from(&["l: [z]\nk: high", "l: [a, b, c]\nk: low\nm: {x: 1}"]);
    assert_eq!(text(&sources, Format::Properties), "k: high\nm.x: 1\nl[0]: z");
    assert_eq!(text(&sources, Format::Json), r#"{"k":"high","m":{"x":1},"l":["z"]}"#);
    assert_eq!(text(&sources, Format::Yaml), "k: high\nm:\n  x: 1\nl:\n- z\n");
}

#[test]
fn a_list_that_a_higher_source_empties_is_empty() {
    let sources = from(&["l: []", "l: [a, b]\nm: {n: [1]}"]);
    assert_eq!(text(&sources, Format::Json), r#"{"l":[],"m":{"n":[1]}}"#);
    assert_eq!(text(&from(&["l: [a]", "l: x"]), Format::Json), r#"{"l":["a"]}"#);
    assert_eq!(text(&from(&["l: x", "l: [a]"]), Format::Json), r#"{"l":"x"}"#);
}

#[test]
fn nothing_has_a_form_in_each_format() {
    for (format, expected) in [(Format::Properties, ""), (Format::Yaml, "{}\n"), (Format::Json, "{}")] {
        assert_eq!(text(&[], format), expected, "{format:?}");
    }
}

#[test]
fn keys_become_trees() {
    for (entries, expected) in [
        (&[("a.b[0].c", "x"), ("a.b[2].c", "y")][..], r#"{"a":{"b":[{"c":"x"},null,{"c":"y"}]}}"#),
        (&[("m[0][1]", "x")], r#"{"m":[[null,"x"]]}"#),
        (&[("a.test", "e"), ("a.b[hello]", "c")], r#"{"a":{"test":"e","b[hello]":"c"}}"#),
        (&[("a", "1"), ("a.b", "2"), ("a.c.d", "3")], r#"{"a":"1","a.b":"2","a.c":{"d":"3"}}"#),
        (&[("a.b", "2"), ("a", "1")], r#"{"a":"1"}"#),
        (&[("a[]", "x")], r#"{"a[]":"x"}"#),
        (&[("5]", "x")], r#"{"5]":"x"}"#),
        (&[("a.", "x")], r#"{"a":{"":"x"}}"#),
        (&[("spring.profiles", "x"), ("k", "v")], r#"{"k":"v"}"#),
    ] {
        assert_eq!(text(&flat(entries), Format::Json), expected, "{entries:?}");
    }
}

#[test]
fn keys_that_cannot_be_nested_are_refused_and_properties_have_them() {
    let long = "a.".repeat(101);
    let indexes = format!("a{}", "[0]".repeat(2000));
    for (key, status) in [
        ("[0]", 400),
        ("[0].a", 400),
        ("a..b", 400),
        (".a", 400),
        ("a[-1]", 400),
        ("a[0]x", 400),
        ("a[0][x]", 400),
        ("a[99999999]", 500),
        (&long, 500),
        (&indexes, 500),
    ] {
        let sources = flat(&[(key, "x")]);
        assert_eq!(answer(&sources, Format::Json, true).unwrap_err().status, status, "{key}");
        assert_eq!(text(&sources, Format::Properties), format!("{key}: x"));
    }
}

#[test]
fn of_a_long_key_only_its_beginning_is_said() {
    let key = "\u{e5}".repeat(10_000);
    for (key, value) in [(format!("{key}[-1]"), "x"), (format!("{key}{}", "[0]".repeat(200)), "x")] {
        let refusal = answer(&flat(&[(&key, value)]), Format::Json, true).unwrap_err();
        assert_eq!(refusal.message.matches('\u{e5}').count(), 100, "{}", refusal.status);
    }
    let circle = format!("${{{key}}}");
    let refusal = answer(&flat(&[(&key, &circle)]), Format::Json, true).unwrap_err();
    assert_eq!((refusal.status, refusal.message.matches('\u{e5}').count()), (400, 100));
    for text in [
        format!("{key}: 1\n{key}: 2\n"),
        format!("k: !!int {key}\n"),
        format!("k: !{} x\n", "x".repeat(10_000)),
    ] {
        assert!(documents(&text).unwrap_err().reason.chars().count() < 200);
    }
}

#[test]
fn a_document_that_is_no_map_is_shown_as_it_is() {
    assert_eq!(text(&from(&["blah"]), Format::Yaml), "blah\n");
    assert_eq!(text(&from(&["5"]), Format::Yaml), "'5'\n");
    assert_eq!(text(&from(&["[a, b]"]), Format::Yaml), "- a\n- b\n");
    assert_eq!(text(&from(&["blah"]), Format::Json), r#"{"document":"blah"}"#);
}

#[test]
fn placeholders_see_the_highest_value_and_become_texts() {
    let sources = from(&["host: dev", "host: base\nurl: 'http://${host}/'\nn: 5\nr: '${n}'\ne: '\\${host}'"]);
    assert_eq!(
        text(&sources, Format::Json),
        r#"{"host":"dev","url":"http://dev/","n":5,"r":"5","e":"${host}"}"#
    );
    let unresolved = answer(&sources, Format::Properties, false).unwrap().1;
    assert_eq!(unresolved, "host: dev\nurl: http://${host}/\nn: 5\nr: ${n}\ne: \\${host}");
    assert_eq!(answer(&from(&["a: '${b}'\nb: '${a}'"]), Format::Yaml, true).unwrap_err().status, 400);
}

/// A key that can be nested, made so that keys often meet.
fn key() -> impl Strategy<Value = String> {
    "[a-c](\\.[a-c]|\\[[0-2]\\]|\\.x-y){0,3}"
}

fn scalar_value() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        any::<i64>().prop_map(|n| Scalar::Number(n.to_string())),
        "[-a-zA-Z0-9 :#'\"\\\\\n\t,{}\\[\\]&*!|>%@`?.~=_]{0,40}".prop_map(Scalar::Text),
        "([a-z]{1,12} ){10,20}[a-z]?".prop_map(Scalar::Text),
        any::<String>().prop_map(Scalar::Text),
        Just(Scalar::Number("1.0E10".into())),
        Just(Scalar::Number("Infinity".into())),
    ]
}

fn sources(
    key: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = Vec<PropertySource>> {
    let source = prop::collection::vec((key, scalar_value()), 0..8);
    let source = source.prop_map(|entries| PropertySource {
        name: "file:x".into(),
        source: entries.into_iter().collect::<Properties>(),
    });
    prop::collection::vec(source, 0..4)
}

proptest! {
    #[test]
    fn no_sources_make_it_panic(sources in sources(".{0,20}|[a\\[\\].0-9]{0,10}".prop_map(String::from))) {
        for format in [Format::Yaml, Format::Properties, Format::Json] {
            let _ = answer(&sources, format, true);
        }
    }

    #[test]
    fn yaml_and_json_read_back_as_the_same_tree(sources in sources(key().prop_map(String::from).boxed())) {
        let tree = merge(&sources).tree().unwrap();
        let (_, yaml) = answer(&sources, Format::Yaml, false).unwrap();
        let read = documents(&yaml).unwrap_or_else(|e| panic!("{yaml}\n{e}"));
        prop_assert_eq!(&read[0], &tree, "{}", yaml);
        let (_, json) = answer(&sources, Format::Json, false).unwrap();
        let as_json: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert!(as_json.is_object());
    }

    #[test]
    fn any_text_reads_back_as_itself(value in scalar_value(), key in "\\PC{1,30}") {
        let mut written = IndexMap::new();
        written.insert(key, Node::List(vec![Node::Scalar(value.clone()), Node::List(vec![Node::Scalar(value)])]));
        let tree = Node::Map(written);
        let yaml = dump::yaml(&tree);
        let read = documents(&yaml).unwrap_or_else(|e| panic!("{yaml:?}\n{e}"));
        prop_assert_eq!(&read[0], &tree, "{}", yaml);
    }
}
