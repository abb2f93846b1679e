//! The program that `cargo hops` starts: it is compiled in a second, since it depends on nothing. It has cargo build the tool and all
//! that the tool starts - with cargo's progress the first time, which takes some minutes, and without a word from then
//! on - and becomes the tool.

use std::{
    env,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

#[expect(clippy::disallowed_methods, reason = "main is the one place that reads the environment")]
fn main() -> std::io::Result<ExitCode> {
    let hops = env::current_exe()?.with_file_name("hops");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace at once: package by package, cargo would compile what they share in several ways.
    cargo.args(["build", "--locked", "--workspace", "--exclude=examples", "--bins"]);
    if hops.exists() {
        cargo.arg("--quiet");
    }
    if !cargo.status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    // The process becomes the tool: signals and exit codes are its own.
    Err(Command::new(hops).args(env::args_os().skip(1)).exec())
}
