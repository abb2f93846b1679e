//! Refresh events over the bus, by which services read their settings again. They are sent when a repository's host
//! reports a push (`POST /monitor`), when an operator asks for it (`POST /actuator/busrefresh`), when the watcher finds a
//! change, and when the server starts, since its files may be others than before.
//!
//! An event has no settings in it. An HTTP client is answered 503 if the broker has not confirmed within
//! [`CONFIRM_TIMEOUT`], and can try again. Events of the watcher and of the start wait until the broker is back.

pub mod push;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{Extensions, HeaderMap, Method, StatusCode, header},
    routing::post,
};
use config_bus::{self, BusId, Change, Event};
use documented::DocumentedFields;
use futures_util::future::join_all;
use hmac::{Hmac, Mac as _};
use hops_config::{
    InvalidValue, Section,
    secret::{Secret, SecretFile},
};
use messaging::MessagingClient;
use serde::{Deserialize, Serialize};
use service::http::{Access, Problem, Route, table};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

/// Time limit for the broker's confirm of an event for which a client waits.
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// Destination of an event for all services.
const ALL_SERVICES: &str = "**";
/// Headers with a signature: of GitHub and Gitea, of Bitbucket (where GitHub has an older one), and of Gogs.
const SIGNATURES: [&str; 3] = ["x-hub-signature-256", "x-hub-signature", "x-gogs-signature"];

/// The settings of refresh events.
#[derive(Debug, Clone, Default, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// The secret with which a repository's host signs its notifications to /monitor (default none: they need the
    /// rights of an operator)
    pub monitor_secret: Option<Secret>,
    /// A file that holds that secret, such as a Docker secret
    pub monitor_secret_file: Option<SecretFile>,
    /// The server's name on the bus (default config-server:PROFILE:INSTANCE:RANDOM) [spring.cloud.bus.id]
    pub bus_id: Option<String>,
}

impl Section for Settings {}

impl Settings {
    /// Returns the secret of [`Monitor`], if one is set.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn secret(&self) -> Result<Option<Secret>, InvalidValue> {
        let (secret, file) = (self.monitor_secret.as_ref(), self.monitor_secret_file.as_ref());
        Secret::given_or_in_file("monitor_secret", secret, file)
    }
}

/// Sender of refresh events.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the client is a trait; nobody prints it")]
pub struct Refresher {
    /// The messaging client.
    pub client: Arc<dyn MessagingClient>,
    /// This server's name on the bus.
    pub id: BusId,
}

impl Refresher {
    /// Sends one refresh event to each destination, and waits for the broker's confirms until the time limit.
    ///
    /// # Errors
    /// The number of events that were not sent, and the first reason. It is logged already.
    pub async fn refresh<D: AsRef<str>>(&self, destinations: &[D], timeout: Duration) -> Result<(), String> {
        let sent = join_all(destinations.iter().map(async |destination| {
            let event = Event::new(&self.id, Some(destination.as_ref()), Change::Refresh);
            let to = event.destination.clone().unwrap_or_default();
            match config_bus::send(&self.client, &event, timeout).await {
                Ok(()) => {
                    tracing::info!(message.id = event.id, "refresh event sent to {to}");
                    Ok(())
                }
                Err(why) => Err(format!("{to}: {why}")),
            }
        }));
        let failed: Vec<_> = sent.await.into_iter().filter_map(Result::err).collect();
        let Some(first) = failed.first() else { return Ok(()) };
        let why = format!("{} of {} refresh events not sent: {first}", failed.len(), destinations.len());
        tracing::warn!("{why}");
        Err(why)
    }

    /// Sends one refresh event to all services after a start. It waits for the broker until `stop`.
    pub async fn announce(self, stop: CancellationToken) {
        let event = Event::new(&self.id, Some(ALL_SERVICES), Change::Refresh);
        let sent = config_bus::send(&self.client, &event, Duration::MAX);
        match stop.run_until_cancelled(sent).await {
            Some(Ok(())) => {
                tracing::info!(
                    message.id = event.id,
                    "refresh event sent to all services, since this server has started"
                );
            }
            Some(Err(why)) => tracing::warn!("no refresh event was sent after the start: {why}"),
            None => {}
        }
    }
}

/// State of the routes.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "as the refresher")]
pub struct Monitor {
    /// The sender.
    pub refresher: Refresher,
    /// Access of operators.
    pub access: Access,
    /// Secret with which a repository's host signs its notifications. A valid signature grants access, too.
    pub secret: Option<Secret>,
}

/// The address for a repository's host.
pub const NOTIFIED: &[Route<Arc<Monitor>>] = &[(Method::POST, "/monitor", || post(notified))];
/// The addresses of a refresh, with or without a destination.
pub const REFRESH: &[Route<Refresher>] = &[
    (Method::POST, "/actuator/busrefresh", || post(refresh_all)),
    (Method::POST, "/actuator/busrefresh/{*destination}", || post(refresh_some)),
];

/// Returns the routes of notifications and refreshes.
pub fn router(monitor: Monitor) -> Router {
    let refresh = monitor.access.clone().guard(table(REFRESH).with_state(monitor.refresher.clone()));
    table(NOTIFIED).with_state(Arc::new(monitor)).merge(refresh)
}

async fn refresh_all(State(refresher): State<Refresher>) -> Result<StatusCode, Problem> {
    refresher.refresh(&[ALL_SERVICES], CONFIRM_TIMEOUT).await.map_err(Problem::unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn refresh_some(
    State(refresher): State<Refresher>,
    Path(destination): Path<String>,
) -> Result<StatusCode, Problem> {
    let destination = destination.replace('/', ":");
    refresher.refresh(&[destination], CONFIRM_TIMEOUT).await.map_err(Problem::unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers the names that got an event, `*` for all services.
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
                "the signature does not match monitor_secret: set the same secret here and at the sender";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        None => monitor.access.check(&extensions, &headers)?,
    }
    let names = names(&headers, &body)?;
    monitor.refresher.refresh(&names, CONFIRM_TIMEOUT).await.map_err(Problem::unavailable)?;
    Ok(Json(names))
}

fn names(headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/x-www-form-urlencoded" {
        let names = push::names_in_form(&String::from_utf8_lossy(body));
        return names.ok_or_else(|| {
            Problem::bad_request("the form has no `path`; let the webhook send application/json")
        });
    }
    if kind != "application/json" && !kind.ends_with("+json") {
        let why = "send application/json, or a form with `path`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let body: serde_json::Map<_, _> = serde_json::from_slice(body)
        .map_err(|e| Problem::bad_request(format!("the body is not a JSON object: {e}")))?;
    Ok(push::names_in_json(headers, &body.into()))
}

/// Returns whether a notification is signed with the secret; `None` if it has no signature.
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
