//! The handlers of writes: from a request to a change, and from what became of it to an answer.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use contracts::RequestContext;
use jiff::Timestamp;
use service::http::Problem;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{AppState, answer, unreadable};
use crate::{
    account::AccountId,
    body::AccountBody,
    changes::rule::{Change, Outcome, Row, Verdict},
    conditions::{self, POSITION, PositionTag, ReadConditions, Tags},
    write_request::WriteRequest,
};

/// Longest wait for a version or a position that a client has seen on another replica.
const READ_WAIT: Duration = Duration::from_secs(1);

/// `POST /accounts`: creates an account, under the id that the body names, or under a new one.
///
/// # Errors
/// 409 if there is one; see [`write`] for the others.
pub async fn create_account(
    state: &AppState,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext,
) -> Result<Response, Problem> {
    let body = read_body(headers, body)?;
    let id = |change_id: &str| body.id.unwrap_or_else(|| id_of(change_id));
    WriteRequest::read(Method::POST, headers, id, Some(body.profile))?.answer(state, context).await
}

/// `PUT /accounts/{id}`: changes an account, or with `If-None-Match: *` creates it.
///
/// # Errors
/// 412 if another change came first, 428 without a condition; see [`write`] for the others.
pub async fn replace_account(
    state: &AppState,
    segment: &str,
    headers: &HeaderMap,
    body: &[u8],
    context: &RequestContext,
) -> Result<Response, Problem> {
    let id = parse_id(segment)?;
    let body = read_body(headers, body)?;
    if body.id.is_some_and(|named| named != id) {
        let detail = format!("id: it is not the {id} of the address; leave it out, or send the same one");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    WriteRequest::read(Method::PUT, headers, |_| id, Some(body.profile))?.answer(state, context).await
}

/// `DELETE /accounts/{id}`.
///
/// # Errors
/// 404 if there is none, 412 if another change came first, 428 without a condition; see [`write`] for the others.
pub async fn delete_account(
    state: &AppState,
    segment: &str,
    headers: &HeaderMap,
    context: &RequestContext,
) -> Result<Response, Problem> {
    let id = parse_id(segment)?;
    WriteRequest::read(Method::DELETE, headers, |_| id, None)?.answer(state, context).await
}

/// Waits until this replica has applied the write whose position the client has seen.
///
/// # Errors
/// 503 if it has not done so in time, 412 if the position is one of another stream.
pub async fn wait_for_position(state: &AppState, conditions: &ReadConditions) -> Result<(), Problem> {
    let Some(wanted) = &conditions.position else { return Ok(()) };
    let mut progress = state.writer.replica().progress();
    let is_other = |named: &Option<String>| named.as_ref().is_some_and(|named| *named != wanted.stream);
    let reached = progress.wait_for(|progress| {
        let position = &progress.position;
        is_other(&position.stream)
            || position.is_read && position.last.as_ref().is_some_and(|(offset, _)| *offset >= wanted.offset)
    });
    match timeout_at(Instant::now() + READ_WAIT, reached).await {
        Ok(Ok(progress)) if !is_other(&progress.position.stream) => Ok(()),
        Ok(_) => Err(Problem::new(
            StatusCode::PRECONDITION_FAILED,
            format!(
                "{POSITION}: {wanted} is in another stream than this one, whose data may have been lost; leave it out"
            ),
        )),
        Err(_) => Err(Problem::unavailable(format!("this replica has not applied {wanted} yet"))),
    }
}

impl WriteRequest {
    async fn answer(self, state: &AppState, context: &RequestContext) -> Result<Response, Problem> {
        let replica = state.writer.replica();
        let request = self.digest();
        if !replica.store().is_read() {
            return Err(Problem::unavailable("the accounts are still being read from the stream: ask again"));
        }
        let row = self.current_row(state, context).await?;
        // After the account, which may be as an earlier request with this key has made it.
        if let Some(first) = self.first_outcome(state, context)? {
            return self.answer_outcome(state, &first, &request);
        }
        let base = self.base(row.as_ref())?;
        if row.is_none() && replica.accounts() >= state.accounts_max {
            let detail = format!(
                "there are {} accounts already, deleted ones included: accounts_max allows no more",
                state.accounts_max
            );
            return Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail));
        }
        if !state.writer.has_broker() {
            return Err(self.unknown("no broker"));
        }
        let change = Change {
            stream: String::new(),
            change_id: self.change_id.clone(),
            account_id: self.id.clone(),
            base,
            account: self.profile.clone(),
            request: request.clone(),
            by: replica.name().to_owned(),
            at: Timestamp::now(),
        };
        match state.writer.write(change, context).await {
            Ok(outcome) => self.answer_outcome(state, &outcome, &request),
            Err(_) if state.writer.has_broker() => Err(self.unknown("no answer in time")),
            Err(_) => Err(self.unknown("no broker")),
        }
    }

    fn unknown(&self, why: &str) -> Problem {
        let id = &self.change_id;
        Problem::unavailable(format!(
            "{why}: the outcome is unknown, ask again with the same Idempotency-Key ({id})"
        ))
    }

    /// Returns what has become of an earlier request with the key of this one.
    fn first_outcome(&self, state: &AppState, context: &RequestContext) -> Result<Option<Outcome>, Problem> {
        match self.has_key {
            true => state.writer.replica().outcome(&self.change_id).map_err(|e| unreadable(&e, context)),
            false => Ok(None),
        }
    }

    /// Returns the account as it is stored, deleted or not. If the client has seen a later version on another replica, it waits for
    /// that; a version that does not exist does not come.
    async fn current_row(&self, state: &AppState, context: &RequestContext) -> Result<Option<Row>, Problem> {
        let changes = state.writer.replica().store().replicated();
        let read = || changes.row(&self.id).map_err(|e| unreadable(&e, context));
        let wanted = self.if_match.as_ref().and_then(Tags::highest).unwrap_or(0);
        let mut progress = state.writer.replica().progress();
        let deadline = Instant::now() + READ_WAIT;
        loop {
            progress.mark_unchanged();
            let row = read()?;
            if row.as_ref().map_or(0, |row| row.version) >= wanted
                || timeout_at(deadline, progress.changed()).await.is_err()
            {
                return Ok(row);
            }
        }
    }

    fn answer_outcome(
        &self,
        state: &AppState,
        outcome: &Outcome,
        request: &str,
    ) -> Result<Response, Problem> {
        if outcome.request != request {
            let detail =
                "this Idempotency-Key was sent with another request: choose a new one for this request";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        let version = match outcome.verdict {
            Verdict::Applied(version) => version,
            Verdict::Rejected(version) => return Err(self.rejected(version)),
        };
        let mut response = match self.profile.clone() {
            None => StatusCode::NO_CONTENT.into_response(),
            Some(profile) => Json(answer(state, profile.with_id(self.id.clone()))).into_response(),
        };
        let is_created = self.method == Method::POST || self.method == Method::PUT && self.if_match.is_none();
        if is_created {
            *response.status_mut() = StatusCode::CREATED;
        }
        let headers = response.headers_mut();
        let mut insert =
            |name, text: String| headers.extend(HeaderValue::try_from(text).map(|value| (name, value)));
        if is_created {
            insert(header::LOCATION, format!("/accounts/{}", self.id));
        }
        if let Some(stream) = state.writer.replica().progress().borrow().position.stream.clone() {
            insert(POSITION, PositionTag { stream, offset: outcome.offset }.to_string());
        }
        headers.insert(header::ETAG, conditions::entity_tag(version));
        Ok(response)
    }
}

fn parse_id(segment: &str) -> Result<AccountId, Problem> {
    AccountId::parse(segment).map_err(|e| Problem::bad_request(e.to_string()))
}

fn read_body(headers: &HeaderMap, body: &[u8]) -> Result<AccountBody, Problem> {
    if !conditions::is_json(headers) {
        let detail = "send the account as JSON, with the header content-type: application/json (curl --json does both)";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    AccountBody::read(body)
}

/// Returns the id of a new account: at most 18 digits that follow from the change's id, so that the same request comes to the same id.
fn id_of(change_id: &str) -> AccountId {
    let number = Uuid::new_v5(&Uuid::NAMESPACE_OID, change_id.as_bytes()).as_u128() % 10_u128.pow(18);
    AccountId::from_number(number as u64)
}
