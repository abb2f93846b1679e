//! The body of a write, `{"id", "name", "vip"}`: what is wrong with it is named, and changes nothing.

use axum::http::StatusCode;
use serde_json::{Map, Value};
use service::http::Problem;

use crate::account::{AccountId, Profile};

/// Most characters of a name. An entry of the stream has room for them, however they are written.
const NAME_MAX: usize = 100;

/// An account, as a client sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountBody {
    /// Its id, if the client names one.
    pub id: Option<AccountId>,
    /// All else.
    pub profile: Profile,
}

impl AccountBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 for what is no JSON, 422 for what is no account; both name the place.
    pub fn read(bytes: &[u8]) -> Result<Self, Problem> {
        let value = serde_json::from_slice(bytes)
            .map_err(|e| Problem::bad_request(format!("the body is not JSON: {e}")))?;
        let Value::Object(fields) = value else {
            return Err(unprocessable(
                "the body is to be an object, such as {\"name\": \"Ada\", \"vip\": true}",
            ));
        };
        // An answer may be changed and sent back: who has served it is no part of the account.
        let known = ["id", "name", "vip", "servedBy"];
        if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(unprocessable(format!("`{}`: an account has id, name and vip", shortened(unknown))));
        }
        let id = match text(&fields, "id")? {
            None => None,
            Some(id) => Some(AccountId::parse(id).map_err(|e| unprocessable(format!("id: {e}")))?),
        };
        let name = text(&fields, "name")?.ok_or_else(|| unprocessable("name: it is missing"))?;
        check_name(name).map_err(|why| unprocessable(format!("name: {why}")))?;
        let vip = match fields.get("vip") {
            None => false,
            Some(Value::Bool(vip)) => *vip,
            Some(_) => return Err(unprocessable("vip: send true or false, without quotes")),
        };
        Ok(Self { id, profile: Profile { name: name.to_owned(), vip } })
    }
}

/// Checks the name of an account.
///
/// # Errors
/// A sentence that describes a valid name.
pub fn check_name(name: &str) -> Result<(), String> {
    if !(1..=NAME_MAX).contains(&name.chars().count()) || name.trim().is_empty() {
        return Err(format!("send 1 to {NAME_MAX} characters, not all of them spaces"));
    }
    match name.chars().any(char::is_control) {
        true => Err("it has a control character, such as a line end".to_owned()),
        false => Ok(()),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Problem> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(unprocessable(format!("{name}: send a text in quotes"))),
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

fn unprocessable(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_name_and_may_be_a_vips() {
        for (body, id, name, vip) in [
            (r#"{"name":"Ada"}"#, None, "Ada", false),
            (r#"{"name":"Ada","vip":true}"#, None, "Ada", true),
            (r#"{"id":"7","name":"Ada","vip":true,"servedBy":"accountservice.1"}"#, Some("7"), "Ada", true),
            (r#"{"id":"7","name":"\u00c5sa \"O\"","vip":false}"#, Some("7"), "Åsa \"O\"", false),
        ] {
            let read = AccountBody::read(body.as_bytes()).unwrap();
            assert_eq!(
                (read.id.as_ref().map(AccountId::as_str), read.profile.name.as_str(), read.profile.vip),
                (id, name, vip)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(101));
        for (body, says) in [
            ("", "400 the body is not JSON"),
            ("{", "400 the body is not JSON"),
            (r#"{"name":"Ada"} x"#, "400 the body is not JSON"),
            ("[]", "422 the body is to be an object"),
            ("null", "422 the body is to be an object"),
            ("{}", "422 name: it is missing"),
            (r#"{"name":7}"#, "422 name: send a text"),
            (r#"{"name":null}"#, "422 name: send a text"),
            (r#"{"name":""}"#, "422 name: send 1 to 100"),
            (r#"{"name":"  "}"#, "422 name: send 1 to 100"),
            (&long, "422 name: send 1 to 100"),
            (r#"{"name":"a\nb"}"#, "422 name: it has a control character"),
            (r#"{"name":"Ada","vip":"yes"}"#, "422 vip: send true or false"),
            (r#"{"name":"Ada","id":7}"#, "422 id: send a text"),
            (r#"{"name":"Ada","id":"x"}"#, "422 id: an account id has 1 to 20 digits"),
            (r#"{"name":"Ada","Vip":true}"#, "422 `Vip`: an account has id, name and vip"),
        ] {
            let problem = AccountBody::read(body.as_bytes()).unwrap_err();
            let said = format!("{} {}", problem.status().as_u16(), problem.detail());
            assert!(said.starts_with(says), "{body}: {said}");
        }
    }
}
