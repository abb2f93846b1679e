//! `walk`: one read or one write, followed through the logs of all tasks.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use output::printable;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use reqwest::{StatusCode, header};

use super::{Target, client};
use crate::{
    failure::Result,
    logs::{Lines, LogLine},
    render::Screen,
};

/// Time within which all hops must be logged, even if the services have to reconnect to the broker.
const WALK_TIMEOUT: Duration = Duration::from_secs(20);
/// Time after which a hint says where the message may wait.
const HINT_AFTER: Duration = Duration::from_secs(2);
/// Time for lines that come after the last hop's: hop 6 waits for a confirm, and hop 7 does not wait for hop 6.
const LATE_LINES_TIMEOUT: Duration = Duration::from_millis(500);
const LOG_POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Columns of a line on a terminal, and of its beginning up to what happens.
const COLUMNS: usize = 100;
/// Account that a walk writes: not one of the settings, so that no read of a chapter changes.
const WRITTEN_ACCOUNT: &str = "1";
const TEXT_BEGINS_AT: usize = 41;

/// Reads an account, and shows the hops as they happen.
///
/// # Errors
/// The read fails, or a hop is missing; the error says what to type.
pub(crate) async fn walk(target: &Target<'_>, screen: Screen, account: &str) -> Result<()> {
    let url = format!("{}/accounts/{account}", target.address("accountservice")?);
    let mut lines = target.new_lines();
    let walked = follow_read(screen, &url, &mut lines, target.command()).await;
    lines.close().await;
    walked
}

/// Writes an account, and shows how the change reaches every accountservice.
///
/// # Errors
/// The account is not written, or a replica does not apply the change; the error says what to type.
pub(crate) async fn walk_write(target: &Target<'_>, screen: Screen) -> Result<()> {
    let service = "accountservice";
    let url = format!("{}/accounts/{WRITTEN_ACCOUNT}", target.address(service)?);
    let mut replicas = target.tasks().await?;
    replicas.retain(|task| task.rsplit_once('.').is_some_and(|(name, _)| name == service));
    let mut lines = target.new_lines();
    let walked = follow_write(screen, &url, &mut lines, replicas, target.command()).await;
    lines.close().await;
    walked
}

async fn follow_write(
    screen: Screen,
    url: &str,
    lines: &mut Lines,
    mut missing: Vec<String>,
    hops: &str,
) -> Result<()> {
    let id = format!("walk-{:08x}", rand::random::<u32>());
    let unreachable = || format!("cannot reach {url} (`{hops} status` shows whether the task runs)");
    let client = client().timeout(WALK_TIMEOUT).build().unwrap_or_default();
    let known = client.head(url).send().await.with_context(unreachable)?;
    let tag = known.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    let (condition, tag) = tag.map_or(("if-none-match", "*"), |tag| ("if-match", tag));
    let body = json!({"name": id}).to_string();
    screen
        .text(&format!("curl -X PUT -H 'x-request-id: {id}' -H '{condition}: {tag}' --json '{body}' {url}"));
    let request = client.put(url).header("x-request-id", &id).header(condition, tag);
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
    let (sent, started) = (Timestamp::now(), Instant::now());
    let answer = request.send().await.with_context(unreachable)?;
    let (status, took) = (answer.status(), started.elapsed());
    let text = answer.text().await.unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();

    screen.text("");
    screen.text("     ms  step         replica            what happens");
    let mut rows = Rows { screen, sent, answer: Some((took, status.as_u16(), body["servedBy"].clone())) };
    let (mut applied, mut is_published, mut is_hint_shown) = (vec![], false, false);
    let is_written = matches!(status, StatusCode::OK | StatusCode::CREATED);
    let deadline = Instant::now() + if is_written { WALK_TIMEOUT } else { LATE_LINES_TIMEOUT };
    while !(missing.is_empty() && is_published) && Instant::now() < deadline {
        let is_shown = |line: &&LogLine| line.field("request") == id && !line.step().is_empty();
        for line in lines.read_new().iter().filter(is_shown) {
            rows.show(line);
            is_published |= line.hop() == Some(5);
            if line.fields["change.offset"].is_u64() {
                missing.retain(|replica| *replica != line.task);
                applied.push(line.task.clone());
            }
        }
        let is_late = is_written && !missing.is_empty() && started.elapsed() > HINT_AFTER;
        if is_late && !std::mem::replace(&mut is_hint_shown, true) {
            rows.show_answer_before(Duration::MAX);
            let missing = missing.join(", ");
            screen.text(&format!(
                "... {missing} has not applied it yet: `{hops} status` shows whether it is paused"
            ));
        }
        sleep(LOG_POLL_INTERVAL).await;
    }
    rows.show_answer_before(Duration::MAX);
    screen.text("");
    screen.text(&format!("answered {} after {:.1} ms: {text}", status.as_u16(), took.as_secs_f64() * 1000.0));
    screen.value(&json!({"request": id, "status": status.as_u16(), "answer": body, "applied": applied}));
    if !is_written {
        bail!("account {WRITTEN_ACCOUNT} was not written: the answer says why");
    }
    if !missing.is_empty() {
        let seconds = WALK_TIMEOUT.as_secs();
        bail!(
            "{} did not apply the change within {seconds} s: `{hops} status` shows why",
            missing.join(", ")
        );
    }
    if !is_published {
        bail!("no event was published: `{hops} service logs accountservice` shows errors");
    }
    Ok(())
}

async fn follow_read(screen: Screen, url: &str, lines: &mut Lines, hops: &str) -> Result<()> {
    let id = format!("walk-{:08x}", rand::random::<u32>());
    screen.text(&format!("curl -H 'x-request-id: {id}' {url}"));
    let (sent, started) = (Timestamp::now(), Instant::now());
    let client = client().timeout(WALK_TIMEOUT).build().unwrap_or_default();
    let answer = client.get(url).header("x-request-id", &id).send().await;
    let answer = answer
        .with_context(|| format!("cannot reach {url} (`{hops} status` shows whether the task runs)"))?;
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    // Shown unchanged, as curl shows it.
    let text = answer.text().await.unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();

    screen.text("");
    screen.text("     ms  hop          replica            what happens");
    let mut rows = Rows { screen, sent, answer: Some((took, status, body["servedBy"].clone())) };
    let mut seen = BTreeSet::new();
    let (mut ended_at, mut is_ended) = (None, body["vip"] != json!(true));
    let mut is_hint_shown = false;
    let deadline = Instant::now() + WALK_TIMEOUT;
    loop {
        for line in lines.read_new().iter().filter(|line| line.field("request") == id && line.hop().is_some())
        {
            rows.show(line);
            seen.extend(line.hop());
            let is_last = line.hop() == Some(9) || line.field("message").starts_with("no offer");
            is_ended |= is_last;
        }
        if is_ended {
            ended_at = ended_at.or(Some(Instant::now()));
        }
        let is_whole = is_ended && seen == (1..=9).collect();
        if is_whole
            || ended_at.is_some_and(|at| at.elapsed() > LATE_LINES_TIMEOUT)
            || Instant::now() > deadline
        {
            break;
        }
        if started.elapsed() > HINT_AFTER && !std::mem::replace(&mut is_hint_shown, true) {
            screen.text(&format!("... the message waits: `{hops} queues` shows where"));
        }
        sleep(LOG_POLL_INTERVAL).await;
    }
    rows.show_answer_before(Duration::MAX);
    screen.text("");
    screen.text(&format!("answered {status} after {:.1} ms: {text}", took.as_secs_f64() * 1000.0));
    screen.value(&json!({"request": id, "status": status, "answer": body, "hops": seen}));
    verdict(screen, status, &body, &seen, hops)
}

/// Table of a walk: the hops, and the answer where it was given.
struct Rows {
    screen: Screen,
    sent: Timestamp,
    /// Answer that is not shown yet: its time after the request, its status, and who gave it.
    answer: Option<(Duration, u16, Value)>,
}

impl Rows {
    /// Prints a hop, or a step of a write, as in `    3.2  4 notify     accountservice.2   account 10000 is a VIP: ...`.
    fn show(&mut self, line: &LogLine) {
        let after = line.at().map(|at| at.duration_since(self.sent)).unwrap_or_default();
        self.show_answer_before(after.try_into().unwrap_or_default());
        if self.screen.json {
            return self.screen.line(&line.text);
        }
        let text = printable(line.field("message"));
        let id = if line.hop().is_some() { "message.id" } else { "change.id" };
        let text = match self.screen.terminal {
            true => shortened(&text, line.field(id)),
            false => text.into_owned(),
        };
        self.row(after.as_secs_f64(), &line.step(), &line.task, &text);
    }

    /// Prints the answer if it was given before this time.
    fn show_answer_before(&mut self, time: Duration) {
        if let Some((after, status, served_by)) = self.answer.take_if(|(after, ..)| *after <= time)
            && !self.screen.json
        {
            let served_by = served_by.as_str().unwrap_or_default();
            self.row(
                after.as_secs_f64(),
                &format!("answer {status}"),
                served_by,
                "the client has its answer",
            );
        }
    }

    fn row(&self, seconds: f64, hop: &str, task: &str, text: &str) {
        self.screen.task_line(&format!("{:>7.1}  {hop:<12} ", seconds * 1000.0), task, text);
    }
}

/// Shortens the message's id to its last characters, since ids of the same minute begin alike, and the text to the line.
fn shortened(text: &str, id: &str) -> String {
    let end = id.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
    let text = if end > 0 { text.replace(id, &format!("…{}", &id[end..])) } else { text.to_owned() };
    let columns = COLUMNS - TEXT_BEGINS_AT;
    match text.chars().count() > columns {
        true => text.chars().take(columns - 1).chain(['…']).collect(),
        false => text,
    }
}

/// Says what is missing; `hops` is the beginning of the commands that help.
fn verdict(screen: Screen, status: u16, body: &Value, seen: &BTreeSet<u64>, hops: &str) -> Result<()> {
    if body["vip"] != json!(true) {
        let why = if status == 200 { "this account is not a VIP's" } else { "no account was read" };
        screen.text(&format!("{why}, so the walk ends here: `{hops} walk 10000` goes further"));
        return Ok(());
    }
    let missing: Vec<_> = (1..=9).filter(|hop| !seen.contains(hop)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if missing == [1, 2, 3] {
        screen.text("hops 1 to 3 are logged at debug only: HOPS_LOG_LEVEL=debug shows them");
        return Ok(());
    }
    if seen.contains(&8) && missing == [9] {
        screen.text("the rule makes no offer at this time: see the setting offer_hours");
        return Ok(());
    }
    if seen.contains(&9) {
        bail!(
            "the offer is made, but no line of hops {missing:?} was logged within {} s of it: `{hops} service logs` \
             shows all lines",
            LATE_LINES_TIMEOUT.as_secs_f32()
        );
    }
    bail!(
        "hops {missing:?} are missing after {} s: `{hops} queues` shows where the message waits, \
         `{hops} service logs` shows errors",
        WALK_TIMEOUT.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_a_terminal_of_a_hundred_columns() {
        let id = "01a1f96d-6636-7439-ba94-c8cf44e4f713";
        for (text, expected) in [
            (
                format!("account 10000 is a VIP: notification {id} is in the outbox"),
                "account 10000 is a VIP: notification …f713 is in the outbox",
            ),
            (
                r#"got a message: {"accountId":"10000","readAt":"2026-11-20T14:47:38.806Z"}"#.to_owned(),
                r#"got a message: {"accountId":"10000","readAt":"2026-11-20T1…"#,
            ),
            ("10000 is an account id".to_owned(), "10000 is an account id"),
        ] {
            assert_eq!(shortened(&text, id), expected);
            assert!(TEXT_BEGINS_AT + expected.chars().count() <= COLUMNS);
        }
        assert_eq!(shortened("no id, no change", ""), "no id, no change");
    }
}
