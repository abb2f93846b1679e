//! Launcher of `cargo hops`. It depends on nothing, so cargo compiles it in a second. It lets cargo build the tool and the
//! binaries that the tool starts, and then becomes the tool. The first build takes some minutes and shows cargo's progress;
//! later ones are silent. What does not compile may be a service that somebody changes: the system that runs can be looked
//! at and stopped all the same, with the tool of the last build.

use std::{
    env,
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

#[expect(clippy::disallowed_methods, reason = "main is the one place that reads the environment")]
fn main() -> std::io::Result<ExitCode> {
    let hops = env::current_exe()?.with_file_name("hops");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace at once: package by package, cargo would compile shared dependencies with different features.
    cargo.args(["build", "--locked", "--workspace", "--exclude=examples", "--bins"]);
    let is_built = hops.exists();
    if is_built {
        cargo.arg("--quiet");
    }
    if !cargo.status()?.success() {
        // These two verbs build, too, and would fail for the same reason.
        if !is_built || env::args_os().any(|word| word == "up" || word == "update") {
            writeln!(
                std::io::stderr(),
                "error: this checkout does not compile, see above; what runs stays as it is"
            )?;
            return Ok(ExitCode::FAILURE);
        }
        let warning =
            "warning: this checkout does not compile, see above; `cargo hops` is that of the last build";
        writeln!(std::io::stderr(), "{warning}")?;
    }
    // The process becomes the tool: signals and exit codes are its own.
    Err(Command::new(hops).args(env::args_os().skip(1)).exec())
}
