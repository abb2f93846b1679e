//! Hop 9, offers: appended to the stream, applied to every replica's view, answered over HTTP.
//!
//! The stream is the source of truth. A duplicate delivery appends the same offer again, with the same id; the view
//! keeps the first one. Entries are bounded in size, since every replica reads what anybody has appended.

pub mod view;
mod settings;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::Method,
    routing::get,
};
use contracts::RequestContext;
use contracts::topology::OFFERS;
use jiff::Timestamp;
use messaging::{Delivery, MessagingClient, PublishError, metrics::seconds, millis};
use prometheus_client::{metrics::histogram::Histogram, registry::Registry};
use serde::{Deserialize, Serialize};
use service::http::{Problem, Route, openapi, table};

pub use self::settings::Settings;
use self::view::View;
use crate::offer::Offer;

/// Message type of an entry.
const OFFER: &str = "offer.v1";
/// Largest body of an entry in bytes: the default `notification_limit`, twice. It leaves room for `offer_text`, which has
/// at most 4 KiB, six times as much if each of its characters is escaped in JSON.
pub const MAX_ENTRY: usize = 128 * 1024;

/// An offer, as it is stored in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferMade {
    /// Id of the notification, which identifies duplicates.
    pub id: String,
    /// Account that receives the offer.
    pub account_id: String,
    /// Text shown to the account holder.
    pub text: String,
    /// Time of the read that led to the offer.
    #[serde(serialize_with = "millis")]
    pub read_at: Timestamp,
    /// Time at which the offer was made.
    #[serde(serialize_with = "millis")]
    pub made_at: Timestamp,
    /// Time at which the offer expires.
    #[serde(serialize_with = "millis")]
    pub valid_until: Timestamp,
    /// Id of the request that read the account.
    pub request_id: String,
    /// Replica that made the offer.
    pub made_by: String,
}

/// An offer, as it is answered over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfferAnswer {
    /// Position in the stream.
    pub offset: u64,
    /// The offer.
    #[serde(flatten)]
    pub offer: Arc<OfferMade>,
}

/// Appends offers to the stream.
pub struct Offers {
    client: Arc<dyn MessagingClient>,
    made_by: String,
    read_to_offer: Histogram,
}

impl Offers {
    /// Returns a writer to the stream; `made_by` is the name of this instance.
    pub fn new(client: Arc<dyn MessagingClient>, made_by: &str, registry: &mut Registry) -> Self {
        let help = "From the read of a VIP's account to its offer in the stream";
        let read_to_offer = seconds(registry, "read_to_offer_seconds", help);
        Self { client, made_by: made_by.to_owned(), read_to_offer }
    }

    /// Appends an offer. `Ok` means that the broker has confirmed it, so the delivery can be acknowledged.
    ///
    /// # Errors
    /// It can never be published, since it is too large or invalid, or the service is stopping.
    pub async fn append(
        &self,
        delivery: &Delivery,
        id: &str,
        Offer { account_id, text, read_at, valid_until }: Offer,
        context: &RequestContext,
    ) -> Result<(), PublishError> {
        let made_at = Timestamp::now();
        let (id, request_id, made_by) = (id.to_owned(), context.request_id.clone(), self.made_by.clone());
        let made = OfferMade { id, account_id, text, read_at, made_at, valid_until, request_id, made_by };
        let entry =
            contracts::event_with_id(&made.id, OFFER, "vipservice", &made.account_id, context, &made)?;
        if entry.body.len() > MAX_ENTRY {
            let (size, id) = (entry.body.len(), &made.id);
            let why = format!("offer {id} has {size} bytes, at most {MAX_ENTRY} are appended to {OFFERS}");
            return Err(PublishError::Invalid(why));
        }
        delivery.until_confirmed(|| self.client.append(OFFERS, entry.clone())).await?;
        self.read_to_offer.observe(Timestamp::now().duration_since(read_at).as_secs_f64().max(0.0));
        tracing::info!(
            hop = 9,
            name = "offers",
            message.id = made.id,
            "offer {} for account {} is in the stream",
            made.id,
            made.account_id,
        );
        Ok(())
    }
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offers").field("made_by", &self.made_by).finish_non_exhaustive()
    }
}

/// The addresses of the offers.
pub const ROUTES: &[Route<Arc<View>>] = &[
    (Method::GET, "/offers", || get(list)),
    (Method::GET, "/offers/by-replica", || get(by_replica)),
    (Method::GET, "/offers/{id}", || get(one)),
    (Method::GET, "/openapi.json", || get(async || openapi(include_str!("../openapi.json")))),
];

/// Returns the routes of the offers.
pub fn router(view: Arc<View>) -> Router {
    table(ROUTES).with_state(view)
}

/// The query of a page of offers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageQuery {
    #[serde(default = "default_limit")]
    limit: usize,
    after: Option<u64>,
    account_id: Option<String>,
}

fn default_limit() -> usize {
    100
}

/// A page of offers, oldest first.
#[derive(Debug, Serialize)]
struct OfferList {
    offers: Vec<OfferAnswer>,
    /// Value of `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

async fn list(
    State(view): State<Arc<View>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<OfferList>, Problem> {
    let Query(page) = query?;
    if !(1..=1000).contains(&page.limit) {
        return Err(Problem::bad_request("limit: from 1 to 1000"));
    }
    let mut offers = read(&view, |rows| rows.page(page.after, page.account_id.as_deref(), page.limit + 1))?;
    let more = offers.len() > page.limit;
    offers.truncate(page.limit);
    let next = offers.last().filter(|_| more).map(|answer| answer.offset);
    Ok(Json(OfferList { offers, next }))
}

async fn one(State(view): State<Arc<View>>, Path(id): Path<String>) -> Result<Json<OfferAnswer>, Problem> {
    let found = read(&view, |rows| rows.find(&id))?;
    found
        .map(Json)
        .ok_or_else(|| Problem::not_found("there is no offer with this id, or it is no longer shown"))
}

async fn by_replica(State(view): State<Arc<View>>) -> Result<Json<BTreeMap<String, usize>>, Problem> {
    read(&view, view::Rows::by_replica).map(Json)
}

fn read<T>(view: &View, what: impl FnOnce(&view::Rows) -> T) -> Result<T, Problem> {
    view.read(what).ok_or_else(|| Problem::unavailable("replaying: the stream of offers is still being read"))
}

#[cfg(test)]
mod tests;
