//! The launcher beside a tool, with a cargo that builds nothing.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// Writes a script. Not by this process: while it writes, a program that another test starts would hold the file open, too, and a file
/// that is open for writing cannot be run.
fn script(path: &Path, text: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
    assert!(Command::new("sh").args(["-c", write]).arg(path).arg(text).status().unwrap().success());
}

/// Runs the launcher with a cargo that exits with `built`, and with a tool that prints its arguments if `is_built`.
fn launch(built: u8, is_built: bool, words: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let launcher = folder.path().join("launcher");
    fs::copy(env!("CARGO_BIN_EXE_launcher"), &launcher).unwrap();
    script(&folder.path().join("cargo"), &format!("echo errors >&2; exit {built}"));
    if is_built {
        script(&folder.path().join("hops"), "echo \"hops $*\"");
    }
    Command::new(launcher).args(words).env("CARGO", folder.path().join("cargo")).output().unwrap()
}

#[test]
fn what_does_not_compile_stops_what_builds_and_nothing_else() {
    for (built, is_built, words, expected) in [
        (0, true, &["status"][..], Some("hops status\n")),
        (101, true, &["down", "--all"], Some("hops down --all\n")),
        (101, true, &["service", "logs"], Some("hops service logs\n")),
        (101, true, &["up", "-d"], None),
        (101, true, &["update", "vipservice"], None),
        (101, true, &["service", "update", "--force", "vipservice"], None),
        (101, false, &["status"], None),
    ] {
        let output = launch(built, is_built, words);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.success(), expected.is_some(), "{words:?}: {error}");
        assert_eq!(out, expected.unwrap_or_default(), "{words:?}");
        let is_warned = error.contains("that of the last build");
        assert_eq!(is_warned, built != 0 && expected.is_some(), "{words:?}: {error}");
    }
}
