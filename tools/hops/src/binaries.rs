//! Binaries of the tasks: built by cargo, and copied, so that a rebuild and `cargo clean` do not affect running tasks.
//!
//! They are built in the profile `dev`, like `cargo hops` itself and `cargo test`: then the dependencies are compiled
//! once for all three, while the release profile (fat LTO) would compile all of them again. For measurements there is
//! `cargo hops up --release`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{failure::Result, plan::Plan, project::Project};

/// Builds the binaries of the plan, unless `HOPS_BIN_DIR` or a release archive has them, and returns the folder with their
/// copies. `log` prints what takes long.
///
/// # Errors
/// Cargo cannot build one of them, or the copies cannot be written.
pub fn prepare(project: &Project, plan: &Plan, release: bool, log: impl Fn(&str)) -> Result<PathBuf> {
    let names: BTreeSet<&str> = plan.services.iter().map(|service| service.binary.as_str()).collect();
    let given = project.variable("HOPS_BIN_DIR").map(PathBuf::from);
    let built = match given.or_else(of_archive) {
        Some(folder) => names.iter().map(|name| ((*name).to_owned(), folder.join(name))).collect(),
        None => build(project, plan, release, log)?,
    };
    let hasher = &mut DefaultHasher::new();
    let mut found = vec![];
    for name in names {
        let path = built.get(name).with_context(|| {
            format!("cargo has built no binary {name}: docker-compose.yml names it as an image")
        })?;
        let file =
            fs::metadata(path).with_context(|| format!("cannot find the binary {}", path.display()))?;
        (name, file.len(), file.modified().ok()).hash(hasher);
        found.push((name, path));
    }
    let folder = project.create_folder(&format!("bin/{:016x}", hasher.finish()))?;
    for (name, path) in found {
        copy(path, &folder.join(name))?;
    }
    Ok(folder)
}

/// Returns the folder `bin` beside this binary, as a release archive has it: then nothing is built, and cargo may be missing.
#[must_use]
pub fn of_archive() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.with_file_name("bin");
    folder.is_dir().then_some(folder)
}

/// Copies a binary, unless the copy exists. The copy gets its name when it is complete.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let new = to.with_extension(format!("new-{}", std::process::id()));
    fs::copy(from, &new)
        .and_then(|_| fs::rename(&new, to))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Builds with the cargo that runs this process, and returns the binaries by name. Cargo prints its progress itself.
fn build(
    project: &Project,
    plan: &Plan,
    release: bool,
    log: impl Fn(&str),
) -> Result<BTreeMap<String, PathBuf>> {
    if release {
        log("building for release, which takes some minutes the first time");
    }
    let mut cargo = Command::new(project.variable("CARGO").unwrap_or("cargo"));
    // The same arguments as the launcher's, so that there is nothing left to build.
    cargo.args(["build", "--locked", "--workspace", "--exclude=examples", "--bins"]);
    cargo.arg("--message-format=json-render-diagnostics").current_dir(project.root());
    if release {
        cargo.arg("--release");
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        let images: Vec<_> = plan.services.iter().map(|s| format!("{} is {}", s.name, s.image)).collect();
        bail!(
            "cargo could not build the services of docker-compose.yml ({}): its errors are above; `cargo build` repeats \
             them",
            images.join(", ")
        );
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let messages = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    Ok(executables.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path))).collect())
}

/// Returns the newest copy of a binary: an update leaves the copies of the build before it in place.
///
/// # Errors
/// There is none.
pub(crate) fn in_use(project: &Project, name: &str) -> Result<PathBuf> {
    let builds = fs::read_dir(project.path("bin")).into_iter().flatten().flatten();
    let copies = builds.map(|build| build.path().join(name)).filter(|copy| copy.is_file());
    let newest = copies.max_by_key(|copy| fs::metadata(copy).and_then(|file| file.modified()).ok());
    newest.with_context(|| format!("{name} is gone from .hops/bin: `cargo hops down`, then `cargo hops up`"))
}

/// Removes the copies of other builds.
pub fn remove_others(project: &Project, current: &Path) {
    for entry in fs::read_dir(project.path("bin")).into_iter().flatten().flatten() {
        if entry.path() != current {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
