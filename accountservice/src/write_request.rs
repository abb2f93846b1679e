//! A request that changes an account, and the decision about it: a change on which version, or which answer at once. Pure.

use axum::http::{HeaderMap, Method, StatusCode, header};
use service::http::Problem;
use uuid::Uuid;

use crate::{
    account::{AccountId, Profile},
    changes::rule::Row,
    conditions::{self, Tags},
};

/// A request that changes an account.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// `POST`, `PUT` or `DELETE`.
    pub method: Method,
    /// Account that is written.
    pub id: AccountId,
    /// The account as it is to be; `None` deletes it.
    pub profile: Option<Profile>,
    /// `If-Match`.
    pub if_match: Option<Tags>,
    /// `If-None-Match`.
    pub if_none_match: Option<Tags>,
    /// Id of the change: the `Idempotency-Key`, or a generated one.
    pub change_id: String,
    /// True if the client sent an `Idempotency-Key`.
    pub has_key: bool,
}

impl WriteRequest {
    /// Reads the headers of a request. `id` is called with the id of the change; a `POST` has no conditions.
    ///
    /// # Errors
    /// 400 for a header that cannot be read.
    pub fn read(
        method: Method,
        headers: &HeaderMap,
        id: impl FnOnce(&str) -> AccountId,
        profile: Option<Profile>,
    ) -> Result<Self, Problem> {
        let key = conditions::idempotency_key(headers)?;
        let has_key = key.is_some();
        let change_id = key.unwrap_or_else(|| Uuid::now_v7().to_string());
        let tags = |name| match method {
            Method::POST => Ok(None),
            _ => Tags::read(headers, name),
        };
        let (if_match, if_none_match) = (tags(&header::IF_MATCH)?, tags(&header::IF_NONE_MATCH)?);
        Ok(Self { id: id(&change_id), method, profile, if_match, if_none_match, change_id, has_key })
    }

    /// Returns the version on which the change is to be made; `row` is the account as this replica has it, deleted or not.
    ///
    /// A write with a key is appended although it comes too late. The stream then rejects it, and keeps that outcome for the next request with
    /// the key; or an earlier entry with the key, which this replica does not know yet, has made the version that is in the way.
    ///
    /// # Errors
    /// 404, 409, 412 or 428, with advice.
    pub fn base(&self, row: Option<&Row>) -> Result<u64, Problem> {
        let current = row.map_or(0, |row| row.version);
        self.check(row).map(|()| current).or_else(|problem| {
            let named = self.if_match.as_ref().map_or(Some(0), Tags::highest);
            match named.filter(|named| self.has_key && problem.is_conflict() && *named < current) {
                Some(outdated) => Ok(outdated),
                None => Err(problem),
            }
        })
    }

    /// Checks the conditions, in the order of RFC 9110, section 13.2.2.
    fn check(&self, row: Option<&Row>) -> Result<(), Problem> {
        let id = &self.id;
        let version = row.filter(|row| row.account.is_some()).map_or(0, |row| row.version);
        let has_none = self.if_none_match.as_ref().is_none_or(|tags| !tags.match_weakly(version));
        match (&self.method, &self.if_match, &self.if_none_match) {
            (&Method::POST, ..) if version > 0 => Err(self.rejected(version)),
            (&Method::DELETE, ..) if version == 0 => {
                Err(Problem::not_found(format!("there is no account {id}")))
            }
            (_, Some(tags), _) if !tags.match_strongly(version) => Err(self.rejected(version)),
            _ if !has_none => Err(self.rejected(version)),
            (&Method::POST, ..) | (_, Some(_), _) => Ok(()),
            // Another tag than that of an account would say nothing about what is overwritten.
            (&Method::PUT, None, Some(_)) if version == 0 => Ok(()),
            _ if version == 0 => {
                let detail = format!("there is no account {id}: to create it, send If-None-Match: *");
                Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail))
            }
            _ => {
                let detail = format!(
                    "read account {id}, and send the ETag of that answer as If-Match: then no change that you have not seen is \
                     overwritten"
                );
                Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail))
            }
        }
    }

    /// Returns the answer to a write that another one came before; `version` is that of the account, 0 if there is none.
    #[must_use]
    pub fn rejected(&self, version: u64) -> Problem {
        let id = &self.id;
        match &self.if_match {
            _ if self.method == Method::POST => {
                let detail = format!("there is an account {id}: change it with PUT, or choose another id");
                Problem::new(StatusCode::CONFLICT, detail)
            }
            Some(tags) if version == 0 => {
                let detail = format!(
                    "there is no account {id}, so none with the ETag {tags}: it may have been deleted"
                );
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
            }
            Some(Tags::Any) => {
                let detail = format!("account {id} was changed at the same time: ask again");
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
            }
            Some(tags) => {
                let detail = format!(
                    "account {id} was changed: its version is \"{version}\", not {tags}; read it again, decide again, and send its \
                     new ETag"
                );
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
            }
            None => {
                let detail =
                    format!("there is an account {id}: read it, and send its ETag as If-Match to change it");
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
            }
        }
    }

    /// Returns a digest of all that makes it this request and no other.
    #[must_use]
    pub fn digest(&self) -> String {
        let tags = |tags: &Option<Tags>| tags.as_ref().map(Tags::to_string).unwrap_or_default();
        let account = self.profile.as_ref().map(|profile| format!("{:?} {}", profile.name, profile.vip));
        let text = format!(
            "{} {}\n{}\n{}\n{}",
            self.method,
            self.id,
            tags(&self.if_match),
            tags(&self.if_none_match),
            account.unwrap_or_default()
        );
        Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes()).simple().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUT: Method = Method::PUT;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;

    fn request(method: &Method, if_match: &str, if_none_match: &str, key: &str) -> WriteRequest {
        let named = [("if-match", if_match), ("if-none-match", if_none_match), ("idempotency-key", key)];
        let named = named.into_iter().filter(|(_, value)| !value.is_empty());
        let headers = named.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let profile = (*method != DELETE).then(|| Profile { name: "Ada".into(), vip: false });
        WriteRequest::read(method.clone(), &headers, |_| AccountId::parse("7").unwrap(), profile).unwrap()
    }

    /// An account at version 3, one that was deleted by change 3, and none.
    fn row(state: &str) -> Option<Row> {
        let account = (state == "there").then(|| Profile { name: "Grace".into(), vip: true });
        (state != "none").then_some(Row { version: 3, account, renewed: 0 })
    }

    #[test]
    fn a_write_is_based_on_the_current_version_or_answered_at_once() {
        for (method, if_match, if_none_match, state, decision) in [
            (POST, "", "", "none", Ok(0)),
            (POST, "", "", "deleted", Ok(3)),
            (POST, "", "", "there", Err(409)),
            // What a POST creates has no version yet.
            (POST, "\"9\"", "*", "none", Ok(0)),
            (PUT, "", "", "none", Err(428)),
            (PUT, "", "", "deleted", Err(428)),
            (PUT, "", "", "there", Err(428)),
            (PUT, "\"3\"", "", "there", Ok(3)),
            (PUT, "\"2\", \"3\"", "", "there", Ok(3)),
            (PUT, "W/\"3\"", "", "there", Err(412)),
            (PUT, "\"2\"", "", "there", Err(412)),
            (PUT, "\"4\"", "", "there", Err(412)),
            (PUT, "\"3\"", "", "deleted", Err(412)),
            (PUT, "\"3\"", "", "none", Err(412)),
            (PUT, "*", "", "there", Ok(3)),
            (PUT, "*", "", "deleted", Err(412)),
            (PUT, "", "*", "none", Ok(0)),
            (PUT, "", "*", "deleted", Ok(3)),
            (PUT, "", "*", "there", Err(412)),
            (PUT, "", "\"3\"", "there", Err(412)),
            (PUT, "", "\"2\"", "there", Err(428)),
            (PUT, "\"3\"", "\"2\"", "there", Ok(3)),
            (PUT, "\"3\"", "\"3\"", "there", Err(412)),
            (DELETE, "", "", "there", Err(428)),
            (DELETE, "", "", "none", Err(404)),
            (DELETE, "\"3\"", "", "deleted", Err(404)),
            (DELETE, "\"3\"", "", "there", Ok(3)),
            (DELETE, "*", "", "there", Ok(3)),
            (DELETE, "\"2\"", "", "there", Err(412)),
        ] {
            let request = request(&method, if_match, if_none_match, "");
            let base = request.base(row(state).as_ref()).map_err(|problem| problem.status().as_u16());
            assert_eq!(base, decision, "{method} {if_match} {if_none_match} {state}");
        }
    }

    #[test]
    fn a_write_with_a_key_that_comes_too_late_is_decided_by_the_stream() {
        for (method, if_match, if_none_match, state, decision) in [
            (POST, "", "", "there", Ok(0)),
            (PUT, "\"2\"", "", "there", Ok(2)),
            (PUT, "\"3\"", "", "there", Ok(3)),
            (PUT, "\"2\"", "", "deleted", Ok(2)),
            (PUT, "", "*", "there", Ok(0)),
            // Nobody has seen a version that does not exist, and `*` names none.
            (PUT, "\"4\"", "", "there", Err(412)),
            (PUT, "*", "", "deleted", Err(412)),
            (PUT, "", "", "there", Err(428)),
            (DELETE, "\"2\"", "", "there", Ok(2)),
            (DELETE, "\"2\"", "", "deleted", Err(404)),
        ] {
            let request = request(&method, if_match, if_none_match, "a-1");
            let base = request.base(row(state).as_ref()).map_err(|problem| problem.status().as_u16());
            assert_eq!(base, decision, "{method} {if_match} {if_none_match} {state}");
        }
    }

    #[test]
    fn a_digest_is_that_of_one_request() {
        let all = [
            request(&PUT, "\"3\"", "", "a-1"),
            request(&PUT, "\"2\"", "", "a-1"),
            request(&PUT, "", "*", "a-1"),
            request(&DELETE, "\"3\"", "", "a-1"),
            WriteRequest { id: AccountId::parse("8").unwrap(), ..request(&PUT, "\"3\"", "", "a-1") },
            WriteRequest {
                profile: Some(Profile { name: "Ada".into(), vip: true }),
                ..request(&PUT, "\"3\"", "", "a-1")
            },
        ];
        let digests: std::collections::BTreeSet<_> = all.iter().map(WriteRequest::digest).collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(request(&PUT, "\"3\"", "", "b-2").digest(), all[0].digest(), "the key is no part of it");
    }
}
