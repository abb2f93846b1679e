//! Tests of which blocks are quotations, and of their comparison with the code.

use super::{Quote, quotes};

const CODE: &str = "/// Says so.
#[must_use]
pub fn one(
    x: u8,
) -> u8 {
    let y = x;

    y
}

impl Two {
    pub const THREE: u8 = 3;

    async fn four(&self) {
        five();
    }
}
";
const YAML: &str = "# Above.\nservices:\n  one:\n    # Inside.\n    key: 1\n  two:\n    key: 2\n";

#[test]
fn a_quotation_is_true_when_its_lines_stand_in_the_item_it_names() {
    let fault = |source: &str, lines: &str| {
        let quote = Quote { line: 1, source: Some(source), lines: lines.lines().collect() };
        quote.fault(|path| if path == "a.rs" { CODE.into() } else { YAML.into() })
    };
    for (source, lines, expected) in [
        ("a.rs", "let y = x;", true),
        ("a.rs", "let y = 1;", false),
        ("a.rs#one", "let y = x;\n\ny", true),
        ("a.rs#one", "let y = x;\ny", false),
        ("a.rs#one", "/// Says so.\n// ...\npub fn one(\n    // ...\n    y\n}", true),
        ("a.rs#one", "y\n}\n// ...\nlet y = x;", false),
        ("a.rs#one", "five();", false),
        ("a.rs#four", "async fn four(&self) {\n    five();\n}", true),
        ("a.rs#four", "let y = x;", false),
        ("a.rs#THREE", "pub const THREE: u8 = 3;", true),
        ("a.rs#impl Two", "impl Two {\n    // ...\n    async fn four(&self) {", true),
        ("a.rs#six", "five();", false),
        ("b.yml#one", "one:\n  # ...\n  key: 1", true),
        ("b.yml#one", "key: 2", false),
        ("b.yml", "key: 2", true),
    ] {
        assert_eq!(fault(source, lines).is_none(), expected, "{source} {lines:?} {:?}", fault(source, lines));
    }
}

#[test]
fn code_says_where_it_is_from_and_what_is_typed_need_not() {
    let page = "<!-- code: a.rs#one -->\n```rust\nlet y = x;\n```\n\n```console\n$ ls\n```\n\n<!-- file: b.rs -->\n\
                ```rust\nfn b() {}\n```\n\n```rust\nfn c() {}\n```\n";
    let found: Vec<_> = quotes(page).iter().map(|quote| (quote.line, quote.source)).collect();
    assert_eq!(found, [(2, Some("a.rs#one")), (15, None)]);
    assert_eq!(quotes(page)[0].lines, ["let y = x;"]);
}
