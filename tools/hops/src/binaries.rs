//! What is started: built by cargo, and copied, so that a rebuild and `cargo clean` change nothing that runs.
//!
//! They are built in the profile `dev`, as `cargo hops` itself and `cargo test` are: the dependencies are compiled
//! once for all three, where the release profile (fat LTO) would compile all of them again. Who wants to measure
//! types `cargo hops up --release`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    failure::{Doing as _, Failure, Result},
    plan::Plan,
    project::Project,
};

/// The folder with copies of all binaries of the plan, built first where there is something to build.
///
/// # Errors
/// Cargo cannot build one of them, or the copies cannot be written.
pub fn ready(project: &Project, plan: &Plan, release: bool, say: impl Fn(&str)) -> Result<PathBuf> {
    let names: BTreeSet<&str> = plan.services.iter().map(|service| service.binary.as_str()).collect();
    let built = match project.variable("HOPS_BIN_DIR") {
        Some(folder) => names.iter().map(|name| ((*name).to_owned(), Path::new(folder).join(name))).collect(),
        None => build(project, plan, release, say)?,
    };
    let hasher = &mut DefaultHasher::new();
    let mut found = vec![];
    for name in names {
        let path = built.get(name).ok_or_else(|| format!("cargo has built no binary {name}"))?;
        let file = fs::metadata(path).doing(|| format!("find the binary {}", path.display()))?;
        (name, file.len(), file.modified().ok()).hash(hasher);
        found.push((name, path));
    }
    let folder = project.folder(&format!("bin/{:016x}", hasher.finish()))?;
    for (name, path) in found {
        copy(path, &folder.join(name))?;
    }
    Ok(folder)
}

/// Copies a binary, unless it is there. It has its name only when it is whole.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let new = to.with_extension(format!("new-{}", std::process::id()));
    fs::copy(from, &new)
        .and_then(|_| fs::rename(&new, to))
        .doing(|| format!("copy {} to {}", from.display(), to.display()))
}

/// Builds with the cargo that runs us; its progress goes to the terminal as it is.
fn build(
    project: &Project,
    plan: &Plan,
    release: bool,
    say: impl Fn(&str),
) -> Result<BTreeMap<String, PathBuf>> {
    if release {
        say("building for release, which takes some minutes the first time");
    }
    let mut cargo = Command::new(project.variable("CARGO").unwrap_or("cargo"));
    // The whole workspace, as the launcher has built it: then there is nothing to be done.
    cargo.args(["build", "--locked", "--workspace", "--exclude=examples", "--bins"]);
    cargo.arg("--message-format=json-render-diagnostics").current_dir(project.root());
    if release {
        cargo.arg("--release");
    }
    let output = cargo.stderr(Stdio::inherit()).output().doing(|| "start cargo".into())?;
    if !output.status.success() {
        let images: Vec<_> = plan.services.iter().map(|s| format!("{} is {}", s.name, s.image)).collect();
        return Err(Failure::Why(format!(
            "cargo could not build what docker-compose.yml names ({}): its words are above; `cargo build` repeats them",
            images.join(", ")
        )));
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    Ok(executables.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path))).collect())
}

/// Removes the copies of earlier builds.
pub fn remove_others(project: &Project, kept: &Path) {
    for entry in fs::read_dir(project.path("bin")).into_iter().flatten().flatten() {
        if entry.path() != kept {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
