//! Keys and trees, in tables.

use super::*;

/// The tree of these keys, each with the value `x`, in the notation of JSON.
fn tree(keys: &[&str], nesting: Nesting) -> Result<String, NestError> {
    let entries = keys.iter().map(|key| (*key, Node::Scalar("x")));
    nest(entries, nesting).map(|tree| text(&Node::Map(tree)))
}

fn failed(key: &str, reason: NestReason) -> Result<String, NestError> {
    Err(NestError { key: key.into(), reason })
}

fn text(node: &Node<&str>) -> String {
    match node {
        Node::Null => "null".into(),
        Node::Scalar(value) => (*value).into(),
        Node::List(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(",")),
        Node::Map(map) => {
            let entries = map.iter().map(|(name, node)| format!("{name}:{}", text(node)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn keys_become_one_tree_for_both() {
    for nesting in [Nesting::Strict, Nesting::Lenient] {
        for (keys, expected) in [
            (&["a.b.c", "a.d", "e"][..], "{a:{b:{c:x},d:x},e:x}"),
            (&["l[0]", "l[1].n", "l[2][0]"], "{l:[x,{n:x},[x]]}"),
            (&[], "{}"),
        ] {
            assert_eq!(tree(keys, nesting).as_deref(), Ok(expected), "{keys:?} {nesting:?}");
        }
    }
}

#[test]
fn a_list_may_come_in_any_order_for_the_client() {
    let keys: Vec<_> = (0..12_000).map(|n| format!("l[{n}]")).collect();
    let mut keys: Vec<_> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(tree(&keys, Nesting::Strict).unwrap().matches('x').count(), 12_000);
}

#[test]
fn for_the_client_keys_that_are_no_tree_are_errors_that_name_the_key() {
    let deep = format!("a{}", ".b".repeat(1000));
    for (keys, key, reason) in [
        (&["l[0]", "l[2]"][..], "l[2]", NestReason::Hole(1)),
        (&["l[4000000000]"], "l[4000000000]", NestReason::Hole(0)),
        (&["a.b", "a"], "a.b", NestReason::Conflict),
        (&["a[0]", "a.b"], "a[0]", NestReason::Conflict),
        (&["a.b", "a[b]"], "a[b]", NestReason::Conflict),
        (&["a[0"], "a[0", NestReason::InvalidKey),
        (&["a..b"], "a..b", NestReason::InvalidKey),
        (&["[0]"], "[0]", NestReason::InvalidKey),
        (&[&deep], &deep, NestReason::TooDeep),
    ] {
        assert_eq!(tree(keys, Nesting::Strict), failed(key, reason), "{keys:?}");
    }
}

#[test]
fn names_in_brackets_keep_their_dots_for_the_client_and_their_brackets_for_the_server() {
    let keys = ["level[org.x]", "level[root]"];
    assert_eq!(tree(&keys, Nesting::Strict).unwrap(), "{level:{org.x:x,root:x}}");
    assert_eq!(tree(&keys[1..], Nesting::Lenient).unwrap(), "{level[root]:x}");
    assert_eq!(tree(&["a[0][some.name]"], Nesting::Strict).unwrap(), "{a:[{some.name:x}]}");
}

#[test]
fn the_servers_view_shows_what_it_can() {
    for (keys, expected) in [
        (&["a.b[0].c", "a.b[2].c"][..], "{a:{b:[{c:x},null,{c:x}]}}"),
        (&["a", "a.b", "a.c.d"], "{a:x,a.b:x,a.c:{d:x}}"),
        (&["a.b", "a"], "{a:x}"),
        (&["a."], "{a:{:x}}"),
    ] {
        assert_eq!(tree(keys, Nesting::Lenient).as_deref(), Ok(expected), "{keys:?}");
    }
    for key in ["[0]", "a..b", ".a", "a[-1]", "a[0]x", "a[0][x]"] {
        assert_eq!(tree(&[key], Nesting::Lenient), failed(key, NestReason::InvalidKey));
    }
    let huge = "a[99999999]";
    assert_eq!(tree(&[huge], Nesting::Lenient), failed(huge, NestReason::TooManyHoles));
}
