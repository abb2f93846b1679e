//! Where a page is played: a copy of this checkout, ports that nobody else has, and a `cargo` that builds nothing.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    binaries::{binary, write_program},
    broker::free_base,
    environment, repository,
};

/// Folder of the checkout, as pages print it.
const HOME: &str = "/home/you/hops";
/// Ports that pages speak of.
pub const PORTS: [u16; 8] = [6767, 6868, 6969, 7878, 8888, 5672, 15672, 15673];
/// Runs until standard input ends, so also until the process dies that holds it; then what still runs is ended, and the folder `$0` goes.
const WARDEN: &str = r#"cat; cd "$0/hops" && cargo hops down --all; rm -rf -- "$0""#;

/// One page's folder and ports; what `cargo hops` has started there ends when this is dropped, and when the test's process dies.
pub(super) struct Stage {
    checkout: PathBuf,
    /// Environment variables of its programs, in place of this shell's settings.
    variables: Vec<(String, String)>,
    /// Texts as pages print them, each with the real one.
    places: Vec<(String, String)>,
    warden: Option<Child>,
}

impl Stage {
    /// `cargo run --bin X` runs X of `examples`.
    pub(super) fn new(examples: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("the folder for temporary files can be written").keep();
        let folder = folder.canonicalize().expect("it was made just now");
        let checkout = folder.join("hops");
        copy_to(&checkout);
        fs::create_dir(folder.join("bin")).expect("the folder can be written");
        let cargo = folder.join("bin/cargo");
        write_program(&cargo, include_str!("cargo.sh"));

        let base = free_base(&PORTS);
        let mut places = vec![(HOME.to_owned(), checkout.display().to_string())];
        for before in ["localhost:", "127.0.0.1:", "port=", "port ", "*:"] {
            let place = |port: u16| (format!("{before}{port}"), format!("{before}{}", base + port));
            places.extend(PORTS.map(place));
        }
        let text = |path: &Path| path.display().to_string();
        let variables = [
            ("HOPS_BIN_DIR", text(binary("hops").parent().unwrap_or(Path::new("")))),
            ("HOPS_PORT_BASE", base.to_string()),
            ("EXAMPLES", examples.map(text).unwrap_or_default()),
            ("CARGO", environment::cargo().to_string_lossy().into_owned()),
            ("CARGO_TARGET_DIR", text(&environment::target_dir().join("walkthrough"))),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let mut stage = Self { checkout, variables, places, warden: None };
        let mut warden = stage.command("sh");
        // A group of its own: Ctrl-C ends the tests, and then the warden does its work.
        warden.args(["-c", WARDEN]).arg(&folder).process_group(0).stdin(Stdio::piped());
        let warden = warden.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        stage.warden = Some(warden.expect("sh can be started"));
        stage
    }

    /// A checkout that is there and stays, in which nothing stands for anything else.
    pub(super) fn of(checkout: &Path, variables: &[(String, String)]) -> Self {
        Self { checkout: checkout.to_owned(), variables: variables.to_vec(), places: vec![], warden: None }
    }

    /// Writes what the reader writes.
    pub(super) fn write(&self, file: &str, lines: &[String]) {
        let path = self.checkout.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&self.checkout))
            .and_then(|()| fs::write(&path, lines.join("\n") + "\n"))
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }

    /// Returns the output of `git status` in the checkout: empty if nothing has changed.
    pub(super) fn changes(&self) -> String {
        git(&self.checkout, &["status", "--porcelain"])
    }

    /// A program in the checkout, with the page's `cargo`, and with none of this shell's settings.
    pub(super) fn command(&self, program: &str) -> Command {
        let bin = self.checkout.with_file_name("bin");
        let search = environment::search_path();
        let search = env::join_paths([bin].into_iter().chain(env::split_paths(&search)));
        let mut command = Command::new(program);
        for name in environment::settings_of_services().chain(environment::settings_of_the_tool()) {
            command.env_remove(name);
        }
        command
            .current_dir(&self.checkout)
            .env("PATH", search.expect("a temporary folder has no colon in its name"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Returns a typed line with the real ports and the real folder.
    pub(super) fn real(&self, typed: &str) -> String {
        self.places.iter().fold(typed.to_owned(), |text, (printed, real)| text.replace(printed, real))
    }

    /// Returns a line of output with the ports and the folder of the page.
    pub(super) fn as_on_the_page(&self, line: &str) -> String {
        self.places.iter().fold(line.to_owned(), |text, (printed, real)| text.replace(real, printed))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut warden) = self.warden.take() {
            drop(warden.stdin.take());
            let _ = warden.wait();
        }
    }
}

/// Copies what a clone would have, so that a page may change a file, and take it back with git.
fn copy_to(checkout: &Path) {
    for file in repository::files() {
        let (from, to) = (repository::root().join(&file), checkout.join(&file));
        let folder = to.parent().unwrap_or(checkout);
        fs::create_dir_all(folder)
            .and_then(|()| fs::copy(&from, &to).map(drop))
            .unwrap_or_else(|e| panic!("cannot copy {}: {e}", from.display()));
    }
    git(checkout, &["init", "--quiet", "--template="]);
    git(checkout, &["add", "--all"]);
    git(checkout, &["commit", "--quiet", "--no-verify", "--message=the checkout"]);
}

/// Returns the output of git without the user's settings.
fn git(checkout: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=page", "-c", "user.email=page@localhost", "-c", "commit.gpgsign=false"]);
    let output = command.args(arguments).current_dir(checkout).output().expect("git can be started");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
