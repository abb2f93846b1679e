//! `new`: creates a service that reads the stream of offers: its crate, its settings, and its lines in the compose file.
//!
//! `templates/service` has its files, for the name `noteservice` and the port 6969. Files that exist get lines inserted, and
//! keep everything else. All is checked before the first file is written; if a later step fails, what was written is taken
//! back.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::{
    compose::{Compose, FILE},
    failure::Result,
    project::{Project, write_atomically},
    render::Screen,
    state,
};

const MANIFEST: &str = "Cargo.toml";
const LOCK: &str = "Cargo.lock";
/// Name of the service in the templates.
const TEMPLATE_NAME: &str = "noteservice";
/// Port of the service in the templates, and the first that a new service may have.
const TEMPLATE_PORT: u16 = 6969;
/// Templates of the files, each with the path of its file; `NAME` stands for the service.
const FILES: [(&str, &str); 4] = [
    ("NAME/Cargo.toml", include_str!("../../templates/service/Cargo.toml")),
    ("NAME/src/main.rs", include_str!("../../templates/service/main.rs")),
    ("config-repo/NAME.yml", include_str!("../../templates/service/settings.yml")),
    ("config-repo/NAME-test.yml", include_str!("../../templates/service/settings-test.yml")),
];
const COMPOSE_LINES: &str = include_str!("../../templates/service/compose.yml");
const SECRETS_LINES: &str = include_str!("../../templates/service/secrets.yml");
/// Length with which the name of a secret is within Docker's limit of 64: `hops_NAME_amqp_username`.
const MAX_NAME: usize = 40;
/// Names that Rust, cargo or Docker uses for something else.
const RESERVED: &str = "abstract alloc as async await become box break build const continue core crate default deps do dyn \
    else enum examples extern false final fn for gen if impl in incremental let localhost loop macro match mod move mut \
    override priv pub ref return self static std struct super target test trait true try type typeof unsafe unsized use \
    virtual where while yield";

/// Creates a service, and says what to type next and how to remove it again.
///
/// # Errors
/// The name, the compose file or the workspace does not allow it, or a file cannot be written; then nothing has changed.
pub fn new(project: &Project, screen: Screen, name: &str) -> Result<()> {
    let service = NewService::check(project, name)?;
    let (is_up, is_committed) = (state::is_supervisor_running(project), is_committed(project));
    service.write(project)?;

    let NewService { port, created, .. } = &service;
    let created: Vec<_> = created.iter().map(|(path, _)| path).collect();
    let changed = [MANIFEST, LOCK, FILE];
    screen.text(&format!("{name} is a service on port {port}, which writes a note for each offer"));
    created.iter().for_each(|path| screen.text(&format!("created   {path}")));
    changed.iter().for_each(|path| screen.text(&format!("changed   {path}")));
    screen.lines(&next_steps(name, project.published(*port, name)?, is_up, is_committed));
    screen.value(&json!({"service": name, "port": port, "created": created, "changed": changed}));
    Ok(())
}

/// Service that can be created.
#[derive(Debug)]
struct NewService {
    name: String,
    port: u16,
    /// Files to create, by their paths from the root, with their text.
    created: Vec<(String, String)>,
    /// Files to change, with their text before and after.
    changed: [(&'static str, String, String); 2],
    /// Text of the lock file, which cargo changes.
    lock: String,
}

impl NewService {
    /// Checks that nothing is in the way of the service, and prepares its files.
    fn check(project: &Project, name: &str) -> Result<Self> {
        check_name(name)?;
        let read = |file| fs::read_to_string(project.root().join(file));
        let of_workspace = |file| {
            read(file).with_context(|| {
                format!("cannot read {file}: a new service is compiled, so you need Rust and a clone of the repository")
            })
        };
        let (manifest, lock) = (of_workspace(MANIFEST)?, of_workspace(LOCK)?);
        let compose = project.compose()?;
        if compose.services.iter().any(|service| service.name == name) {
            bail!("{FILE} has a service {name} already: choose another name");
        }
        if lock.lines().any(|line| line == format!("name = \"{name}\"")) {
            bail!("{LOCK} has a package {name} already: choose another name");
        }
        if let Some(path) =
            paths(name).iter().find(|path| project.root().join(path).symlink_metadata().is_ok())
        {
            bail!("{path} exists already: choose another name, or move it away");
        }
        let port = free_port(&compose)?;
        project.published(port, name)?;

        let fill = |text: &str| {
            let text = text.replace(&TEMPLATE_PORT.to_string(), &port.to_string());
            text.replace(TEMPLATE_NAME, name).replace(&TEMPLATE_NAME.to_uppercase(), &name.to_uppercase())
        };
        let created = FILES.map(|(path, text)| (path.replace("NAME", name), fill(text))).to_vec();
        let with_member = with_member(&manifest, name)?;
        let before = read(FILE).with_context(|| format!("cannot read {FILE}"))?;
        let after = with_lines(&before, "services", &fill(COMPOSE_LINES))?;
        let after = with_lines(&after, "secrets", &fill(SECRETS_LINES))?;
        let parsed = project.parse_compose(&after);
        parsed.with_context(|| {
            format!("{FILE} would be wrong with the lines of {name}, indented by two blanks")
        })?;
        let cargo = cargo(project).arg("--version").stdout(Stdio::null()).status();
        cargo.context("cannot start cargo: a new service is compiled, so you need Rust")?;
        let changed = [(MANIFEST, manifest, with_member), (FILE, before, after)];
        Ok(Self { name: name.to_owned(), port, created, changed, lock })
    }

    /// Writes the files and lets cargo complete the lock file; if something fails, takes back what was written.
    fn write(&self, project: &Project) -> Result<()> {
        let Err(why) = self.write_files(project.root()).and_then(|()| update_lock(project)) else {
            return Ok(());
        };
        let (name, left) = (&self.name, self.take_back(project.root()).join(", "));
        if left.is_empty() {
            bail!("{why:#}; nothing has changed");
        }
        bail!(
            "{why:#}; some of {name} is still in {left}: remove the new files, and the lines of {name} in the others"
        )
    }

    fn write_files(&self, root: &Path) -> Result<()> {
        let folder = root.join(&self.name).join("src");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for (path, text) in &self.created {
            write_atomically(&root.join(path), text.as_bytes())?;
        }
        for (path, _, after) in &self.changed {
            write_atomically(&root.join(path), after.as_bytes())?;
        }
        Ok(())
    }

    /// Makes everything as it was, and returns the paths for which this fails.
    fn take_back(&self, root: &Path) -> Vec<String> {
        let is_removed = |path: &String| {
            let path = root.join(path);
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            !path.exists()
        };
        let is_restored = |path: &str, before: &str| {
            let path = root.join(path);
            fs::read_to_string(&path).is_ok_and(|now| now == before)
                || write_atomically(&path, before.as_bytes()).is_ok()
        };
        let mut left: Vec<_> = paths(&self.name).into_iter().filter(|path| !is_removed(path)).collect();
        let changed = self.changed.iter().map(|(path, before, _)| (*path, before));
        let changed = changed.chain([(LOCK, &self.lock)]).filter(|(path, before)| !is_restored(path, before));
        left.extend(changed.map(|(path, _)| path.to_owned()));
        left
    }
}

/// Returns what a service is made of beside its lines in other files.
fn paths(name: &str) -> [String; 3] {
    [name.to_owned(), format!("config-repo/{name}.yml"), format!("config-repo/{name}-test.yml")]
}

/// Checks the name, which is that of a folder, a crate, a file, a service of Docker and a host.
fn check_name(name: &str) -> Result<()> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let begins_with_a_letter = name.starts_with(|first: char| first.is_ascii_lowercase());
    if !begins_with_a_letter || name.len() > MAX_NAME || !name.bytes().all(is_allowed) {
        bail!(
            "`{name}` is not a name of a service: use 1 to {MAX_NAME} of a-z and 0-9, first a letter, as in mailservice"
        );
    }
    if RESERVED.split_whitespace().any(|word| word == name) {
        bail!("`{name}` is a word of Rust, cargo or Docker: choose another name, as in mailservice");
    }
    Ok(())
}

/// Returns the first port, from that of the templates, that no service of the file has.
fn free_port(compose: &Compose) -> Result<u16> {
    let is_taken = |wanted: &u16| {
        let mut ports = compose.services.iter().flat_map(|service| &service.ports);
        ports.any(|port| port.target == *wanted || port.published == Some(*wanted))
    };
    let free = (TEMPLATE_PORT..=u16::MAX).find(|port| !is_taken(port));
    free.with_context(|| format!("{FILE}: the services have all ports from {TEMPLATE_PORT} on"))
}

/// Inserts the first member of the workspace into its manifest.
fn with_member(manifest: &str, name: &str) -> Result<String> {
    let (mut is_workspace, mut at) = (false, 0);
    for line in manifest.split_inclusive('\n') {
        if line.starts_with('[') {
            is_workspace = line.trim_end() == "[workspace]";
        }
        let list = line.strip_prefix("members").and_then(|rest| rest.trim_start().strip_prefix('='));
        if is_workspace && let Some(after) = list.and_then(|rest| rest.trim_start().strip_prefix('[')) {
            let (before, after) = manifest.split_at(at + line.len() - after.len());
            let member = match after.trim_start_matches(' ').chars().next() {
                Some('\r' | '\n') => format!("\n    \"{name}\","),
                Some(']') => format!("\"{name}\""),
                _ => format!("\"{name}\", "),
            };
            return Ok([before, &member, after].concat());
        }
        at += line.len();
    }
    bail!("{MANIFEST} has no line that begins with `members = [` below `[workspace]`: write the members so")
}

/// Inserts lines below the line of a key that has no indentation.
fn with_lines(compose: &str, key: &str, lines: &str) -> Result<String> {
    let mut at = 0;
    for line in compose.split_inclusive('\n') {
        at += line.len();
        let after = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')).map(str::trim);
        if line.ends_with('\n') && after.is_some_and(|after| after.is_empty() || after.starts_with('#')) {
            let (before, after) = compose.split_at(at);
            return Ok([before, lines, after].concat());
        }
    }
    bail!("{FILE} has no line `{key}:`, below which the lines of a service belong: write it so")
}

fn cargo(project: &Project) -> Command {
    let mut cargo = Command::new(project.variable("CARGO").unwrap_or("cargo"));
    cargo.current_dir(project.root());
    cargo
}

/// Lets cargo add the new package to the lock file. Its dependencies are those of other packages, so no network is needed.
fn update_lock(project: &Project) -> Result<()> {
    let output = cargo(project).args(["update", "--workspace", "--offline", "--quiet"]).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("cargo cannot complete {LOCK}: {}", error.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

/// Returns true if git has the files that are changed as they are now, so that it can restore them.
fn is_committed(project: &Project) -> bool {
    let mut git = Command::new("git");
    git.args(["diff", "--quiet", "HEAD", "--", MANIFEST, LOCK, FILE]).current_dir(project.root());
    git.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Returns what to type next, and how to remove the service again.
fn next_steps(name: &str, local_port: u16, is_up: bool, is_committed: bool) -> String {
    let files = [MANIFEST, LOCK, FILE];
    let down = if is_up {
        "\n    cargo hops down     # the system that runs does not have the new service"
    } else {
        ""
    };
    let restore = if is_committed {
        format!("git checkout {}", files.join(" "))
    } else {
        format!(
            "# remove the lines of {name} from {}, which had uncommitted changes before",
            files.join(", ")
        )
    };
    format!(
        "\nNext, in this folder:{down}\n    cargo hops up -d\n    curl localhost:{local_port}/readyz\n\
         To remove the service again:\n    {restore}\n    rm -r {}",
        paths(name).join(" ")
    )
}

#[cfg(test)]
mod tests;
