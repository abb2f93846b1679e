//! Hop 2, handler: from a path segment to an answer.
//!
//! - this file: reads
//! - [`writes`]: what changes an account, which is no hop of the walk

pub mod writes;

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use contracts::RequestContext;
use serde::{Deserialize, Serialize};
use service::http::Problem;

use crate::{
    account::{Account, AccountId},
    changes::writer::Writer,
    conditions::{ReadConditions, Tags, entity_tag},
    notifier::Notifier,
    store::{AccountStore, StoreError},
};

/// State of the handlers.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the store is a trait object")]
pub struct AppState {
    /// The accounts.
    pub accounts: Arc<dyn AccountStore>,
    /// Notifier of a VIP's read.
    pub notifier: Notifier,
    /// Writer of changes.
    pub writer: Writer,
    /// Most accounts, deleted ones included.
    pub accounts_max: usize,
    /// This instance's name.
    pub served_by: Arc<str>,
}

/// An account, as it is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountAnswer {
    id: AccountId,
    name: String,
    vip: bool,
    served_by: Arc<str>,
}

/// Which page of the accounts is wanted.
#[derive(Debug, Deserialize)]
pub struct PageQuery {
    #[serde(default = "default_limit")]
    limit: usize,
    after: Option<String>,
    #[serde(default)]
    vip: bool,
}

fn default_limit() -> usize {
    100
}

/// A page of accounts, by id.
#[derive(Debug, Serialize)]
pub struct AccountList {
    accounts: Vec<AccountAnswer>,
    /// Value of `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<AccountId>,
}

/// `GET /accounts/{id}`. With `notify` the read counts, and a VIP's is notified: the answer 200 then means
/// that the notification is on disk. 304 is no read.
///
/// # Errors
/// 400 for what is no id, 404, and 503 when the store or the outbox cannot do its part.
pub async fn get_account(
    state: &AppState,
    segment: &str,
    conditions: &ReadConditions,
    context: &RequestContext,
    notify: bool,
) -> Result<Response, Problem> {
    let id = AccountId::parse(segment).map_err(|e| Problem::bad_request(e.to_string()))?;
    tracing::debug!(hop = 2, name = "handler", account.id = %id, "{id} is an account id");
    writes::wait_for_position(state, conditions).await?;
    let found = state.accounts.find(&id).map_err(|e| unreadable(&e, context))?;
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no account {id}")))?;
    let tag = entity_tag(found.version);
    if conditions.if_match.as_ref().is_some_and(|tags| !tags.match_strongly(found.version)) {
        let detail = format!("account {id} has another version: \"{}\"", found.version);
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail));
    }
    if conditions.if_none_match.as_ref().is_some_and(|tags| tags.match_weakly(found.version)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let account = found.account;
    if notify {
        state.notifier.notify_if_vip(&account, context).await.map_err(|error| {
            // The outbox says so once, and louder.
            tracing::debug!(account.id = %id, "the read of VIP account {id} is answered 503: {error}");
            Problem::unavailable("the VIP's notification cannot be kept at the moment")
        })?;
    }
    Ok(([(header::ETAG, tag)], Json(answer(state, account))).into_response())
}

/// `GET /accounts?limit=&after=&vip=`. A list notifies nobody. Its entity tag is the position in the stream.
///
/// # Errors
/// 400 for a limit that is not from 1 to 1000 or an `after` that is no id, 503 when the store fails.
pub async fn list_accounts(
    state: &AppState,
    page: &PageQuery,
    conditions: &ReadConditions,
    context: &RequestContext,
) -> Result<Response, Problem> {
    if !(1..=1000).contains(&page.limit) {
        return Err(Problem::bad_request("limit: from 1 to 1000"));
    }
    let after = page.after.as_deref().map(AccountId::parse).transpose();
    let after = after.map_err(|e| Problem::bad_request(format!("after: {e}")))?;
    writes::wait_for_position(state, conditions).await?;
    // Before the accounts are read: what is newer than its tag is sent once more, and what is older would be kept.
    let tag = list_tag(state);
    let is_known = |tags: &Tags| tag.as_ref().is_some_and(|tag| tags.match_tag(tag));
    if conditions.if_none_match.as_ref().is_some_and(is_known) {
        return Ok(with_tag(StatusCode::NOT_MODIFIED.into_response(), tag));
    }
    // One more than wanted tells whether there is a next page.
    let accounts = state.accounts.list(after.as_ref(), page.vip, page.limit + 1);
    let mut accounts = accounts.map_err(|e| unreadable(&e, context))?;
    let more = accounts.len() > page.limit;
    accounts.truncate(page.limit);
    let next = accounts.last().filter(|_| more).map(|account| account.id.clone());
    let accounts = accounts.into_iter().map(|account| answer(state, account)).collect();
    Ok(with_tag(Json(AccountList { accounts, next }).into_response(), tag))
}

/// Returns the entity tag of lists: the position in the stream, if that is what they are read from.
fn list_tag(state: &AppState) -> Option<String> {
    let progress = state.writer.replica().progress();
    let position = &progress.borrow().position;
    let (stream, (offset, _)) = (position.stream.as_ref()?, position.last.as_ref()?);
    position.is_read.then(|| format!("\"{stream}-{offset}\""))
}

fn with_tag(mut response: Response, tag: Option<String>) -> Response {
    // The stream's name may be any text, from whoever has appended to it.
    let tag = tag.and_then(|tag| HeaderValue::try_from(tag).ok());
    response.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
    response
}

fn answer(state: &AppState, Account { id, name, vip }: Account) -> AccountAnswer {
    AccountAnswer { id, name, vip, served_by: Arc::clone(&state.served_by) }
}

fn unreadable(error: &StoreError, context: &RequestContext) -> Problem {
    tracing::error!(request = context.request_id.as_str(), "the store fails: {error}");
    match error {
        StoreError::Sled(_) => Problem::unavailable("the accounts cannot be read at the moment"),
        StoreError::Damaged(_) | StoreError::Foreign => Problem::internal(),
    }
}

#[cfg(test)]
mod tests;
