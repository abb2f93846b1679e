//! Docker's command.

use std::process::{Output, Stdio};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::failure::Result;

/// Runs the docker command, and returns its output.
pub(crate) async fn docker(arguments: &[&str]) -> Result<String> {
    docker_with(arguments, "").await
}

/// Runs the docker command with this standard input, and returns its output.
pub(super) async fn docker_with(arguments: &[&str], input: &str) -> Result<String> {
    let output = output(arguments, input).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => bail!("docker {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// Runs the docker command, whether or not it succeeds.
pub(super) async fn output(arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().context("cannot run docker")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that has failed already reads nothing; its error says more.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await.context("cannot run docker")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// Returns the command that prints a container's log, with Docker's time before each line.
pub(crate) fn log_command(container: &str, since: Option<Timestamp>, follow: bool) -> Command {
    let since = since.map(|since| format!("--since={since}"));
    let options = ["logs", "--timestamps"].into_iter().chain(since.as_deref());
    let options = options.chain(follow.then_some("--follow")).chain([container]);
    command(&options.collect::<Vec<_>>())
}

/// Returns the lines that [`log_command`] has printed, with Docker's times.
pub(crate) fn log_lines(bytes: &[u8]) -> Vec<(Option<Timestamp>, String)> {
    String::from_utf8_lossy(bytes).lines().map(log_line).collect()
}

fn log_line(line: &str) -> (Option<Timestamp>, String) {
    let timed = || {
        let (time, text) = line.split_once(' ')?;
        let at = time.parse::<Timestamp>().ok()?;
        // Docker stores a long line in parts of 16 KiB, and prints the time of the line before each of them.
        Some((Some(at), text.replace(&format!("{time} "), "")))
    };
    // A line without a time is an error of Docker's own.
    timed().unwrap_or_else(|| (None, line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_log_have_dockers_times() {
        const TIME: &str = "2026-11-20T14:47:38.806123456Z";
        for (line, text, is_timed) in [
            (format!("{TIME} {{\"a\": 1}}"), "{\"a\": 1}", true),
            (format!("{TIME} "), "", true),
            (format!("{TIME} two {TIME} parts"), "two parts", true),
            ("Error response: gone".to_owned(), "Error response: gone", false),
            (String::new(), "", false),
        ] {
            let at = is_timed.then(|| TIME.parse().unwrap());
            assert_eq!(log_line(&line), (at, text.to_owned()), "{line}");
        }
        assert_eq!(log_lines(b"one\r\ntwo").len(), 2);
        assert_eq!(log_lines(b"not \xff UTF-8\n")[0].1, "not \u{fffd} UTF-8");
    }
}
