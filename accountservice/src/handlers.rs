//! Hop 2, handler: from a path segment to an answer.

use std::sync::Arc;

use contracts::RequestContext;
use serde::{Deserialize, Serialize};
use service::http::Problem;

use crate::{
    account::{Account, AccountId},
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
/// that the notification is on disk.
///
/// # Errors
/// 400 for what is no id, 404, and 503 when the store or the outbox cannot do its part.
pub async fn get_account(
    state: &AppState,
    segment: &str,
    context: &RequestContext,
    notify: bool,
) -> Result<AccountAnswer, Problem> {
    let id = AccountId::parse(segment).map_err(|e| Problem::bad_request(e.to_string()))?;
    tracing::debug!(hop = 2, name = "handler", account.id = %id, "{id} is an account id");
    let account = state.accounts.find(&id).map_err(|e| unreadable(&e, context))?;
    let account = account.ok_or_else(|| Problem::not_found(format!("there is no account {id}")))?;
    if notify {
        state.notifier.notify_if_vip(&account, context).await.map_err(|error| {
            // The outbox says so once, and louder.
            tracing::debug!(account.id = %id, "the read of VIP account {id} is answered 503: {error}");
            Problem::unavailable("the VIP's notification cannot be kept at the moment")
        })?;
    }
    Ok(answer(state, account))
}

/// `GET /accounts?limit=&after=`. A list notifies nobody.
///
/// # Errors
/// 400 for a limit that is not from 1 to 1000 or an `after` that is no id, 503 when the store fails.
pub fn list_accounts(
    state: &AppState,
    page: &PageQuery,
    context: &RequestContext,
) -> Result<AccountList, Problem> {
    if !(1..=1000).contains(&page.limit) {
        return Err(Problem::bad_request("limit: from 1 to 1000"));
    }
    let after = page.after.as_deref().map(AccountId::parse).transpose();
    let after = after.map_err(|e| Problem::bad_request(format!("after: {e}")))?;
    // One more than wanted tells whether there is a next page.
    let mut accounts =
        state.accounts.list(after.as_ref(), page.limit + 1).map_err(|e| unreadable(&e, context))?;
    let more = accounts.len() > page.limit;
    accounts.truncate(page.limit);
    let next = accounts.last().filter(|_| more).map(|account| account.id.clone());
    Ok(AccountList { accounts: accounts.into_iter().map(|account| answer(state, account)).collect(), next })
}

fn answer(state: &AppState, Account { id, name, vip }: Account) -> AccountAnswer {
    AccountAnswer { id, name, vip, served_by: Arc::clone(&state.served_by) }
}

fn unreadable(error: &StoreError, context: &RequestContext) -> Problem {
    tracing::error!(request = context.request_id.as_str(), "the store fails: {error}");
    match error {
        StoreError::Sled(_) => Problem::unavailable("the accounts cannot be read at the moment"),
        StoreError::Damaged(_) => Problem::internal(),
    }
}

#[cfg(test)]
mod tests;
