//! Routes and verbs of the key, with texts that Spring encrypted and with mistakes of clients.

use std::net::SocketAddr;

use axum::{
    body::Body,
    http::{Method, Request},
};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use service::http::{Health, Peer};

use super::*;

const HUNTER2: &str = "6e5ec07d552183fc5ce5c21e24c05965da840f146e0043dfc8b857e65886cad0";
const TEXT: &str = "text/plain";
const FORM: &str = "application/x-www-form-urlencoded";
const INVALID: &str = r#"{"description":"Text not encrypted with this key","status":"INVALID"}"#;

fn keys() -> Keys {
    Keys::derive("foo", "deadbeef").unwrap()
}

/// Status, content type and body of a request from this machine, or from elsewhere.
async fn send(keys: Option<Keys>, peer: &str, request: Request<Body>) -> (u16, String, String) {
    let routes = router(keys, Access::default());
    let health = Arc::new(Health::default());
    let router = service::http::router(
        routes,
        &service::http::Settings::default().into(),
        &health,
        Registry::default(),
    );
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(Peer(SocketAddr::new(peer.parse().unwrap(), 1)));
    parts.headers.insert(header::HOST, "localhost:8888".parse().unwrap());
    let response = router.answer(Request::from_parts(parts, body)).await;
    let kind =
        response.headers().get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: Method, path: &str, kind: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = if kind.is_empty() { request } else { request.header(header::CONTENT_TYPE, kind) };
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn post(path: &str, kind: &str, body: &str) -> (u16, String) {
    let (status, _, body) = send(Some(keys()), "127.0.0.1", request(Method::POST, path, kind, body)).await;
    (status, body)
}

#[tokio::test]
async fn a_text_is_encrypted_and_comes_back() {
    let request = request(Method::POST, "/encrypt", TEXT, "hünter2 ✓");
    let (status, kind, sealed) = send(Some(keys()), "127.0.0.1", request).await;
    assert_eq!((status, kind.as_str()), (200, "text/plain;charset=UTF-8"));
    assert!(sealed.len() >= 64 && sealed.bytes().all(|b| b.is_ascii_hexdigit()), "{sealed}");
    assert_eq!(post("/decrypt", TEXT, &sealed).await, (200, "hünter2 ✓".into()));
}

#[tokio::test]
async fn what_clients_send_is_taken_as_it_was_meant() {
    for (path, kind, body, expected) in [
        ("/decrypt", TEXT, HUNTER2.to_owned(), "hunter2"),
        ("/decrypt", TEXT, HUNTER2.to_uppercase(), "hunter2"),
        ("/decrypt", TEXT, format!("{{key:x}}{{secret:y}}{HUNTER2}"), "hunter2"),
        ("/decrypt/svc/dev,eu", TEXT, HUNTER2.to_owned(), "hunter2"),
        ("/decrypt", "text/plain; charset=utf-8", HUNTER2.to_owned(), "hunter2"),
        ("/decrypt", FORM, HUNTER2.to_owned(), "hunter2"),
        ("/decrypt", FORM, format!("{HUNTER2}="), "hunter2"),
        ("/decrypt", "application/json", format!("{HUNTER2}="), "hunter2"),
    ] {
        assert_eq!(post(path, kind, &body).await, (200, expected.into()), "{path} {kind} {body}");
    }
    for (kind, body, meant) in [
        (TEXT, "a+b%20c=", "a+b%20c="),
        (FORM, "a+b%20c", "a b c"),
        (FORM, "a%3Db=", "a=b"),
        ("application/octet-stream", "a+b", "a+b"),
        ("application/octet-stream", "a%21=", "a!"),
        (TEXT, "{plain}{a:b}c", "{a:b}c"),
    ] {
        let (status, sealed) = post("/encrypt", kind, body).await;
        assert_eq!((status, keys().decrypt(&sealed).as_deref()), (200, Some(meant)), "{kind} {body}");
    }
    let (_, sealed) = post("/encrypt/svc/default", TEXT, "{key:x}hunter2").await;
    assert_eq!(keys().decrypt(sealed.strip_prefix("{key:x}").unwrap()).as_deref(), Some("hunter2"));
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_springs_words() {
    for body in [&format!("{{cipher}}{HUNTER2}"), &format!("{HUNTER2}\n"), &HUNTER2[..24], "x", " "] {
        assert_eq!(post("/decrypt", TEXT, body).await, (400, INVALID.into()), "{body:?}");
    }
    for (path, kind, body, expected) in [
        ("/decrypt", TEXT, "", 400),
        ("/encrypt", TEXT, "", 400),
        ("/encrypt", "", "x", 400),
        ("/encrypt/..app/default", TEXT, "x", 400),
        ("/encrypt/app/a..b", TEXT, "x", 400),
        ("/encrypt/app", TEXT, "x", 404),
    ] {
        assert_eq!(post(path, kind, body).await.0, expected, "{path} {kind}");
    }
    let get = async |path, keys| send(keys, "127.0.0.1", request(Method::GET, path, "", "")).await;
    assert_eq!(get("/encrypt", Some(keys())).await.0, 405);
    assert_eq!(get("/encrypt/status", Some(keys())).await.2, r#"{"status":"OK"}"#);
    let (status, _, body) = get("/encrypt/status", None).await;
    assert!(status == 500 && body.contains("NO_KEY") && body.contains("encrypt_key_file"), "{body}");
    let (status, ..) = send(None, "127.0.0.1", request(Method::POST, "/decrypt", TEXT, HUNTER2)).await;
    assert_eq!(status, 500);
}

#[tokio::test]
async fn who_is_elsewhere_encrypts_and_decrypts_nothing() {
    for path in ["/encrypt", "/decrypt", "/decrypt/svc/dev"] {
        let (status, kind, body) =
            send(Some(keys()), "10.0.0.1", request(Method::POST, path, TEXT, HUNTER2)).await;
        assert_eq!((status, kind.as_str()), (403, "application/problem+json"), "{path}");
        assert!(body.contains("management_token") && !body.contains("hunter2"), "{body}");
    }
    let (status, ..) = send(Some(keys()), "10.0.0.1", request(Method::GET, "/encrypt/status", "", "")).await;
    assert_eq!(status, 403);
}

#[test]
fn a_shell_gets_what_the_routes_give_without_its_newline() {
    let sealed = shell("encrypt", &keys(), "hunter2\n").unwrap();
    assert_eq!(keys().decrypt(&sealed).as_deref(), Some("hunter2"));
    let sealed = shell("encrypt", &keys(), " two\nlines\r\n").unwrap();
    assert_eq!(shell("decrypt", &keys(), &sealed).as_deref(), Ok(" two\nlines"));
    for text in [HUNTER2.to_owned(), format!("{HUNTER2}\n"), format!("{{cipher}}{HUNTER2}\n")] {
        assert_eq!(shell("decrypt", &keys(), &text).as_deref(), Ok("hunter2"), "{text}");
    }
    assert!(shell("decrypt", &keys(), "hunter2").unwrap_err().contains("not encrypted with this key"));
}

#[tokio::test]
async fn names_that_are_none_are_refused_before_anything_else() {
    for names in [
        "app/de$v",
        "app/a,,b",
        "app/-x",
        "app/..",
        "(_)app/default",
        "a%2fb/default",
        "a%252e%252eb/default",
        "sv..c/default",
        "a%23b/default",
    ] {
        for (method, verb) in [(Method::POST, "encrypt"), (Method::POST, "decrypt"), (Method::GET, "key")] {
            let path = format!("/{verb}/{names}");
            // Without a key, a body and the right to ask.
            for peer in ["127.0.0.1", "10.0.0.1"] {
                let (status, ..) = send(None, peer, request(method.clone(), &path, "", "")).await;
                assert_eq!(status, 400, "{path}");
            }
        }
    }
    for path in ["/key", "/key/svc/default", "/key/team(_)svc/dev,eu"] {
        let (status, _, body) = send(Some(keys()), "10.0.0.1", request(Method::GET, path, "", "")).await;
        assert!(status == 404 && body.contains("No public key available"), "{path} {body}");
    }
}
