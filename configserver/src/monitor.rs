//! Tells the services, over the bus, that their settings have changed: when a repository's host says so
//! (`POST /monitor`), when an operator does (`POST /actuator/busrefresh`), when the watcher has seen it, and when the
//! server starts, since its files may be others than before.
//!
//! The services read their settings again; nothing about them is in an event. Who asks over HTTP is answered 503 when
//! the broker has not confirmed within [`PATIENCE`], and can ask again; what was seen here is told when the broker is
//! there.

pub mod push;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{Extensions, HeaderMap, StatusCode, header},
    routing::post,
};
use config_bus::{self, BusId, Change, Event};
use futures_util::future::join_all;
use hmac::{Hmac, Mac as _};
use hops_config::secret::Secret;
use messaging::MessagingClient;
use service::http::{Access, Problem};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

/// How long the broker may take to confirm an event that somebody waits for.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Who is meant when everybody is.
const EVERYBODY: &str = "**";
/// Where the signature is: at GitHub and Gitea, at Bitbucket (GitHub has an older one there), and at Gogs.
const SIGNATURES: [&str; 3] = ["x-hub-signature-256", "x-hub-signature", "x-gogs-signature"];

/// The sender of refreshes.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the client is a trait; nobody prints it")]
pub struct Refresher {
    /// The messaging client.
    pub client: Arc<dyn MessagingClient>,
    /// The bus's exchange.
    pub exchange: String,
    /// Our own name on the bus.
    pub id: BusId,
}

impl Refresher {
    /// Tells those at these destinations, one event for each, to read their settings again; for at most `patience`.
    ///
    /// # Errors
    /// What was not sent, and why; it is in the log already.
    pub async fn refresh<D: AsRef<str>>(&self, destinations: &[D], patience: Duration) -> Result<(), String> {
        let sent = join_all(destinations.iter().map(async |destination| {
            let event = Event::new(&self.id, Some(destination.as_ref()), Change::Refresh);
            let to = event.destination.clone().unwrap_or_default();
            match config_bus::send(&self.client, &self.exchange, &event, patience).await {
                Ok(()) => {
                    tracing::info!(message.id = event.id, "told {to} to read its settings again");
                    Ok(())
                }
                Err(why) => Err(format!("{to}: {why}")),
            }
        }));
        let failed: Vec<_> = sent.await.into_iter().filter_map(Result::err).collect();
        let Some(first) = failed.first() else { return Ok(()) };
        let why = format!("{} of {} not told of new settings: {first}", failed.len(), destinations.len());
        tracing::warn!("{why}");
        Err(why)
    }

    /// Tells everybody once that a server has started, however long the broker is not there, until `stop`.
    pub async fn announce(self, stop: CancellationToken) {
        let event = Event::new(&self.id, Some(EVERYBODY), Change::Refresh);
        let sent = config_bus::send(&self.client, &self.exchange, &event, Duration::MAX);
        match stop.run_until_cancelled(sent).await {
            Some(Ok(())) => {
                tracing::info!(message.id = event.id, "told everybody that this server has started");
            }
            Some(Err(why)) => tracing::warn!("nobody is told that this server has started: {why}"),
            None => {}
        }
    }
}

/// What the routes need.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "as the refresher")]
pub struct Monitor {
    /// The sender.
    pub refresher: Refresher,
    /// Who may ask.
    pub access: Access,
    /// What a repository's host signs its notifications with: who can do that may ask, too.
    pub secret: Option<Secret>,
}

/// `POST /monitor` below its prefix, and `POST /actuator/busrefresh` with or without a destination.
pub fn router(monitor: Monitor, prefix: &str) -> Router {
    let refresh = Router::new()
        .route("/actuator/busrefresh", post(refresh_everybody))
        .route("/actuator/busrefresh/{*destination}", post(refresh_some))
        .with_state(monitor.refresher.clone());
    let refresh = monitor.access.clone().guard(refresh);
    Router::new()
        .route(&format!("{prefix}/monitor"), post(notified))
        .with_state(Arc::new(monitor))
        .merge(refresh)
}

async fn refresh_everybody(State(refresher): State<Refresher>) -> Result<StatusCode, Problem> {
    refresher.refresh(&[EVERYBODY], PATIENCE).await.map_err(Problem::unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn refresh_some(
    State(refresher): State<Refresher>,
    Path(destination): Path<String>,
) -> Result<StatusCode, Problem> {
    let destination = destination.replace('/', ":");
    refresher.refresh(&[destination], PATIENCE).await.map_err(Problem::unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The names that were told, `*` for everybody.
async fn notified(
    State(monitor): State<Arc<Monitor>>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Vec<String>>, Problem> {
    match monitor.secret.as_ref().and_then(|secret| is_signed(secret, &headers, &body)) {
        Some(true) => {}
        Some(false) => {
            let why =
                "the signature is not one with monitor_secret: set the same secret here and at the sender";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        None => monitor.access.check(&extensions, &headers)?,
    }
    let names = names(&headers, &body)?;
    monitor.refresher.refresh(&names, PATIENCE).await.map_err(Problem::unavailable)?;
    Ok(Json(names))
}

fn names(headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/x-www-form-urlencoded" {
        let names = push::names_in_form(&String::from_utf8_lossy(body));
        return names
            .ok_or_else(|| Problem::bad_request("the form has no `path`; a webhook sends application/json"));
    }
    if kind != "application/json" && !kind.ends_with("+json") {
        let why = "send application/json, or a form with `path`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let body: serde_json::Map<_, _> =
        serde_json::from_slice(body).map_err(|e| Problem::bad_request(format!("no JSON object: {e}")))?;
    Ok(push::names_in_json(headers, &body.into()))
}

/// Whether a notification is signed with the secret; `None` if it is not signed at all.
fn is_signed(secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Option<bool> {
    let secret = secret.expose().as_bytes();
    // GitLab sends the secret itself.
    if let Some(token) = headers.get("x-gitlab-token") {
        return Some(secret.ct_eq(token.as_bytes()).into());
    }
    let signature = SIGNATURES.iter().find_map(|name| headers.get(*name))?.to_str().ok();
    let signature = signature.and_then(|text| hex::decode(text.strip_prefix("sha256=").unwrap_or(text)).ok());
    let mac = Hmac::<Sha256>::new_from_slice(secret).ok().map(|mac| mac.chain_update(body));
    Some(signature.zip(mac).is_some_and(|(signature, mac)| mac.verify_slice(&signature).is_ok()))
}

#[cfg(test)]
mod tests;
