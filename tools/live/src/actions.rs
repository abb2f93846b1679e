//! What a person can do on the page: each action is a POST request, and has a command that does the same.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    routing::post,
};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use crate::{
    event::Event,
    problem::Problem,
    system::{ACTIONS, Action, Inputs, System},
};

/// Most reads in one action.
const MAX_COUNT: u32 = 10;
/// Most reads per second.
const MAX_RATE: u32 = 50;
/// Longest account id and longest text of an offer, in characters.
const MAX_TEXT: usize = 200;
/// Most reads of a steady rate that wait for their answers; further ones are left out.
const MAX_READS_IN_FLIGHT: usize = 50;

/// Account and number of reads per second, while there are any.
type Rate = Option<(String, u32)>;

/// State of the actions.
#[derive(Clone)]
pub(crate) struct Actions {
    system: Arc<dyn System>,
    inputs: Inputs,
    rate: watch::Sender<Rate>,
}

impl Actions {
    pub(crate) fn new(system: Arc<dyn System>, inputs: Inputs) -> Self {
        Self { system, inputs, rate: watch::Sender::new(None) }
    }

    /// Returns the routes.
    pub(crate) fn routes(self) -> Router {
        Router::new().route("/api/actions/{name}", post(act)).with_state(self)
    }

    /// Makes the reads of the steady rate, as long as somebody watches.
    pub(crate) async fn run(self, mut viewers: watch::Receiver<usize>) {
        let (mut rate, reads) = (self.rate.subscribe(), TaskTracker::new());
        loop {
            let wanted = match rate.wait_for(Option::is_some).await {
                Ok(wanted) => wanted.clone(),
                Err(_) => return,
            };
            let Some((account, per_second)) = wanted else { continue };
            let mut ticks = interval(Duration::from_secs(1) / per_second.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = rate.changed() => break,
                    // Nobody would see them, and nobody could stop them.
                    _ = viewers.wait_for(|count| *count == 0) => {
                        self.rate.send_replace(None);
                        break;
                    }
                    _ = ticks.tick() => {}
                }
                if reads.len() < MAX_READS_IN_FLIGHT {
                    let (this, account) = (self.clone(), account.clone());
                    reads.spawn(async move { this.read(&account).await });
                }
            }
        }
    }

    /// Makes one read, and reports its answer.
    async fn read(&self, account: &str) -> Result<u16, String> {
        let request = format!("live-{:012x}", unique());
        let started = Instant::now();
        let status = self.system.read(account, &request).await;
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answer = match &status {
            Ok(status) => Event::Answer { request, status: *status, ms, account: account.to_owned() },
            Err(why) => Event::Log {
                task: "client".into(),
                level: "WARN".into(),
                request: Some(request),
                id: None,
                text: why.clone(),
            },
        };
        self.inputs.event(Timestamp::now(), answer).await;
        status
    }

    async fn perform(&self, action: &Action) -> Result<String, String> {
        match action {
            Action::Read { account, count } => {
                let answers = join_all((0..*count).map(|_| self.read(account))).await;
                let answered = answers.iter().filter(|answer| matches!(answer, Ok(200))).count();
                match answers.into_iter().find(|answer| !matches!(answer, Ok(200))) {
                    None => Ok(format!("{answered} of {count} reads answered with 200")),
                    Some(Ok(status)) => {
                        Ok(format!("{answered} of {count} reads answered with 200, others with {status}"))
                    }
                    Some(Err(why)) => Err(why),
                }
            }
            Action::Rate { account, per_second } => {
                let rate = (*per_second > 0).then(|| (account.clone(), *per_second));
                self.rate.send_replace(rate);
                Ok(format!("reads {per_second} times per second until the rate is 0 or this page is closed"))
            }
            other => self.system.act(other).await,
        }
    }
}

async fn act(
    State(actions): State<Actions>,
    Path(name): Path<String>,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    if !ACTIONS.contains(&name.as_str()) {
        let names = ACTIONS.join(", ");
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no such action; there are {names}"),
        ));
    }
    let Json(values) = body.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let wrong = |why: String| Problem::new(StatusCode::BAD_REQUEST, why);
    let action = parse(&name, &values).map_err(wrong)?;
    let description = actions.system.description();
    if let Some(why) = description.actions.get(&name).and_then(|action| action.why.clone()) {
        return Err(Problem::new(StatusCode::CONFLICT, why));
    }
    let failed = |why| Problem::new(StatusCode::BAD_GATEWAY, why);
    // A click is done to its end even if the page is closed meanwhile.
    let text = actions.perform(&action).await.map_err(failed)?;
    Ok(Json(json!({"text": text})))
}

/// Returns the action of this name with these values.
fn parse(name: &str, values: &Map<String, Value>) -> Result<Action, String> {
    let mut values = values.clone();
    values.insert("action".into(), name.into());
    let action = serde_json::from_value(Value::Object(values)).map_err(|why| why.to_string())?;
    let is_text =
        |text: &str| (1..=MAX_TEXT).contains(&text.chars().count()) && !text.contains(char::is_control);
    match &action {
        Action::Read { account, .. } | Action::Rate { account, .. } if !is_text(account) => {
            Err(format!("account: write 1 to {MAX_TEXT} characters"))
        }
        Action::Read { count, .. } if !(1..=MAX_COUNT).contains(count) => {
            Err(format!("count: write a number from 1 to {MAX_COUNT}"))
        }
        Action::Rate { per_second, .. } if *per_second > MAX_RATE => {
            Err(format!("perSecond: write a number from 0 to {MAX_RATE}"))
        }
        Action::OfferText { text } if !is_text(text) => {
            Err(format!("text: write one line of 1 to {MAX_TEXT} characters"))
        }
        _ => Ok(action),
    }
}

/// Returns a number for a request id that no other read of this machine has.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static READS: AtomicU64 = AtomicU64::new(0);
    let micros = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
    (micros << 8) + READS.fetch_add(1, Ordering::Relaxed) % 256
}

impl std::fmt::Debug for Actions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actions").field("rate", &self.rate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap()
    }

    #[test]
    fn an_action_has_its_values_within_their_limits() {
        let read = |count| Ok(Action::Read { account: "10000".into(), count });
        for (name, given, expected) in [
            ("read", json!({"account": "10000", "count": 10}), read(10)),
            ("read", json!({"account": "10000"}), read(1)),
            ("read", json!({"account": "10000", "count": 11}), Err("count")),
            ("read", json!({"account": "", "count": 1}), Err("account")),
            ("read", json!({"account": "1\n"}), Err("account")),
            ("read", json!({"account": 7}), Err("invalid type")),
            ("rate", json!({"account": "1", "perSecond": 51}), Err("perSecond")),
            ("kill", json!({"task": "a.1"}), Ok(Action::Kill { task: "a.1".into() })),
            ("kill", json!({}), Err("missing field `task`")),
            ("cut", json!({}), Ok(Action::Cut {})),
            ("cut", json!({"action": "kill", "task": "a.1"}), Err("unknown field `task`")),
            ("offer-text", json!({"text": "a\nb: c"}), Err("text")),
            ("restart-broker", json!({}), Ok(Action::RestartBroker {})),
        ] {
            match (parse(name, &values(&given)), expected) {
                (Ok(action), Ok(expected)) => assert_eq!(action, expected, "{name} {given}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{name} {given}: {why}"),
                (found, expected) => panic!("{name} {given}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn request_ids_differ() {
        assert_ne!(unique(), unique());
    }
}
