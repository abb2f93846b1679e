//! The accountservice as a process: hands over the command line and the environment, and nothing else.

use std::process::ExitCode;

#[expect(clippy::disallowed_methods, reason = "main is the one place that reads the environment")]
fn main() -> ExitCode {
    accountservice::start(std::env::args_os(), std::env::vars_os())
}
