//! `read`: reads an account some times, one after the other or at a steady rate.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{address, client};
use crate::{
    cli::Read,
    failure::{Failure, Result},
    project::Project,
    render::Screen,
    state,
};

const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Most reads that are shown with a line each; of more, those that are not answered with 200 are.
const MAX_SHOWN: u32 = 10;

/// Result of one read.
#[derive(Debug, Clone)]
struct Answer {
    request: String,
    /// Status, or why there is none.
    status: Result<u16, String>,
    took: Duration,
    served_by: String,
}

impl Answer {
    fn is_ok(&self) -> bool {
        self.status == Ok(200)
    }

    fn ms(&self) -> f64 {
        self.took.as_secs_f64() * 1000.0
    }
}

/// Reads an account, and shows each answer, or only a summary of many.
///
/// # Errors
/// A read is not answered with 200.
pub async fn read(project: &Project, screen: Screen, options: &Read) -> Result<(), Failure> {
    let plan = state::load_plan(project)?;
    let url = format!("{}/accounts/{}", address(&plan, "accountservice")?, options.account);
    let count = options.count.or(options.rate.is_none().then_some(1)).filter(|count| *count > 0);
    let is_each_shown = count.is_none_or(|count| count <= MAX_SHOWN);
    let mut answers = vec![];
    let mut on_answer = |answer: Answer| {
        show(screen, &answer, is_each_shown);
        answers.push((answer.is_ok(), answer.took, answer.served_by));
    };
    tokio::select! {
        () = send(&url, count, options.rate, &mut on_answer) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    if answers.len() > 1 {
        screen.text(&summary(&mut answers));
    }
    match answers.iter().all(|(is_ok, ..)| *is_ok) {
        true => Ok(()),
        false => Err(Failure::AlreadyReported),
    }
}

/// Sends the reads: each when the one before it is answered, or, with a rate, whether or not it is.
async fn send(url: &str, count: Option<u32>, rate: Option<u32>, on_answer: &mut impl FnMut(Answer)) {
    // Each read has a connection of its own, as with curl, so that the replicas take turns.
    let client = client().pool_max_idle_per_host(0).timeout(READ_TIMEOUT);
    let client = client.build().unwrap_or_default();
    let mut numbers = 0..count.unwrap_or(u32::MAX);
    let Some(rate) = rate else {
        while !output::is_lost() && numbers.next().is_some() {
            on_answer(read_once(client.clone(), url.to_owned()).await);
        }
        return;
    };
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_flight = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick(), if !numbers.is_empty() && !output::is_lost() => {
                numbers.next();
                in_flight.spawn(read_once(client.clone(), url.to_owned()));
            }
            Some(done) = in_flight.join_next() => if let Ok(answer) = done { on_answer(answer) },
            else => return,
        }
    }
}

async fn read_once(client: reqwest::Client, url: String) -> Answer {
    let request = format!("read-{:08x}", rand::random::<u32>());
    let started = Instant::now();
    let answer = client.get(url).header("x-request-id", &request).send().await;
    let took = started.elapsed();
    match answer {
        Ok(answer) => {
            let status = Ok(answer.status().as_u16());
            let body: Value = answer.json().await.unwrap_or_default();
            let served_by = body["servedBy"].as_str().unwrap_or_default().to_owned();
            Answer { request, status, took, served_by }
        }
        Err(error) => {
            Answer { request, status: Err(error.without_url().to_string()), took, served_by: String::new() }
        }
    }
}

/// Prints an answer, as in `200  2.3 ms  accountservice.1  read-5d1e90ab`.
fn show(screen: Screen, answer: &Answer, is_each_shown: bool) {
    let (status, error) = (answer.status.as_ref().ok(), answer.status.as_ref().err());
    screen.value(&json!({
        "request": answer.request,
        "status": status,
        "error": error,
        "ms": answer.ms(),
        "servedBy": answer.served_by,
    }));
    if is_each_shown || !answer.is_ok() {
        let status = status.map_or_else(|| "---".into(), u16::to_string);
        let why = error.map_or_else(String::new, |why| format!("  {why}"));
        let before = format!("{status} {:>8.1} ms  ", answer.ms());
        if !screen.json {
            screen.task_line(&before, &answer.served_by, &format!("{}{why}", answer.request));
        }
    }
}

/// Summarizes some reads: how many were answered with 200, how fast, and by whom.
fn summary(answers: &mut [(bool, Duration, String)]) -> String {
    answers.sort_by_key(|(_, took, _)| *took);
    let ms = |index: usize| answers[index].1.as_secs_f64() * 1000.0;
    let answered = answers.iter().filter(|(is_ok, ..)| *is_ok).count();
    let mut by_replica = BTreeMap::<&str, usize>::new();
    for (_, _, served_by) in answers.iter().filter(|(.., served_by)| !served_by.is_empty()) {
        *by_replica.entry(served_by).or_default() += 1;
    }
    let by_replica: Vec<_> = by_replica.iter().map(|(task, count)| format!("{task} {count}")).collect();
    let by_replica = if by_replica.is_empty() { "nobody".to_owned() } else { by_replica.join(", ") };
    format!(
        "{} reads - answered with 200: {answered} - median {:.1} ms, longest {:.1} ms - {by_replica}",
        answers.len(),
        ms(answers.len() / 2),
        ms(answers.len() - 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_answers_and_replicas() {
        let answer = |is_ok, ms, task: &str| (is_ok, Duration::from_millis(ms), task.to_owned());
        let mut answers =
            [answer(true, 3, "a.2"), answer(false, 9, ""), answer(true, 1, "a.1"), answer(true, 2, "a.2")];
        assert_eq!(
            summary(&mut answers),
            "4 reads - answered with 200: 3 - median 3.0 ms, longest 9.0 ms - a.1 1, a.2 2"
        );
    }
}
