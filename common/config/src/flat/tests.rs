//! Keys, lists and trees, in tables.

use config::{File, FileFormat, Source as _};
use serde_json::{Value as Json, json};

use properties::merge;

use super::*;

fn flat(yaml: &str) -> Flat {
    let tree =
        Value::from(File::from_str(yaml, FileFormat::Yaml).collect().unwrap()).try_deserialize().unwrap();
    flatten(tree, "file.yml", |value: Value| value.kind).unwrap()
}

/// `key=value` of each, as one text.
fn text(flat: &Flat) -> String {
    let pairs = flat.iter().map(|(key, value)| format!("{key}={}", value.kind));
    pairs.collect::<Vec<_>>().join(" ")
}

fn json(values: Map<String, Value>) -> Json {
    Value::new(None, values).try_deserialize().unwrap()
}

#[test]
fn nested_values_become_flat_keys_as_springs_server_writes_them() {
    for (yaml, expected) in [
        ("a: {b: {c: 1}}", "a.b.c=1"),
        ("l: [1, {x: 2}, [3]]", "l[0]=1 l[1].x=2 l[2][0]=3"),
        ("a: []\nb: null\nc: {}\nd: ''", "a= b= d="),
        ("logging: {level: {'[org.x]': info}}", "logging.level[org.x]=info"),
        ("a.b: 1", "a.b=1"),
    ] {
        assert_eq!(text(&flat(yaml)), expected, "{yaml}");
    }
}

#[test]
fn a_stronger_layer_wins_key_by_key_and_a_list_is_replaced_as_a_whole() {
    for (weak, strong, expected) in [
        ("a: 1\nb: 1", "b: 2\nc: 2", "a=1 b=2 c=2"),
        ("a: {x: 1, y: 1}", "a: {y: 2}", "a.x=1 a.y=2"),
        ("l: [1, 2, 3]", "l: [4]", "l[0]=4"),
        ("l: [{n: 1, v: 1}, {n: 2}]", "l: [{n: 3}]", "l[0].n=3"),
        ("l: [1, 2]", "l: []", "l="),
        ("l: []", "l: [1]", "l[0]=1"),
        ("l: text", "l: [1]", "l[0]=1"),
        ("o: {db: {x: 1}}\nod: 1", "o: text", "o=text od=1"),
        ("o: text\nod: 1", "o: {db: {x: 1}}", "o.db.x=1 od=1"),
        ("o: {l: [1]}", "o: text", "o=text"),
        ("o: {x: 1}", "o: [1]", "o[0]=1"),
        ("a: {l: [1, 2]}\nal: [5]", "a: {l: [3]}", "a.l[0]=3 al[0]=5"),
    ] {
        assert_eq!(text(&merge([flat(weak), flat(strong)])), expected, "{weak} and {strong}");
    }
}

#[test]
fn a_tree_comes_back_from_flat_keys_with_the_origin_of_each() {
    let yaml = "accounts: [{id: '7', vip: true}, {id: '8'}]\nm: [[1, 2], [3]]\nn: {a: {b: x}}\ne: []";
    let values = tree(&flat(yaml), &["e"]).unwrap();
    assert_eq!(values["accounts"].origin(), Some("file.yml"));
    let expected = json!({
        "accounts": [{"id": "7", "vip": true}, {"id": "8"}],
        "m": [[1, 2], [3]],
        "n": {"a": {"b": "x"}},
        "e": [],
    });
    assert_eq!(json(values), expected);
}

#[test]
fn the_eleventh_entry_of_a_list_comes_after_the_tenth() {
    let entries = (0..12).map(|n| (format!("l[{n}]"), Value::from(n))).collect();
    assert_eq!(json(tree(&entries, &[]).unwrap())["l"], json!((0..12).collect::<Vec<_>>()));
}

#[test]
fn what_cannot_be_a_tree_is_named_by_its_key_and_takes_no_room() {
    let deep = format!("a{}", ".b".repeat(1000));
    for (keys, says) in [
        (&["l[0]", "l[2]"][..], "l: the key l[2] comes after a hole in its list, where [1] is missing"),
        (&["l[4000000000]"], "l: the key l[4000000000] comes after a hole in its list, where [0] is missing"),
        (&["a", "a.b"], "a: the key a"),
        (&["a[0]", "a.b"], "a: the key a"),
        (&["a[0"], "a: the key a[0 cannot be nested"),
        (&[&deep], "is deeper than"),
    ] {
        let flat = keys.iter().map(|key| ((*key).to_owned(), Value::from("x"))).collect();
        let why = tree(&flat, &[]).unwrap_err();
        assert!(why.to_string().contains(says), "{keys:?}: {why}");
    }
    let deep =
        (0..100).fold(Value::from("x"), |inner, _| Value::from(Map::from_iter([("a".to_owned(), inner)])));
    let tree = Value::from(Map::from_iter([("k".to_owned(), deep)])).try_deserialize().unwrap();
    let why = flatten(tree, "file.yml", |value: Value| value.kind).unwrap_err();
    assert!(why.starts_with("k: nested deeper than"), "{why}");
}
