//! `cargo hops` as a process: passes on the command line and the environment.

use std::process::ExitCode;

#[expect(clippy::disallowed_methods, reason = "main is the one place that reads the environment")]
fn main() -> ExitCode {
    let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    hops::run(std::env::args_os().collect(), std::env::vars_os().filter_map(utf8).collect())
}
