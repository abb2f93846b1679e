//! `service logs`: the lines of the tasks, as text or JSON.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use serde_json::json;
use tokio::time::sleep;

use super::Target;
use crate::{
    cli::LogView,
    failure::Result,
    logs::{Lines, LogLine},
    render::Screen,
    signals::StopSignals,
};

const LOG_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Prints the logs of the tasks from the beginning, or a part of them.
///
/// # Errors
/// There is no such service, or no line of the request.
pub(crate) async fn logs(
    target: &Target<'_>,
    screen: Screen,
    names: &[String],
    follow: bool,
    request: Option<&str>,
    view: &LogView,
) -> Result<()> {
    let is_wanted = |line: &LogLine| {
        request.is_none_or(|id| line.belongs_to(id))
            && view.since.is_none_or(|since| line.time >= Some(since))
    };
    let mut source = target.lines(&target.known_names(names)?, view.since);
    let mut lines: Vec<_> = source.read_existing().await?.into_iter().filter(is_wanted).collect();
    if let Some(request) = request.filter(|_| lines.is_empty() && !follow) {
        bail!("no line of request {request}");
    }
    if let Some(count) = view.tail {
        lines = last_of_each_task(lines, count);
    }
    lines.iter().for_each(|line| show(screen, line, view.timestamps));
    if follow {
        let mut signals = StopSignals::listen()?;
        tokio::select! {
            () = follow_new(&mut source, screen, view.timestamps, is_wanted) => {}
            _ = signals.received() => {}
        }
    }
    source.close().await;
    Ok(())
}

/// Prints the lines that the tasks write from now on, if they are wanted, until nobody gets what is printed.
pub(super) async fn follow_new(
    lines: &mut Lines,
    screen: Screen,
    with_times: bool,
    is_wanted: impl Fn(&LogLine) -> bool,
) {
    while !output::is_lost() {
        lines
            .read_new()
            .iter()
            .filter(|line| is_wanted(line))
            .for_each(|line| show(screen, line, with_times));
        sleep(LOG_POLL_INTERVAL).await;
    }
}

fn show(screen: Screen, line: &LogLine, with_time: bool) {
    if screen.json {
        return screen.line(&json!({"task": line.task, "line": line.text}).to_string());
    }
    let time = line.time.filter(|_| with_time);
    let time = time.map_or_else(String::new, |time| format!("{time:.6} "));
    screen.task_line("", &line.task, &format!("| {time}{}", line.formatted()));
}

/// Returns the last lines of each task, in the order of all.
fn last_of_each_task(lines: Vec<LogLine>, count: usize) -> Vec<LogLine> {
    let mut left = BTreeMap::<String, usize>::new();
    for line in &lines {
        *left.entry(line.task.clone()).or_default() += 1;
    }
    let mut is_last = |line: &LogLine| {
        let left = left.entry(line.task.clone()).or_default();
        *left -= 1;
        *left < count
    };
    lines.into_iter().filter(|line| is_last(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_each_task() {
        let lines = [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")];
        let lines = lines.map(|(task, text)| LogLine::new(task, text, None)).to_vec();
        let texts = |count| {
            let lines = last_of_each_task(lines.clone(), count);
            lines.into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(2), ["2", "3", "4"]);
        assert_eq!(texts(0), Vec::<String>::new());
    }
}
