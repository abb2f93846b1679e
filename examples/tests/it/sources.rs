//! Rules for the programs' source texts: each is short, and its header says what to type.

use std::{fs, path::Path};

#[test]
fn each_program_is_short_and_says_what_to_type() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (readme, page) = (
        fs::read_to_string(root.join("README.md")).unwrap(),
        fs::read_to_string(root.join("../docs/PATTERNS.md")).unwrap(),
    );
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(root.join("src/bin")).unwrap() {
        let path = entry.unwrap().path();
        let (name, text) = (path.file_stem().unwrap().to_str().unwrap(), fs::read_to_string(&path).unwrap());
        assert!(text.lines().count() <= 60, "{name} has {} lines", text.lines().count());
        assert!(text.starts_with(&format!("//! {name}: ")), "{name}: its header begins with its name");
        assert!(text.contains(&format!("cargo run --bin {name}")), "{name}: its header says what to type");
        assert!(
            text.contains(&format!("include_str!(\"{name}.rs\")")),
            "{name}: --help prints another header"
        );
        let target = format!("[[bin]]\nname = \"{name}\"\ntest = false\n");
        assert!(manifest.contains(&target), "Cargo.toml lists {name}");
        for (page, text) in [("README.md", &readme), ("docs/PATTERNS.md", &page)] {
            assert!(text.contains(&format!("`{name}`")), "{page} does not name {name}");
        }
        count += 1;
    }
    assert!(count >= 20, "{count}");
    let python = fs::read_to_string(root.join("python/receive.py")).unwrap();
    let lines = python.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 15, "receive.py has {lines} lines");
}
