//! Hop 7, consumer: a delivery becomes an outcome.
//!
//! Every result becomes `Ack`, `Retry` or `DeadLetter` here, in one place. If the broker fails, the client publishes
//! again, and there is no outcome yet; a publish fails only when the service stops, or when no broker can take the offer.

mod settings;

use std::sync::Arc;

use contracts::{Kind, RequestContext, VIP_NOTIFICATION, VipNotification};
use hops_config::{Live, LiveSection};
use messaging::{
    Delivery, Handler, JSON, Message, Outcome, PublishError, handler, metrics::counter, retry::FailureHistory,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tracing::Instrument as _;

pub use self::settings::Settings;
use crate::{
    offer::{self, OfferRules, offer_for},
    offers::Offers,
};

/// Reasons for which a delivery is not handled.
#[derive(Debug)]
enum Failed {
    /// It has a major version that this replica does not read; another may.
    OtherVersion(String),
    /// No replica can ever read it.
    Poison(String),
    /// No broker can take the offer, or the service is stopping.
    Unpublished(PublishError),
}

/// The consumer of notifications, from the queue to the stream.
#[derive(Debug)]
pub struct Consumer {
    rules: Live<OfferRules>,
    limit: Live<usize>,
    offers: Offers,
    declined: Counter,
}

impl Consumer {
    /// Returns a consumer that applies the current rules to each delivery, and appends to `offers`.
    #[must_use]
    pub fn new(
        settings: &LiveSection<Settings>,
        rules: &LiveSection<offer::Settings>,
        offers: Offers,
        registry: &mut Registry,
    ) -> Self {
        let help = "Notifications that lead to no offer";
        let declined = counter(registry, "offers_declined", help);
        let limit = settings.live(|settings, moment| *settings.notification_limit.at(moment));
        Self { rules: rules.live(offer::Settings::rules), limit, offers, declined }
    }

    /// Returns the handler for the messaging client.
    #[must_use]
    pub fn handler(self: &Arc<Self>) -> Handler {
        let consumer = Arc::clone(self);
        handler(move |delivery| Arc::clone(&consumer).on_message(delivery))
    }

    /// Handles one delivery, in the context of the request that caused it.
    pub async fn on_message(self: Arc<Self>, delivery: Delivery) -> Outcome {
        let context = RequestContext::of(&delivery.message);
        let span =
            tracing::info_span!("process", request = context.request_id.as_str(), trace = context.trace.id());
        let work = async {
            match self.process(&delivery, &context).await {
                Ok(()) => Outcome::Ack,
                Err(Failed::OtherVersion(why)) => Outcome::Retry(why),
                Err(Failed::Poison(why)) => Outcome::DeadLetter(why),
                Err(Failed::Unpublished(PublishError::Invalid(why))) => Outcome::DeadLetter(why),
                Err(Failed::Unpublished(error)) => Outcome::Retry(error.to_string()),
            }
        };
        work.instrument(span).await
    }

    async fn process(&self, delivery: &Delivery, context: &RequestContext) -> Result<(), Failed> {
        failpoint::reach("handling");
        let (id, redelivered) = (delivery.message.shown_id(), delivery.redelivered);
        let attempt = FailureHistory::of(&delivery.message).next_attempt();
        let body = String::from_utf8_lossy(&delivery.message.body);
        tracing::info!(
            hop = 7,
            name = "consumer",
            message.id = id,
            message.attempt = attempt,
            message.redelivered = redelivered,
            "got a message: {body:.200}"
        );
        let (id, notification) = decode(&delivery.message, self.limit.get())?;
        let offer = offer_for(&notification, &self.rules.get());
        let decision = if offer.is_some() { "an offer" } else { "no offer" };
        let (account, read_at) = (&notification.account_id, notification.read_at);
        tracing::info!(
            hop = 8,
            name = "offer",
            message.id = id,
            "{decision} for account {account}, read at {read_at}"
        );
        match offer {
            Some(offer) => {
                self.offers.append(delivery, id, offer, context).await.map_err(Failed::Unpublished)
            }
            None => {
                self.declined.inc();
                tracing::info!(
                    delivery.outcome = "declined",
                    message.id = id,
                    message.attempt = attempt,
                    "notification {id} is declined"
                );
                Ok(())
            }
        }
    }
}

/// Reads the message's id and the notification in it.
fn decode(message: &Message, limit: usize) -> Result<(&str, VipNotification), Failed> {
    let poison = |why: String| Err(Failed::Poison(why));
    let Some(id) = message.id.as_deref().filter(|id| !id.is_empty()) else {
        return poison("it has no message_id, so duplicates could not be detected".into());
    };
    let content_type = message.content_type.as_deref().unwrap_or("none");
    if content_type.split(';').next().map(str::trim) != Some(JSON) {
        return poison(format!("its content type is {content_type}, expected {JSON}"));
    }
    if message.body.len() > limit {
        return poison(format!("its body has {} bytes, {limit} are allowed", message.body.len()));
    }
    if let Some(kind) = message.kind.as_deref() {
        let why = format!("its type is {kind}, this replica reads {VIP_NOTIFICATION}");
        match Kind::of(kind, VIP_NOTIFICATION) {
            Kind::Ours => {}
            Kind::OtherVersion => return Err(Failed::OtherVersion(why)),
            Kind::Foreign => return Err(Failed::Poison(why)),
        }
    }
    match serde_json::from_slice::<VipNotification>(&message.body) {
        Ok(notification) if notification.account_id.is_empty() => poison("its accountId is empty".into()),
        Ok(notification) => Ok((id, notification)),
        Err(error) => poison(format!("its body is not a notification: {error}")),
    }
}

#[cfg(test)]
mod tests;
