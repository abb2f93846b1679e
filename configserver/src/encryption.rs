//! Encryption over HTTP and from a shell: `POST /encrypt` and `/decrypt`, and the verbs `encrypt` and `decrypt`.
//! `GET /key` answers that there is no public key.
//!
//! A text comes as a body or on standard input, never on a command line, and is never logged.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Command;
use documented::DocumentedFields;
use hops_config::{
    Section,
    secret::{Secret, SecretFile},
};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service::http::{Access, Problem, Route, table};
use spring::{
    cipher::{CIPHER, Decryption, Keys},
    request::check_names,
};

/// The settings of encrypted values.
#[derive(Debug, Clone, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
pub struct Settings {
    /// The password of `{cipher}` values (default none) [encrypt.key]
    pub encrypt_key: Option<Secret>,
    /// A file that holds that password, such as a Docker secret; each further line, NAME:PASSWORD, is a newer key, and the last one
    /// encrypts
    pub encrypt_key_file: Option<SecretFile>,
    /// The salt of the password, in hexadecimal (default deadbeef) [encrypt.salt]
    pub encrypt_salt: String,
    /// true: values are decrypted before they are sent; false: clients decrypt them (default true)
    /// [...server.encrypt.enabled]
    pub encrypt_enabled: bool,
    /// true: a value that cannot be decrypted is answered as invalid.KEY; false: it stays, without its {cipher}
    /// (default true) [encrypt.prefix-invalid-properties]
    pub encrypt_prefix_invalid: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            encrypt_key: None,
            encrypt_key_file: None,
            encrypt_salt: "deadbeef".into(),
            encrypt_enabled: true,
            encrypt_prefix_invalid: true,
        }
    }
}

impl Section for Settings {}

impl Settings {
    /// Returns the treatment of `{cipher}` values, with the keys derived.
    ///
    /// # Errors
    /// A key or a salt that cannot be used, or a file that cannot be read.
    pub fn decryption(&self) -> Result<Decryption, String> {
        let (password, file) = (self.encrypt_key.as_ref(), self.encrypt_key_file.as_ref());
        let password = Secret::given_or_in_file("encrypt_key", password, file)?;
        let keys = password.map(|password| Keys::derive(password.expose(), &self.encrypt_salt));
        let keys = keys.transpose().map_err(|e| e.to_string())?;
        Ok(Decryption { enabled: self.encrypt_enabled, keys, prefix_invalid: self.encrypt_prefix_invalid })
    }
}

/// Answer without a key.
const NO_KEY: &str = "there is no key: set encrypt_key_file, or encrypt_key in the environment";

/// State of the routes.
type MaybeKeys = State<Arc<Option<Keys>>>;

/// The addresses for a client with access.
pub const GUARDED: &[Route<Arc<Option<Keys>>>] = &[
    (Method::POST, "/encrypt", || post(encrypt)),
    (Method::POST, "/encrypt/{application}/{profiles}", || post(encrypt)),
    (Method::POST, "/decrypt", || post(decrypt)),
    (Method::POST, "/decrypt/{application}/{profiles}", || post(decrypt)),
    (Method::GET, "/encrypt/status", || get(async |State(keys): MaybeKeys| status(keys.is_some()))),
];
/// The addresses for every client.
pub const OPEN: &[Route<()>] = &[
    (Method::GET, "/key", || get(no_public_key)),
    (Method::GET, "/key/{application}/{profiles}", || get(no_public_key)),
];

/// Returns the routes. A client without access is answered 403, except by `/key`.
pub fn router(keys: Option<Keys>, access: Access) -> Router {
    let guarded = access.guard(table(GUARDED).with_state(Arc::new(keys)));
    guarded.merge(table(OPEN)).layer(from_fn(with_names))
}

async fn encrypt(State(keys): MaybeKeys, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    answer(encrypted, keys.as_ref().as_ref(), &headers, &body)
}

async fn decrypt(State(keys): MaybeKeys, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    answer(Keys::decrypt, keys.as_ref().as_ref(), &headers, &body)
}

/// Checks the names in an address. They do not choose among keys, but they must be valid.
async fn with_names(request: Request, next: Next) -> Result<Response, Problem> {
    // As the client sent them: axum would decode them, and a name with an encoded slash is not valid.
    let segments: Vec<_> = request.uri().path().split('/').collect();
    if let ["", _, application, profiles] = segments[..] {
        check_names(application, profiles).map_err(|refusal| Problem::bad_request(refusal.message))?;
    }
    Ok(next.run(request).await)
}

/// Answers that there is no public key: the keys are symmetric.
async fn no_public_key() -> Response {
    description(StatusCode::NOT_FOUND, "NOT_FOUND", "No public key available")
}

/// Returns the answer to a request for `work`, which encrypts or decrypts a text.
fn answer(
    work: fn(&Keys, &str) -> Option<String>,
    keys: Option<&Keys>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.ok_or_else(|| Problem::bad_request("send a Content-Type: text/plain"))?;
    let body = std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    if body.is_empty() {
        return Err(Problem::bad_request("the body is empty: send the text"));
    }
    let Some(keys) = keys else { return Ok(status(false)) };
    Ok(match work(keys, &unwrapped(kind, body)) {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain;charset=UTF-8")], text).into_response(),
        None => description(StatusCode::BAD_REQUEST, "INVALID", "Text not encrypted with this key"),
    })
}

/// Returns the text of a body. A client that sends it as a form, as `curl -d` does, adds a `=` or escapes.
fn unwrapped(kind: &str, body: &str) -> String {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_form = kind == "application/x-www-form-urlencoded";
    if kind == "text/plain" || !(is_form || body.ends_with('=')) {
        return body.to_owned();
    }
    let body = body.strip_suffix('=').unwrap_or(body).replace('+', " ");
    percent_decode_str(&body).decode_utf8_lossy().into_owned()
}

fn encrypted(keys: &Keys, text: &str) -> Option<String> {
    keys.encrypt(text, rand::random())
}

fn status(has_key: bool) -> Response {
    match has_key {
        true => Json(json!({"status": "OK"})).into_response(),
        false => description(StatusCode::INTERNAL_SERVER_ERROR, "NO_KEY", NO_KEY),
    }
}

fn description(status: StatusCode, word: &str, text: &str) -> Response {
    (status, Json(json!({"description": text, "status": word}))).into_response()
}

/// Returns the verbs of the command line.
#[must_use]
pub fn commands() -> [Command; 2] {
    let encrypt = "Encrypts the text on standard input; write it into a file as '{cipher}TEXT', in quotes";
    let decrypt = "Decrypts the text on standard input, with or without {cipher}";
    [Command::new("encrypt").about(encrypt), Command::new("decrypt").about(decrypt)]
}

/// Runs the verb `encrypt` or `decrypt`, from standard input to standard output.
///
/// # Errors
/// There is no key, the input is not UTF-8, or the text was not encrypted with this key.
pub fn run(verb: &str, settings: &Settings) -> Result<(), String> {
    let keys = settings.decryption()?.keys.ok_or(NO_KEY)?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
    output::lines(&shell(verb, &keys, &text)?);
    Ok(())
}

/// Encrypts or decrypts a text of a shell, which adds a newline at its end.
fn shell(verb: &str, keys: &Keys, text: &str) -> Result<String, String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if verb == "encrypt" {
        return encrypted(keys, text).ok_or_else(|| "there is no key of this name".into());
    }
    let text = text.trim();
    keys.decrypt(text.strip_prefix(CIPHER).unwrap_or(text))
        .ok_or_else(|| "the text was not encrypted with this key".into())
}

#[cfg(test)]
mod tests;
