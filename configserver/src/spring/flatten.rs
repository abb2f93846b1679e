//! From a tree to keys with values: `a: {b: [c]}` is `a.b[0]: c`.

use super::{Properties, Scalar, yaml::Node};

/// How many bytes the keys of a document have, all together: long names in many places multiply.
const MOST_KEYS: usize = 16 * 1024 * 1024;

/// The keys and values of a document. What is no map at its top is found under `document`.
///
/// # Errors
/// Keys that are too long all together.
pub fn flatten(node: Node) -> Result<Properties, String> {
    let mut flat = Flat { properties: Properties::new(), size: 0 };
    let mut path = String::new();
    match node {
        Node::Map(_) => flat.add(&mut path, node)?,
        node => flat.below(&mut path, "document", node)?,
    }
    Ok(flat.properties)
}

struct Flat {
    properties: Properties,
    size: usize,
}

impl Flat {
    fn add(&mut self, path: &mut String, node: Node) -> Result<(), String> {
        match node {
            Node::Map(map) => map.into_iter().try_for_each(|(key, node)| self.below(path, &key, node)),
            Node::List(list) if list.is_empty() => self.put(path, Scalar::text("")),
            Node::List(list) => {
                let mut items = list.into_iter().enumerate();
                items.try_for_each(|(n, node)| self.below(path, &format!("[{n}]"), node))
            }
            Node::Null => self.put(path, Scalar::text("")),
            Node::Scalar(value) => self.put(path, value),
        }
    }

    fn below(&mut self, path: &mut String, key: &str, node: Node) -> Result<(), String> {
        let length = path.len();
        if length > 0 && !key.starts_with('[') {
            path.push('.');
        }
        path.push_str(key);
        let done = self.add(path, node);
        path.truncate(length);
        done
    }

    fn put(&mut self, path: &str, value: Scalar) -> Result<(), String> {
        self.size += path.len();
        if self.size > MOST_KEYS {
            return Err(format!("its keys have more than {MOST_KEYS} bytes all together"));
        }
        self.properties.insert(path.to_owned(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spring::yaml::documents;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let flat = flatten(documents(text).unwrap().remove(0)).unwrap();
        let flat: Vec<_> = flat.iter().map(|(key, value)| (key.as_str(), value.to_string())).collect();
        let expected: Vec<_> = expected.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        assert_eq!(flat, expected, "{text}");
    }

    #[test]
    fn trees_become_keys() {
        check("a: {b: {c: d}}\ne.f: g", &[("a.b.c", "d"), ("e.f", "g")]);
        check(
            "l: [x, y]\no: [{n: 1, m: [p]}]\nm: [[1, 2], [3]]",
            &[
                ("l[0]", "x"),
                ("l[1]", "y"),
                ("o[0].n", "1"),
                ("o[0].m[0]", "p"),
                ("m[0][0]", "1"),
                ("m[0][1]", "2"),
                ("m[1][0]", "3"),
            ],
        );
    }

    #[test]
    fn keys_that_are_no_texts_stand_in_brackets() {
        check("a: {1: x, true: y, 1.5: z}", &[("a[1]", "x"), ("a[true]", "y"), ("a[1.5]", "z")]);
        check("1: {b: x}", &[("[1].b", "x")]);
        check("logging: {level: {'[org.x]': debug}}", &[("logging.level[org.x]", "debug")]);
        check("{x y: 1, /path: 2, A_b-c: 3}", &[("x y", "1"), ("/path", "2"), ("A_b-c", "3")]);
    }

    #[test]
    fn nothing_is_an_empty_text_and_an_empty_map_is_not_there() {
        check(
            "a: ~\nb:\nc: ''\nd: []\ne: {}\nf: [~]",
            &[("a", ""), ("b", ""), ("c", ""), ("d", ""), ("f[0]", "")],
        );
    }

    #[test]
    fn what_is_no_map_is_the_document() {
        check("blah", &[("document", "blah")]);
        check("- a\n- b: c", &[("document[0]", "a"), ("document[1].b", "c")]);
    }

    #[test]
    fn long_keys_over_many_values_are_refused() {
        let level = |n: usize| format!("{}{}:\n", " ".repeat(n), "k".repeat(1000));
        let text =
            format!("{}{}[{}]\n", (0..40).map(level).collect::<String>(), " ".repeat(40), "1,".repeat(500));
        assert!(flatten(documents(&text).unwrap().remove(0)).unwrap_err().contains("bytes"));
    }
}
