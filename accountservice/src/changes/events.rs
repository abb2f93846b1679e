//! Events about accounts, for whoever wants to know: CloudEvents on the topic exchange `accounts`.
//!
//! They are confirmed by the broker and not mandatory: without a subscriber an event is gone. Its id is the change's id, by which a
//! subscriber drops duplicates.

use contracts::{AccountEvent, RequestContext, event_with_id, topology::ACCOUNTS};
use messaging::PublishError;
use outbox::Entry;

use super::batch::{Applied, Effect};

/// Largest body in bytes: a text in an entry of the stream is bounded.
const BODY_LIMIT: usize = 4 * 1024;

/// Returns the event of a change that counts, as it waits in the outbox; `context` is that of its request.
///
/// # Errors
/// The message is invalid.
pub fn event(applied: &Applied, context: &RequestContext) -> Result<Entry, PublishError> {
    let Applied { change, effect, version, .. } = applied;
    let routing_key = match effect {
        Effect::Created => "account.created",
        Effect::Changed => "account.changed",
        Effect::Deleted => "account.deleted",
    };
    let id = change.account_id.as_str();
    let profile = change.account.as_ref();
    let body = AccountEvent {
        account_id: id.to_owned(),
        version: *version,
        name: profile.map(|profile| profile.name.clone()),
        vip: profile.map(|profile| profile.vip),
    };
    let kind = format!("{routing_key}.v1");
    let message = event_with_id(&change.change_id, &kind, "accountservice", id, context, &body)?;
    message.validate(BODY_LIMIT)?;
    let (exchange, routing_key) = (ACCOUNTS.to_owned(), routing_key.to_owned());
    Ok(Entry { exchange, routing_key, mandatory: false, message, parked: None })
}
