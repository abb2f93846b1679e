//! From a file's bytes to its documents, each as flat keys.

use indexmap::IndexMap;
use properties::{FlattenError, flatten};

use crate::{Node, ParseError, Properties, Scalar, properties_file, yaml};

/// Returns the documents of a file, in its order. The path's ending decides on the format.
///
/// # Errors
/// The first mistake in the file.
pub fn documents(path: &str, bytes: &[u8]) -> Result<Vec<Properties>, ParseError> {
    if path.ends_with(".properties") {
        return properties_file::documents(bytes);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        ParseError { line, reason: "is not UTF-8".into() }
    })?;
    let documents = yaml::documents(text)?.into_iter();
    documents.map(|node| properties_of(node).map_err(|e| ParseError::of_file(e.to_string()))).collect()
}

/// Returns the keys and values of a tree. A tree that is not a map has the name `document`.
///
/// # Errors
/// The tree is too deep, or its keys are too long.
pub fn properties_of(node: Node) -> Result<Properties, FlattenError> {
    let tree = match node {
        Node::Map(map) => map,
        node => IndexMap::from([("document".to_owned(), node)]),
    };
    flatten(tree, &Scalar::text(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::documents;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let flat = properties_of(documents(text).unwrap().remove(0)).unwrap();
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
    fn a_file_has_a_thousand_documents_at_most() {
        for (path, document, empty) in
            [("a.yml", "---\na: 1\n", "---\n"), ("a.properties", "#---\na=1\n", "#---\n")]
        {
            let read = |count: usize, empties: usize| {
                let text = document.repeat(count) + &empty.repeat(empties);
                super::documents(path, text.as_bytes()).map(|documents| documents.len())
            };
            assert_eq!(read(1000, 3000), Ok(1000), "{path}: empty documents do not count");
            let error = read(1001, 0).unwrap_err();
            assert!(error.reason.starts_with("more than 1000 documents"), "{path}: {error}");
            assert!((2000..=2003).contains(&error.line), "{path}: {error}");
        }
    }

    #[test]
    fn long_keys_over_many_values_are_refused() {
        let level = |n: usize| format!("{}{}:\n", " ".repeat(n), "k".repeat(1000));
        let text =
            format!("{}{}[{}]\n", (0..40).map(level).collect::<String>(), " ".repeat(40), "1,".repeat(500));
        let error = super::documents("a.yml", text.as_bytes()).unwrap_err();
        assert!(error.reason.contains("bytes"), "{error}");
    }
}
