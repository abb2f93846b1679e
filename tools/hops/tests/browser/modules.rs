//! The page's modules that need no browser, tested by Node.js.

use std::process::Command;

use e2e::{environment, repository};

#[test]
fn the_modules_of_the_page_pass_their_own_tests() {
    if !environment::has_programs("the tests of tools/live/page", &["node"]) {
        return;
    }
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=tap", "tests/"])
        .current_dir(repository::root().join("tools/live/page"));
    let output = e2e::python::run(&mut node);
    let passed = output.lines().find_map(|line| line.strip_prefix("# pass ")).unwrap();
    assert!(passed.parse::<u32>().unwrap() > 20, "{output}");
}
