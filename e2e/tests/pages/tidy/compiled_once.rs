//! Third-party crates are compiled once: whatever is built after `cargo hops up` wants the same features of them.

use std::collections::{BTreeMap, BTreeSet};

use super::cargo;

/// Builds after `cargo hops up`: what is typed, the packages that cargo then selects, and the kinds of dependencies.
const BUILDS: [(&str, &[&str], &str); 8] = [
    ("cargo run --bin send", &["--workspace"], SHIPPED),
    ("cargo test --workspace", &["--workspace"], TESTED),
    ("cargo run -p accountservice", &["--package=accountservice"], SHIPPED),
    ("cargo test -p accountservice", &["--package=accountservice"], TESTED),
    ("cargo run -p vipservice", &["--package=vipservice"], SHIPPED),
    ("cargo test -p vipservice", &["--package=vipservice"], TESTED),
    ("cargo run -p configserver", &["--package=configserver"], SHIPPED),
    ("cargo test -p configserver", &["--package=configserver"], TESTED),
];
/// Packages that `cargo hops up` selects.
const UP: &[&str] = &["--workspace", "--exclude=examples"];
const SHIPPED: &str = "--edges=normal,build";
const TESTED: &str = "--edges=normal,build,dev";

/// Crates of which a test or a tool wants features that nobody can ask for elsewhere: small, and with few above them.
const EXCEPTIONS: [&str; 2] = ["hashbrown", "num-traits"];

/// Every third-party crate of a build, by name and version, with its features; a build script may want other ones.
fn features(packages: &[&str], edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let arguments = ["tree", "--locked", "--prefix=none", "--format={p}\t{f}", edges];
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for line in cargo(&[&arguments, packages].concat()).lines() {
        let Some((package, features)) = line.split_once('\t') else { continue };
        if !package.contains(" (/") {
            let features = features.trim_end_matches(" (*)").to_owned();
            found.entry(package.to_owned()).or_default().insert(features);
        }
    }
    found
}

#[test]
fn no_build_after_the_first_wants_other_features_of_a_third_party_crate() {
    let up = features(UP, SHIPPED);
    assert!(up.len() > 100 && up.keys().any(|package| package.starts_with("tokio v")), "{up:?}");
    let mut faults = vec![];
    for (typed, packages, edges) in BUILDS {
        for (package, wanted) in features(packages, edges) {
            let is_exception = EXCEPTIONS.iter().any(|name| package.starts_with(&format!("{name} v")));
            if let Some(built) = up.get(&package)
                && !is_exception
                && !wanted.is_subset(built)
            {
                faults.push(format!(
                    "{typed}: {package} with {wanted:?}, after `cargo hops up` with {built:?}"
                ));
            }
        }
    }
    let advice = "let the workspace's manifest choose the features of the direct dependency that brings them";
    assert!(faults.is_empty(), "compiled twice:\n{}\n{advice}", faults.join("\n"));
}
