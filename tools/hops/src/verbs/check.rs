//! `check`: tells whether what a chapter asks for under "Now change it" is done.
//!
//! Each exercise has a script, `docs/walkthrough/checks/NN.sh`, whose second line says what has to be true. It asks the
//! system that is up, and exits with 0 if that is so, or else prints what it has seen.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::{process::Command, time::timeout};

use super::address;
use crate::{
    failure::{Failure, Result},
    plan::{Kind, Plan},
    project::Project,
    render::Screen,
    state,
};

const FOLDER: &str = "docs/walkthrough/checks";
/// Time limit of a script, which may have to build an example.
const CHECK_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the checks of these chapters, or of all, and prints a line for each.
///
/// # Errors
/// Something is not done yet, or a chapter has no check.
pub async fn check(project: &Project, screen: Screen, chapters: &[u32]) -> Result<(), Failure> {
    let all = scripts(&project.root().join(FOLDER))?;
    let wanted: Vec<_> = if chapters.is_empty() { all.keys().copied().collect() } else { chapters.to_vec() };
    if let Some(unknown) = wanted.iter().find(|chapter| !all.contains_key(chapter)) {
        let known: Vec<_> = all.keys().map(ToString::to_string).collect();
        return Err(Failure::Usage(format!(
            "chapter {unknown} has no check; these have: {}",
            known.join(", ")
        )));
    }
    let plan = state::load_plan(project)?;
    let mut are_all_done = true;
    for (chapter, script) in wanted.iter().filter_map(|chapter| all.get_key_value(chapter)) {
        let what = description(script)?;
        let seen = run(project, &plan, script).await?;
        are_all_done &= seen.is_none();
        screen.value(
            &json!({"chapter": chapter, "what": what, "done": seen.is_none(), "seen": seen.as_deref()}),
        );
        let state = if seen.is_none() { "done" } else { "not yet" };
        screen.text(&format!("chapter {chapter:<4} {state:<9} {what}"));
        if let Some(seen) = seen {
            screen.lines(&format!("    {}", seen.replace('\n', "\n    ")));
        }
    }
    if are_all_done { Ok(()) } else { Err(Failure::AlreadyReported) }
}

/// Returns the scripts by the numbers of their chapters.
fn scripts(folder: &Path) -> Result<BTreeMap<u32, PathBuf>> {
    let files = fs::read_dir(folder).with_context(|| {
        format!("there is no {}: `cargo hops check` needs a checkout of the repository", folder.display())
    })?;
    let paths = files.flatten().map(|file| file.path());
    Ok(paths.filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path))).collect())
}

/// Returns what the script checks.
fn description(script: &Path) -> Result<String> {
    let text = fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
    let line = text.lines().nth(1).and_then(|line| line.strip_prefix("# "));
    line.map(str::to_owned).with_context(|| format!("{}: the second line is no comment", script.display()))
}

/// Runs a script. Returns `None` if it finds that the exercise is done, or else what it has seen.
async fn run(project: &Project, plan: &Plan, script: &Path) -> Result<Option<String>> {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail"]).arg(script).current_dir(project.root()).kill_on_drop(true);
    command.env("HOPS", std::env::current_exe().context("cannot find this program")?);
    command.env("CARGO", project.variable("CARGO").unwrap_or("cargo"));
    for service in plan.services.iter().filter(|service| service.kind == Kind::Service) {
        command.env(service.name.to_uppercase(), address(plan, &service.name)?);
    }
    let output = timeout(CHECK_TIMEOUT, command.stdin(Stdio::null()).output()).await;
    let Ok(output) = output else {
        bail!("{} is not done after {} s", script.display(), CHECK_TIMEOUT.as_secs());
    };
    let output = output.context("cannot run bash, which the checks need")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&said).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_has_the_number_of_its_chapter_and_says_what_it_checks() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(FOLDER);
        let scripts = scripts(&folder).unwrap();
        assert!(scripts.len() >= 11, "{scripts:?}");
        for script in scripts.values() {
            let what = description(script).unwrap();
            assert!(what.len() > 20 && !what.ends_with('.'), "{what}");
        }
    }
}
