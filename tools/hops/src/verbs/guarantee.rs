//! `break` and `mend`: take a guarantee away from the source, so that everybody can see what it is for, and put it back.
//!
//! Each guarantee has a patch in `docs/walkthrough/faults`, which removes it. The lines before the patch say what is
//! gone, and what to type to see it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

use crate::{failure::Result, project::Project, render::Screen};

const FOLDER: &str = "docs/walkthrough/faults";

/// Removes a guarantee from the source, and prints what is gone.
///
/// # Errors
/// There is no patch of this name, or the source has other changes in these places; then nothing is changed.
pub fn break_it(project: &Project, screen: Screen, name: &str) -> Result<()> {
    let patches = patches(project)?;
    let patch = patches.iter().find(|patch| name_of(patch) == name).ok_or_else(|| {
        let names: Vec<_> = patches.iter().map(|patch| name_of(patch)).collect();
        anyhow!("there is no guarantee `{name}`; write one of {}", names.join(", "))
    })?;
    if apply(project, patch, &["--reverse", "--check"]).is_ok() {
        bail!("{name} is in the source already: `cargo hops mend` takes it out");
    }
    apply(project, patch, &[])
        .map_err(|why| why.context(format!("{name} does not fit the source, which was changed there")))?;
    let text = fs::read_to_string(patch).with_context(|| format!("cannot read {}", patch.display()))?;
    let about = text.split("\ndiff ").next().unwrap_or_default().trim_end();
    screen.lines(&format!("{about}\n\n`cargo hops mend` puts the guarantee back."));
    screen.value(&json!({"broken": name, "about": about}));
    Ok(())
}

/// Puts back all guarantees that were removed.
///
/// # Errors
/// A patch cannot be taken back.
pub fn mend(project: &Project, screen: Screen) -> Result<()> {
    let mut mended = vec![];
    for patch in patches(project)? {
        if apply(project, &patch, &["--reverse", "--check"]).is_ok() {
            apply(project, &patch, &["--reverse"])?;
            mended.push(name_of(&patch));
        }
    }
    screen.value(&json!({"mended": mended}));
    match &mended[..] {
        [] => screen.text("nothing is broken: no patch of docs/walkthrough/faults is in the source"),
        names => screen.text(&format!(
            "mended: {}; now `cargo hops update accountservice vipservice`, if they run",
            names.join(", ")
        )),
    }
    Ok(())
}

/// Returns all patches, by name.
fn patches(project: &Project) -> Result<Vec<PathBuf>> {
    let folder = project.root().join(FOLDER);
    let files = fs::read_dir(&folder).with_context(|| {
        format!("there is no {}: this needs a checkout of the repository", folder.display())
    })?;
    let paths = files.flatten().map(|file| file.path());
    let mut patches: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == "patch")).collect();
    patches.sort();
    Ok(patches)
}

fn name_of(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Applies a patch with git, completely or not at all.
fn apply(project: &Project, patch: &Path, flags: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    let output = command.arg("apply").args(flags).arg(patch).current_dir(project.root()).output();
    let output = output.context("cannot run git, which applies the patch")?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PATCH: &str = "Nothing is kept.\n    cargo hops verify\n\ndiff --git a/code b/code\n--- a/code\n+++ b/code\n@@ -1,2 +1,2 @@\n first\n-kept\n+lost\n";
    const SCREEN: Screen = Screen { json: false, color: false, terminal: false };

    fn project(root: &Path) -> Project {
        fs::create_dir_all(root.join(FOLDER)).unwrap();
        fs::write(root.join("docker-compose.yml"), "").unwrap();
        fs::write(root.join(FOLDER).join("no-memory.patch"), PATCH).unwrap();
        fs::write(root.join("code"), "first\nkept\n").unwrap();
        Project::find(root, BTreeMap::new()).unwrap()
    }

    #[test]
    fn a_guarantee_is_taken_away_once_and_put_back() {
        let root = tempfile::tempdir().unwrap();
        let project = project(root.path());
        let code = || fs::read_to_string(root.path().join("code")).unwrap();
        break_it(&project, SCREEN, "no-memory").unwrap();
        assert_eq!(code(), "first\nlost\n");
        let error = break_it(&project, SCREEN, "no-memory").unwrap_err().to_string();
        assert!(error.contains("is in the source already"), "{error}");
        for _ in 0..2 {
            mend(&project, SCREEN).unwrap();
            assert_eq!(code(), "first\nkept\n");
        }
    }

    #[test]
    fn a_source_that_was_changed_there_stays_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let project = project(root.path());
        fs::write(root.path().join("code"), "mine\n").unwrap();
        let error = format!("{:#}", break_it(&project, SCREEN, "no-memory").unwrap_err());
        assert!(error.starts_with("no-memory does not fit the source"), "{error}");
        assert_eq!(fs::read_to_string(root.path().join("code")).unwrap(), "mine\n");
        let error = break_it(&project, SCREEN, "no-luck").unwrap_err().to_string();
        assert!(error.contains("write one of no-memory"), "{error}");
    }
}
