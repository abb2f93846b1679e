//! The server: collects events while the system runs, and answers on one port of this machine until it is stopped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    middleware::map_response,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http_server::{Bounds, CLIENT_TIMEOUT};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    actions::Actions,
    event::{Event, Queue},
    history::History,
    line::without_body,
    merge::Merge,
    page,
    problem::Problem,
    system::{Inputs, System},
    viewer::{Viewer, Watching, array},
};

/// Most connections at a time, with enough open files.
const MAX_CONNECTIONS: usize = 200;
/// Most viewers at a time.
const MAX_VIEWERS: usize = 16;
/// Longest body of a request, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// Time between two looks at what is held back.
const RELEASE_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two requests for the broker's numbers.
const QUEUES_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit for the broker's numbers.
const QUEUES_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the last answers after the server was stopped.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// Settings of one server.
#[derive(Clone)]
pub struct Options {
    /// Token that each request for data has to have.
    pub token: String,
    /// True if there is nothing that changes anything.
    pub read_only: bool,
}

/// State of the routes.
#[derive(Clone)]
struct Live {
    system: Arc<dyn System>,
    history: Arc<History>,
    viewers: watch::Sender<usize>,
    read_only: bool,
    stop: CancellationToken,
}

/// Serves the page until `stop` is cancelled or the system has ended.
pub async fn serve(
    listener: TcpListener,
    system: Arc<dyn System>,
    options: Options,
    stop: CancellationToken,
) {
    let connections = accept::affordable_connections(MAX_CONNECTIONS);
    serve_within(connections, CLIENT_TIMEOUT, listener, system, options, stop).await;
}

/// Serves the page over at most so many connections, within this time limit for clients that keep it waiting.
async fn serve_within(
    connections: usize,
    client_timeout: Duration,
    listener: TcpListener,
    system: Arc<dyn System>,
    options: Options,
    stop: CancellationToken,
) {
    let live = Live {
        system: Arc::clone(&system),
        history: Arc::default(),
        viewers: watch::Sender::new(0),
        read_only: options.read_only,
        stop: stop.clone(),
    };
    let (inputs, received) = Inputs::channel();
    let actions = Actions::new(Arc::clone(&system), inputs.clone());
    let router = router(live.clone(), actions.clone(), options);
    // A client that reads nothing keeps nobody waiting.
    let bounds = Bounds { connections, client_timeout: || client_timeout, finish: || CLOSE_TIMEOUT };
    let serving = http_server::serve_router(listener, router, bounds, stop.clone());
    tokio::select! {
        () = serving => {}
        () = async {
            tokio::join!(
                async { system.follow(&inputs, live.viewers.subscribe()).await; stop.cancel() },
                collect(&live.history, received),
                poll_queues(&*system, &inputs, live.viewers.subscribe()),
                actions.run(live.viewers.subscribe()),
            );
        } => {}
    }
}

/// Brings the events into the order of their times.
async fn collect(history: &History, mut received: mpsc::Receiver<(Timestamp, Event)>) {
    let (mut merge, mut ticks, mut batch) = (Merge::default(), interval(RELEASE_INTERVAL), vec![]);
    loop {
        tokio::select! {
            _ = ticks.tick() => history.append(merge.release(Timestamp::now())),
            _ = received.recv_many(&mut batch, 1_000) => {
                batch.drain(..).for_each(|(at, event)| merge.push(at, event));
            }
        }
    }
}

/// Asks the broker for its numbers while somebody watches, and reports those that have changed.
async fn poll_queues(system: &dyn System, inputs: &Inputs, mut viewers: watch::Receiver<usize>) {
    let (mut known, mut is_up) = (BTreeMap::<String, Queue>::new(), None);
    while viewers.wait_for(|count| *count > 0).await.is_ok() {
        let asked = timeout(QUEUES_TIMEOUT, system.queues()).await;
        let asked = asked.unwrap_or_else(|_| Err("the broker does not answer".into()));
        let at = Timestamp::now();
        if is_up.replace(asked.is_ok()) != Some(asked.is_ok()) {
            let description = system.description();
            let text = asked.as_ref().err().cloned().unwrap_or_else(|| "the broker answers".into());
            inputs.event(at, Event::Broker { up: asked.is_ok(), address: description.broker, text }).await;
        }
        if let Ok(queues) = asked {
            let queues: BTreeMap<_, _> =
                queues.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
            for queue in changes(&known, &queues) {
                inputs.event(at, Event::Queue(queue)).await;
            }
            known = queues;
        }
        sleep(QUEUES_INTERVAL).await;
    }
}

/// Returns the queues that have changed.
fn changes(before: &BTreeMap<String, Queue>, now: &BTreeMap<String, Queue>) -> Vec<Queue> {
    let changed = now.values().filter(|queue| before.get(&queue.name) != Some(queue)).cloned();
    let gone = before.values().filter(|queue| !now.contains_key(&queue.name));
    changed.chain(gone.map(|queue| Queue { gone: true, ..queue.clone() })).collect()
}

fn router(live: Live, actions: Actions, options: Options) -> Router {
    let read_only = options.read_only;
    let api = Router::new()
        .route("/api/events", get(events))
        .route("/api/queues/{name}/messages", get(messages))
        .route("/api/messages/{id}", get(message))
        .with_state(live);
    let api = if read_only { api } else { api.merge(actions.routes()) };
    let api = Access::new(Some(options.token)).guard(api.layer(DefaultBodyLimit::max(MAX_BODY)));
    let nothing = async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address");
    let all = Access::default().guard_sender(page::routes().merge(api).fallback(nothing));
    all.layer(map_response(with_headers))
}

async fn with_headers(mut response: Response) -> Response {
    response.headers_mut().extend(page::HEADERS);
    response
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    after: Option<u64>,
}

async fn events(
    State(live): State<Live>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(EventsQuery { after }) = query.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let too_many = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open: close one");
    let watching = Watching::start(&live.viewers, MAX_VIEWERS).ok_or_else(too_many)?;
    let Live { system, history, read_only, stop, .. } = live;
    let viewer = Viewer { system, history, read_only, watching, stop };
    let body = Body::from_stream(viewer.stream(after));
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

#[derive(Debug, Deserialize)]
struct BodyQuery {
    body: Option<u8>,
}

async fn messages(
    State(live): State<Live>,
    Path(queue): Path<String>,
    query: Result<Query<BodyQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(BodyQuery { body }) = query.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let unavailable = |why| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why);
    let (messages, more) = live.system.messages(&queue).await.map_err(unavailable)?;
    let messages: Vec<_> = messages.into_iter().map(|message| described(message, body == Some(1))).collect();
    Ok(Json(json!({"messages": messages, "more": more})))
}

/// Returns a message as the page shows it; its body, which is somebody's data, only on request.
fn described(message: Value, with_body: bool) -> Value {
    let Value::Object(mut properties) = message else { return message };
    let headers = properties.remove("headers").unwrap_or_else(|| json!({}));
    let body = properties.remove("body").unwrap_or_default();
    let text = body.as_str().unwrap_or_default();
    let mut described = json!({
        "id": properties.get("message_id"),
        "account": headers.get("cloudEvents_subject"),
        "request": properties.get("correlation_id"),
        "attempt": headers.get("x-hops-attempt").and_then(number).unwrap_or_default(),
        "bytes": text.len(),
        "headers": headers,
        "properties": properties,
    });
    if with_body {
        described["body"] = body;
    }
    described
}

/// Returns a number, which a header may have as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

async fn message(
    State(live): State<Live>,
    Path(id): Path<String>,
    query: Result<Query<BodyQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(BodyQuery { body }) = query.map_err(|why| Problem::new(why.status(), why.body_text()))?;
    let events = live.history.of_message(&id);
    let request = events.iter().find_map(|entry| entry.request.clone());
    let mut lines = match request {
        Some(request) => live.system.lines(&request).await,
        None => vec![],
    };
    if body != Some(1) {
        lines.iter_mut().for_each(|line| line.text = without_body(&line.text).to_owned());
    }
    let [id, lines] = [json!(id), json!(lines)].map(|value| value.to_string());
    let text = format!("{{\"id\":{id},\"events\":{},\"lines\":{lines}}}", array(&events));
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// The token is not shown.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
