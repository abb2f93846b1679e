//! The key's routes, and the same from a shell: `POST /encrypt` and `/decrypt`, and the verbs `encrypt` and `decrypt`.
//! `GET /key` is there to say that there is no public one.
//!
//! What is encrypted and decrypted comes as a body or on standard input, never on a command line, and is in no log.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use clap::Command;
use percent_encoding::percent_decode_str;
use serde_json::json;
use service::http::{Access, Problem};

use crate::spring::{
    cipher::{CIPHER, Key, split_prefixes},
    request::check_names,
};

/// What to do without a key.
const NO_KEY: &str = "there is no key: set encrypt_key_file, or encrypt_key in the environment";

/// Encrypts or decrypts a text.
type Work = fn(&Key, &str) -> Option<String>;

/// The routes. Who may not encrypt and decrypt is answered 403; that there is no public key is said to all.
pub fn router(key: Option<Key>, access: Access) -> Router {
    let routes = [("/encrypt", encrypted as Work), ("/decrypt", decrypted)].into_iter();
    let routes = routes.fold(Router::new(), |routes, (path, work)| {
        let handler =
            post(async move |State(key): State<Arc<Option<Key>>>, headers: HeaderMap, body: Bytes| {
                answer(work, key.as_ref().as_ref(), &headers, &body)
            });
        routes.route(path, handler.clone()).route(&format!("{path}/{{application}}/{{profiles}}"), handler)
    });
    let routes = routes
        .route("/encrypt/status", get(async |State(key): State<Arc<Option<Key>>>| status(key.is_some())));
    access
        .guard(routes.with_state(Arc::new(key)))
        .route("/key", get(no_public_key))
        .route("/key/{application}/{profiles}", get(no_public_key))
        .layer(from_fn(with_names))
}

/// With one key the names choose nothing, and still have to be names, whatever else is wrong.
async fn with_names(request: Request, next: Next) -> Result<Response, Problem> {
    // As they were sent: axum would decode them, and a name with an encoded slash is none.
    let segments: Vec<_> = request.uri().path().split('/').collect();
    if let ["", _, application, profiles] = segments[..] {
        check_names(application, profiles).map_err(|refusal| Problem::bad_request(refusal.message))?;
    }
    Ok(next.run(request).await)
}

/// There is one symmetric key at most.
async fn no_public_key() -> Response {
    said(StatusCode::NOT_FOUND, "NOT_FOUND", "No public key available")
}

fn answer(work: Work, key: Option<&Key>, headers: &HeaderMap, body: &[u8]) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.ok_or_else(|| Problem::bad_request("send a Content-Type: text/plain"))?;
    let body = std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    if body.is_empty() {
        return Err(Problem::bad_request("the body is empty: send the text"));
    }
    let Some(key) = key else { return Ok(status(false)) };
    Ok(match work(key, &unwrapped(kind, body)) {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain;charset=UTF-8")], text).into_response(),
        None => said(StatusCode::BAD_REQUEST, "INVALID", "Text not encrypted with this key"),
    })
}

/// The body as it was meant. A client that sends it as a form, as `curl -d` does, adds a `=` or escapes.
fn unwrapped(kind: &str, body: &str) -> String {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_form = kind == "application/x-www-form-urlencoded";
    if kind == "text/plain" || !(is_form || body.ends_with('=')) {
        return body.to_owned();
    }
    let body = body.strip_suffix('=').unwrap_or(body).replace('+', " ");
    percent_decode_str(&body).decode_utf8_lossy().into_owned()
}

/// The text encrypted, with the prefixes that it came with.
fn encrypted(key: &Key, text: &str) -> Option<String> {
    let (prefixes, plain) = split_prefixes(text);
    Some(format!("{prefixes}{}", key.encrypt(plain)))
}

fn decrypted(key: &Key, text: &str) -> Option<String> {
    key.decrypt(split_prefixes(text).1)
}

fn status(has_key: bool) -> Response {
    match has_key {
        true => Json(json!({"status": "OK"})).into_response(),
        false => said(StatusCode::INTERNAL_SERVER_ERROR, "NO_KEY", NO_KEY),
    }
}

fn said(status: StatusCode, word: &str, description: &str) -> Response {
    (status, Json(json!({"description": description, "status": word}))).into_response()
}

/// The verbs on the command line.
#[must_use]
pub fn commands() -> [Command; 2] {
    let encrypt = "Encrypts the text on standard input: in a file it stands as '{cipher}TEXT', in quotes";
    let decrypt = "Decrypts the text on standard input, with or without {cipher}";
    [Command::new("encrypt").about(encrypt), Command::new("decrypt").about(decrypt)]
}

/// The verb `encrypt` or `decrypt`: from standard input to standard output.
///
/// # Errors
/// No key, an input that is no text, or a text that was not encrypted with this key.
pub fn run(verb: &str, key: Option<&Key>) -> Result<(), String> {
    let key = key.ok_or(NO_KEY)?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| format!("standard input: {e}"))?;
    let output = shell(verb, key, &text)?;
    writeln!(io::stdout(), "{output}").map_err(|e| format!("standard output: {e}"))
}

/// What a verb makes of a text. The newline at its end is the shell's.
fn shell(verb: &str, key: &Key, text: &str) -> Result<String, String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if verb == "encrypt" {
        return encrypted(key, text).ok_or_else(|| "cannot be encrypted".into());
    }
    let text = text.trim();
    decrypted(key, text.strip_prefix(CIPHER).unwrap_or(text))
        .ok_or_else(|| "the text was not encrypted with this key".into())
}

#[cfg(test)]
mod tests;
