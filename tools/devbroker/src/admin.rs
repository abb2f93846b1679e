//! The HTTP interface for operators, on this machine only: queues, messages and connections, and switches that
//! simulate a broker in trouble.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use browser_guard::Hosts;
use http_server::{Bounds, CLIENT_TIMEOUT};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::error::AmqpError,
    engine::{Command, Engine, Switches},
};

/// Time for the last answers when the broker stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

#[derive(Debug, Clone)]
struct AdminState {
    commands: mpsc::Sender<Command>,
    switches: Switches,
}

/// The part of RabbitMQ's settings of a vhost that this broker has.
#[derive(Debug, Deserialize)]
struct VhostSettings {
    tracing: bool,
}

type Answer = Result<Json<Value>, StatusCode>;

/// Serves requests until the broker stops, over at most `limit` connections at a time.
pub(crate) async fn serve(
    listener: TcpListener,
    limit: usize,
    commands: mpsc::Sender<Command>,
    switches: Switches,
    stop: CancellationToken,
) {
    let app = Router::new()
        .route("/status", get(status))
        .route("/queues", get(queues))
        .route("/queues/{vhost}", get(queues_of))
        // These are addresses of RabbitMQ's management plugin, too.
        .route("/api/queues/{vhost}", get(queues_of))
        .route("/api/vhosts/{vhost}", put(put_vhost))
        .route("/queues/{vhost}/{queue}/messages", get(peek))
        .route("/connections", get(connections))
        .route("/connections/{id}/close", post(close))
        .route("/alarm/{switch}", post(alarm))
        .route("/pause/{switch}", post(pause))
        .route("/drop-confirms/{count}", post(drop_confirms))
        .with_state(AdminState { commands, switches })
        .layer(from_fn(guarded));
    let bounds = Bounds { connections: limit, client_timeout: || CLIENT_TIMEOUT, finish: || CLOSE_TIMEOUT };
    http_server::serve_router(listener, app, bounds, stop).await;
}

/// Refuses what a browser sends for a page of elsewhere: nothing here asks for a password.
async fn guarded(request: Request, next: Next) -> Response {
    match Hosts::default().check(&request) {
        Ok(()) => next.run(request).await,
        Err(why) => (why.status(), format!("{why}\n")).into_response(),
    }
}

impl AdminState {
    async fn ask(&self, query: impl FnOnce(&mut Engine, u64) -> Value + Send + 'static) -> Answer {
        let (answer, answered) = oneshot::channel();
        let gone = StatusCode::SERVICE_UNAVAILABLE;
        self.commands.send(Command::Query(Box::new(query), answer)).await.map_err(|_| gone)?;
        answered.await.map(Json).map_err(|_| gone)
    }
}

async fn status(State(admin): State<AdminState>) -> Answer {
    admin.ask(|engine, _| engine.status()).await
}

async fn queues(State(admin): State<AdminState>) -> Answer {
    admin.ask(|engine, _| engine.core.queues_view(None)).await
}

async fn queues_of(State(admin): State<AdminState>, Path(vhost): Path<String>) -> Answer {
    admin.ask(move |engine, _| engine.core.queues_view(Some(&vhost))).await
}

async fn peek(
    State(admin): State<AdminState>,
    Path((vhost, queue)): Path<(String, String)>,
    Query(query): Query<HashMap<String, usize>>,
) -> Answer {
    let count = query.get("count").copied().unwrap_or(1).min(1_000);
    let peek = move |engine: &mut Engine, _| engine.core.peek(&vhost, &queue, count);
    let Json(messages) = admin.ask(peek).await?;
    if messages.is_null() { Err(StatusCode::NOT_FOUND) } else { Ok(Json(messages)) }
}

async fn connections(State(admin): State<AdminState>) -> Answer {
    admin.ask(|engine, _| engine.core.connections_view()).await
}

async fn close(
    State(admin): State<AdminState>,
    Path(id): Path<u64>,
    Query(mut query): Query<HashMap<String, String>>,
) -> Answer {
    let reason = query.remove("reason").unwrap_or_else(|| "Closed via management plugin".to_owned());
    let close = move |engine: &mut Engine, now| {
        let closed = engine.core.close_connection(now, id, &AmqpError::forced(reason));
        json!({ "closed": closed })
    };
    let Json(closed) = admin.ask(close).await?;
    if closed["closed"] == json!(true) { Ok(Json(closed)) } else { Err(StatusCode::NOT_FOUND) }
}

async fn alarm(State(admin): State<AdminState>, Path(switch): Path<String>) -> Answer {
    let on = on_or_off(&switch)?;
    admin.switches.alarm.send_replace(on);
    Ok(Json(json!({ "alarm": on })))
}

async fn pause(State(admin): State<AdminState>, Path(switch): Path<String>) -> Answer {
    let on = on_or_off(&switch)?;
    admin.switches.paused.send_replace(on);
    Ok(Json(json!({ "paused": on })))
}

/// Switches the firehose of a vhost, which is created if it is new.
async fn put_vhost(
    State(admin): State<AdminState>,
    Path(vhost): Path<String>,
    Json(VhostSettings { tracing }): Json<VhostSettings>,
) -> Result<StatusCode, StatusCode> {
    let switch = move |engine: &mut Engine, _| {
        engine.core.set_tracing(&vhost, tracing.then(|| engine.node.clone()));
        Value::Null
    };
    admin.ask(switch).await.map(|_| StatusCode::NO_CONTENT)
}

async fn drop_confirms(State(admin): State<AdminState>, Path(count): Path<u64>) -> Answer {
    admin
        .ask(move |engine, _| {
            engine.core.drop_confirms(count);
            json!({ "drop_confirms": count })
        })
        .await
}

fn on_or_off(switch: &str) -> Result<bool, StatusCode> {
    match switch {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(StatusCode::NOT_FOUND),
    }
}
