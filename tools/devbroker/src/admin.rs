//! What an operator asks and wishes, over HTTP on this machine: who is connected, what waits, and the switches that
//! show what happens when a broker is in trouble.

use std::collections::HashMap;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    core::refusal::Refusal,
    engine::{Command, Engine, Switches},
};

#[derive(Debug, Clone)]
struct Desk {
    commands: mpsc::Sender<Command>,
    switches: Switches,
}

type Answer = Result<Json<Value>, StatusCode>;

/// Answers until it is stopped.
pub(crate) async fn serve(
    listener: TcpListener,
    commands: mpsc::Sender<Command>,
    switches: Switches,
    stop: CancellationToken,
) {
    let app = Router::new()
        .route("/status", get(status))
        .route("/queues", get(queues))
        .route("/queues/{vhost}", get(queues_of))
        // Where RabbitMQ's management plugin has the same.
        .route("/api/queues/{vhost}", get(queues_of))
        .route("/queues/{vhost}/{queue}/messages", get(peek))
        .route("/connections", get(connections))
        .route("/connections/{id}/close", post(close))
        .route("/alarm/{switch}", post(alarm))
        .route("/pause/{switch}", post(pause))
        .route("/drop-confirms/{count}", post(drop_confirms))
        .with_state(Desk { commands, switches });
    // What fails here is a client's connection; nothing else is lost with it.
    let _ = stop.run_until_cancelled(async { axum::serve(listener, app).await }).await;
}

impl Desk {
    async fn ask(&self, question: impl FnOnce(&mut Engine, u64) -> Value + Send + 'static) -> Answer {
        let (answer, answered) = oneshot::channel();
        let gone = StatusCode::SERVICE_UNAVAILABLE;
        self.commands.send(Command::Ask(Box::new(question), answer)).await.map_err(|_| gone)?;
        answered.await.map(Json).map_err(|_| gone)
    }
}

async fn status(State(desk): State<Desk>) -> Answer {
    desk.ask(|engine, _| engine.status()).await
}

async fn queues(State(desk): State<Desk>) -> Answer {
    desk.ask(|engine, _| engine.core.queues_view(None)).await
}

async fn queues_of(State(desk): State<Desk>, Path(vhost): Path<String>) -> Answer {
    desk.ask(move |engine, _| engine.core.queues_view(Some(&vhost))).await
}

async fn peek(
    State(desk): State<Desk>,
    Path((vhost, queue)): Path<(String, String)>,
    Query(query): Query<HashMap<String, usize>>,
) -> Answer {
    let count = query.get("count").copied().unwrap_or(1).min(1_000);
    let peek = move |engine: &mut Engine, _| engine.core.peek(&vhost, &queue, count);
    let Json(messages) = desk.ask(peek).await?;
    if messages.is_null() { Err(StatusCode::NOT_FOUND) } else { Ok(Json(messages)) }
}

async fn connections(State(desk): State<Desk>) -> Answer {
    desk.ask(|engine, _| engine.core.connections_view()).await
}

async fn close(
    State(desk): State<Desk>,
    Path(id): Path<u64>,
    Query(mut query): Query<HashMap<String, String>>,
) -> Answer {
    let reason = query.remove("reason").unwrap_or_else(|| "Closed via management plugin".to_owned());
    let close = move |engine: &mut Engine, now| {
        let closed = engine.core.close_connection(now, id, &Refusal::forced(reason));
        json!({ "closed": closed })
    };
    let Json(closed) = desk.ask(close).await?;
    if closed["closed"] == json!(true) { Ok(Json(closed)) } else { Err(StatusCode::NOT_FOUND) }
}

async fn alarm(State(desk): State<Desk>, Path(switch): Path<String>) -> Answer {
    let on = on_or_off(&switch)?;
    desk.switches.alarm.send_replace(on);
    Ok(Json(json!({ "alarm": on })))
}

async fn pause(State(desk): State<Desk>, Path(switch): Path<String>) -> Answer {
    let on = on_or_off(&switch)?;
    desk.switches.paused.send_replace(on);
    Ok(Json(json!({ "paused": on })))
}

async fn drop_confirms(State(desk): State<Desk>, Path(count): Path<u64>) -> Answer {
    desk.ask(move |engine, _| {
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
