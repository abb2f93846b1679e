//! Where the binaries under test come from: built once per run by the cargo that runs the tests, or from the folder `HOPS_BIN_DIR`.
//!
//! The tests start hard-linked copies in a folder of this run, so a build in another terminal does not change a binary under a running test.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use crate::environment;

/// The path of a binary, by its name; the first call builds all of them.
///
/// Panics when the build fails or makes no such binary.
pub fn binary(name: &str) -> PathBuf {
    static BINARIES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    if let Some(folder) = environment::bin_dir() {
        return folder.join(name);
    }
    one_of(BINARIES.get_or_init(|| build_and_copy("shipped", &[])), name)
}

/// The same in the build that a test can end at chosen places: the crate `failpoint`. That one is never shipped.
pub fn binary_with_failpoints(name: &str) -> PathBuf {
    static BINARIES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let features = ["--features=failpoint/armed"];
    let build_both = || {
        let copies = build_and_copy("with-failpoints", &features);
        // The last build is what stands in the target folder: it shall be the one that can be shipped.
        build_and_copy("shipped-again", &[]);
        copies
    };
    one_of(BINARIES.get_or_init(build_both), name)
}

fn one_of(binaries: &BTreeMap<String, PathBuf>, name: &str) -> PathBuf {
    binaries.get(name).unwrap_or_else(|| panic!("the workspace has no binary {name}")).clone()
}

/// Under a lock between processes: two test runs neither build nor copy into each other.
fn build_and_copy(folder: &str, arguments: &[&str]) -> BTreeMap<String, PathBuf> {
    let runs = runs_folder();
    fs::create_dir_all(&runs).expect("the target folder can be written");
    let lock = fs::File::create(runs.join("lock")).expect("the target folder can be written");
    lock.lock().expect("the file system has locks");

    remove_old_runs(&runs);
    let run = runs.join(process::id().to_string()).join(folder);
    // One that had this number before us may have left its own.
    let _ = fs::remove_dir_all(&run);
    fs::create_dir_all(&run).expect("the target folder can be written");
    build(arguments)
        .into_iter()
        .map(|built| {
            let name = built.file_name().expect("an executable has a name");
            let copy = run.join(name);
            fs::hard_link(&built, &copy)
                .or_else(|_| fs::copy(&built, &copy).map(drop))
                .unwrap_or_else(|e| panic!("cannot copy {}: {e}", built.display()));
            (name.to_string_lossy().into_owned(), copy)
        })
        .collect()
}

/// Runs cargo, with the same features of all dependencies for both builds, and takes the executables' paths from its JSON messages.
/// The examples are many, and cargo builds them for their own tests.
fn build(arguments: &[&str]) -> Vec<PathBuf> {
    let mut command = Command::new(environment::cargo());
    command
        .args(["build", "--workspace", "--exclude=examples", "--bins", "--message-format=json", "--quiet"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().expect("cargo can be started");
    assert!(output.status.success(), "cargo could not build the binaries under test");
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .collect()
}

/// Beside the test binary, so on the file system of what cargo builds.
fn runs_folder() -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    let deps = test.parent().expect("a test binary lies in a folder");
    deps.parent().unwrap_or(deps).join("e2e-runs")
}

/// A run's folder is named after its process and outlives it, since nothing runs at a test binary's end.
fn remove_old_runs(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let is_old = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
            .is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists());
        if is_old {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a program that may be run at once. Not by this process: while it writes, a program that another test starts would hold the
/// file open, too, and a file that is open for writing cannot be run.
pub fn write_program(path: &Path, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut input = writer.stdin.take().expect("it is piped");
    input.write_all(text.as_bytes()).expect("the folder can be written");
    drop(input);
    assert!(writer.wait().expect("it ends").success(), "{} cannot be written", path.display());
}
