//! The bus's events, as Spring Cloud Bus sends them, and whom they are meant for.
//!
//! One tolerant reader, since anyone may send, and one exact writer; the addresses are in `address`. Nothing here
//! reloads anything: what an event leads to is its receiver's business.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use backoff::Backoff;
use jiff::Timestamp;
use messaging::{JSON, Message, MessagingClient, PublishError};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    SPRING_CLOUD_BUS,
    address::{BusId, EVERYBODY, completed},
};

/// The Java package of the events: an acknowledgment names what it acknowledges by its class.
const PACKAGE: &str = "org.springframework.cloud.bus.event.";

/// An event of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Made by the sender, and the `message_id` too; an acknowledgment repeats it.
    pub id: String,
    /// When it was sent, in milliseconds since 1970.
    pub timestamp: i64,
    /// The sender's id on the bus.
    pub origin: String,
    /// A pattern; without one, everybody is meant.
    pub destination: Option<String>,
    /// The change that is announced.
    pub change: Change,
}

/// A change of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Settings are to be read again.
    Refresh,
    /// The values of some keys have changed.
    Environment(BTreeMap<String, String>),
    /// A receiver has acted on an event.
    Ack {
        /// The event's id.
        id: String,
        /// The event's destination.
        destination: Option<String>,
        /// The event's Java class.
        event: String,
    },
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Refresh => "RefreshRemoteApplicationEvent",
            Self::Environment(_) => "EnvironmentChangeRemoteApplicationEvent",
            Self::Ack { .. } => "AckRemoteApplicationEvent",
        }
    }
}

/// Why a message is no event of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// An event for others, to be passed over: its type.
    #[error("an event of type {0}")]
    Stranger(String),
    /// Nothing that the bus knows.
    #[error("no event of the bus: {0}")]
    Malformed(String),
}

impl Event {
    /// An event of now.
    #[must_use]
    pub fn new(origin: &BusId, destination: Option<&str>, change: Change) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            timestamp: Timestamp::now().as_millisecond(),
            origin: origin.to_string(),
            destination: Some(completed(destination)),
            change,
        }
    }

    /// Returns the event with which a receiver acknowledges this one to all others.
    #[must_use]
    pub fn ack(&self, by: &BusId) -> Self {
        let (id, destination) = (self.id.clone(), self.destination.clone());
        let event = format!("{PACKAGE}{}", self.change.name());
        Self::new(by, None, Change::Ack { id, destination, event })
    }

    /// Tells whether this instance has to act on it: the destination includes it, it did not send it, and it is no acknowledgment.
    #[must_use]
    pub fn is_for(&self, instance: &BusId) -> bool {
        !matches!(self.change, Change::Ack { .. })
            && self.origin != instance.as_str()
            && instance.is_addressed_by(self.destination.as_deref())
    }

    /// Reads what anyone may have sent: only the type has to be there.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(body: &[u8]) -> Result<Self, Unread> {
        let event: Value = serde_json::from_slice(body).map_err(|e| Unread::Malformed(e.to_string()))?;
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let kind = text("type").ok_or_else(|| Unread::Malformed("it has no `type`".into()))?;
        let change = match kind.as_str() {
            "RefreshRemoteApplicationEvent" => Change::Refresh,
            "EnvironmentChangeRemoteApplicationEvent" => {
                let values = event.get("values").and_then(Value::as_object).into_iter().flatten();
                let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                Change::Environment(values.map(|(key, value)| (key.clone(), shown(value))).collect())
            }
            "AckRemoteApplicationEvent" => Change::Ack {
                id: text("ackId").unwrap_or_default(),
                destination: text("ackDestinationService"),
                event: text("event").unwrap_or_default(),
            },
            _ => return Err(Unread::Stranger(kind)),
        };
        Ok(Self {
            id: text("id").unwrap_or_else(|| Uuid::now_v7().to_string()),
            timestamp: event.get("timestamp").and_then(Value::as_i64).unwrap_or_default(),
            origin: text("originService").unwrap_or_default(),
            destination: text("destinationService"),
            change,
        })
    }

    /// The event as it is published.
    ///
    /// # Errors
    /// [`PublishError::Invalid`] if it cannot be written as JSON.
    pub fn message(&self) -> Result<Message, PublishError> {
        let mut written = Written {
            kind: self.change.name(),
            timestamp: self.timestamp,
            origin_service: &self.origin,
            destination_service: self.destination.as_deref().unwrap_or(EVERYBODY),
            id: &self.id,
            ..Written::default()
        };
        match &self.change {
            Change::Refresh => {}
            Change::Environment(values) => written.values = Some(values),
            Change::Ack { id, destination, event } => {
                written.ack_id = Some(id);
                written.ack_destination_service = destination.as_deref();
                written.event = Some(event);
            }
        }
        let body = serde_json::to_vec(&written).map_err(|e| PublishError::Invalid(e.to_string()))?;
        Ok(Message {
            id: Some(self.id.clone()),
            content_type: Some(JSON.to_owned()),
            timestamp: u64::try_from(self.timestamp / 1000).ok(),
            body: body.into(),
            ..Message::default()
        })
    }
}

/// An event's members. There are no others: not every receiver passes over what it does not know.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: i64,
    origin_service: &'a str,
    destination_service: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<&'a BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_destination_service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
}

/// Publishes an event to the bus's exchange, again and again until the broker has confirmed it, for at most
/// `patience`. It is no error if no service listens.
///
/// # Errors
/// Why it was not sent, in a sentence.
pub async fn send(
    client: &Arc<dyn MessagingClient>,
    event: &Event,
    patience: Duration,
) -> Result<(), String> {
    let message = event.message().map_err(|e| e.to_string())?;
    let confirmed = async {
        let mut backoff = Backoff::default();
        loop {
            match client.broadcast(SPRING_CLOUD_BUS, SPRING_CLOUD_BUS, message.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ (PublishError::Invalid(_) | PublishError::Closed)) => {
                    return Err(error.to_string());
                }
                Err(_) => backoff.wait().await,
            }
        }
    };
    timeout(patience, confirmed).await.unwrap_or_else(|_| {
        let why = client.status().check().unwrap_or_else(|why| why);
        Err(format!("the broker has not confirmed the event within {patience:?}: {why}"))
    })
}

#[cfg(test)]
mod tests;
