//! What `cargo hops` starts: it is compiled in a second, since it depends on nothing, and lets cargo build and run the
//! tool itself - with cargo's progress the first time, which takes a minute or two, and without a word from then on.

use std::{env, os::unix::process::CommandExt, process::Command};

#[expect(clippy::disallowed_methods, reason = "main is the one place that reads the environment")]
fn main() -> std::io::Result<()> {
    let is_built = env::current_exe()?.with_file_name("hops").exists();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--locked", "--package", "hops"]);
    if is_built {
        cargo.arg("--quiet");
    }
    // The process becomes cargo, and cargo becomes `hops`: signals and exit codes are its own.
    Err(cargo.arg("--").args(env::args_os().skip(1)).exec())
}
