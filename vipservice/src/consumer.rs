//! Hop 7, consumer: a delivery becomes an outcome.
//!
//! Every error is turned into `Ack`, `Retry` or `DeadLetter` here, in one place. What fails because of
//! the broker does not come up: publishing repeats until it is confirmed.

use std::sync::Arc;

use common::{
    contracts::{VIP_NOTIFICATION, VipNotification},
    messaging::{Delivery, Handler, JSON, Message, Outcome, PublishError},
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tracing::Instrument as _;

use crate::{
    offer::{OfferRules, offer_for},
    offers::Offers,
};

/// The largest body of a notification, in bytes; real ones have 63.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a message is no notification for us.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unreadable {
    /// A newer producer's: a newer replica of ours may take it.
    TooNew(String),
    /// Nobody will ever read it.
    Poison(String),
}

/// What stands between the queue and the stream.
#[derive(Debug)]
pub struct Consumer {
    rules: OfferRules,
    offers: Offers,
    declined: Counter,
}

impl Consumer {
    /// Decides by `rules`, and appends to `offers`.
    #[must_use]
    pub fn new(rules: OfferRules, offers: Offers, registry: &mut Registry) -> Self {
        let declined = Counter::default();
        registry.register(
            "offers_declined",
            "Notifications that the rule made no offer for",
            declined.clone(),
        );
        Self { rules, offers, declined }
    }

    /// What the messaging client calls with each delivery.
    #[must_use]
    pub fn handler(self: &Arc<Self>) -> Handler {
        let consumer = Arc::clone(self);
        Arc::new(move |delivery| {
            let consumer = Arc::clone(&consumer);
            Box::pin(async move { consumer.on_message(delivery).await })
        })
    }

    /// Handles one delivery, in the context of the request that caused it.
    pub async fn on_message(&self, delivery: Delivery) -> Outcome {
        let context = delivery.message.context();
        let span =
            tracing::info_span!("process", request = %context.request_id, trace = %context.trace.trace_id());
        let work = async {
            match self.process(&delivery, &context).await {
                Ok(()) | Err(Failed::Declined) => Outcome::Ack,
                Err(Failed::Unreadable(Unreadable::TooNew(why))) => Outcome::Retry(why),
                Err(Failed::Unreadable(Unreadable::Poison(why))) => Outcome::DeadLetter(why),
                Err(Failed::Unpublishable(error @ PublishError::Invalid(_))) => {
                    Outcome::DeadLetter(error.to_string())
                }
                Err(Failed::Unpublishable(error)) => Outcome::Retry(error.to_string()),
            }
        };
        work.instrument(span).await
    }

    async fn process(
        &self,
        delivery: &Delivery,
        context: &common::trace::RequestContext,
    ) -> Result<(), Failed> {
        let (id, notification) = decode(&delivery.message)?;
        let body = String::from_utf8_lossy(&delivery.message.body);
        tracing::info!(
            hop = 7,
            name = "consumer",
            message.id = id,
            redelivered = delivery.redelivered,
            "got a message: {body}"
        );
        let offer = offer_for(&notification, &self.rules);
        let decision = if offer.is_some() { "an offer" } else { "no offer" };
        let (account, read_at) = (&notification.account_id, notification.read_at);
        tracing::info!(
            hop = 8,
            name = "offer",
            message.id = id,
            "{decision} for account {account}, read at {read_at}"
        );
        let Some(offer) = offer else {
            self.declined.inc();
            return Err(Failed::Declined);
        };
        self.offers.append(delivery, id, offer, context).await?;
        Ok(())
    }
}

/// Why a delivery did not become an offer.
enum Failed {
    Declined,
    Unreadable(Unreadable),
    Unpublishable(PublishError),
}

impl From<Unreadable> for Failed {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<PublishError> for Failed {
    fn from(error: PublishError) -> Self {
        Self::Unpublishable(error)
    }
}

/// The notification in a message, and the message's id.
fn decode(message: &Message) -> Result<(&str, VipNotification), Unreadable> {
    let poison = |why: String| Err(Unreadable::Poison(why));
    let Some(id) = message.id.as_deref().filter(|id| !id.is_empty()) else {
        return poison("it has no message_id, so a repetition could not be told".into());
    };
    let content_type = message.content_type.as_deref().unwrap_or("none");
    if content_type.split(';').next().map(str::trim) != Some(JSON) {
        return poison(format!("its content type is {content_type}, expected {JSON}"));
    }
    if message.body.len() > BODY_LIMIT {
        return poison(format!("its body has {} bytes, {BODY_LIMIT} are allowed", message.body.len()));
    }
    if let Some(kind) = message.kind.as_deref() {
        check_kind(kind)?;
    }
    match serde_json::from_slice::<VipNotification>(&message.body) {
        Ok(notification) if notification.account_id.is_empty() => poison("its accountId is empty".into()),
        Ok(notification) => Ok((id, notification)),
        Err(error) => poison(format!("its body is no notification: {error}")),
    }
}

/// `vip.notification.v1`, and `v1.2` too: a minor version adds, and what was there keeps its meaning.
fn check_kind(kind: &str) -> Result<(), Unreadable> {
    let versioned = |kind: &str| {
        let (name, version) = kind.rsplit_once(".v")?;
        let major: u32 = version.parse().ok()?;
        Some((name.to_owned(), major))
    };
    // A minor version is split off first: "vip.notification.v1.2" is major 1.
    let major = kind
        .rsplit_once('.')
        .filter(|(head, minor)| versioned(head).is_some() && minor.parse::<u32>().is_ok());
    let major = major.map_or(kind, |(head, _)| head);
    if major == VIP_NOTIFICATION {
        return Ok(());
    }
    match (versioned(major), versioned(VIP_NOTIFICATION)) {
        (Some((name, _)), Some((ours, _))) if name == ours => {
            Err(Unreadable::TooNew(format!("its type is {kind}, this replica reads {VIP_NOTIFICATION}")))
        }
        _ => Err(Unreadable::Poison(format!("its type is {kind}, expected {VIP_NOTIFICATION}"))),
    }
}

#[cfg(test)]
mod tests;
