//! A config server that behaves well, badly, or not yet.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::header::{AUTHORIZATION, LOCATION},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, task::JoinSet};

use super::*;

const GOOD: &str = r#"{"name":"probe","profiles":["dev"],"label":null,"version":null,"state":null,
    "propertySources":[{"name":"file:probe.yml","source":{"size":1}},{"name":"file:application.yml","source":{}}]}"#;

/// A server for as long as it lives.
struct FakeServer {
    address: String,
    asked: Arc<AtomicU32>,
    _serving: JoinSet<()>,
}

/// Answers the first request with `answer(1)`, and so on.
async fn serve(answer: impl Fn(u32, Request) -> Response + Clone + Send + Sync + 'static) -> FakeServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let router = Router::new().fallback(move |request: Request| {
        let (answer, count) = (answer.clone(), Arc::clone(&count));
        async move { answer(count.fetch_add(1, Ordering::SeqCst) + 1, request) }
    });
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    FakeServer { address, asked, _serving: serving }
}

fn server(url: String) -> ConfigServer {
    ConfigServer {
        url: url.try_into().unwrap(),
        label: None,
        patience: Duration::from_secs(20),
        fail_fast: true,
        ca_file: None,
    }
}

impl FakeServer {
    async fn fetch(&self) -> Result<Vec<PropertySource>, Failed> {
        server(format!("http://{}", self.address)).fetch("probe", "dev", |_| {}).await
    }

    /// How it fails, after how many requests.
    async fn failed(&self) -> (Failed, u32) {
        let failed = self.fetch().await.err().unwrap();
        (failed, self.asked.load(Ordering::SeqCst))
    }
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).unwrap().into_response()
}

#[tokio::test]
async fn a_server_that_is_coming_up_is_asked_again_and_its_delay_is_told() {
    for not_yet in [404, 500, 503] {
        let fake = serve(move |n, _| if n == 1 { status(not_yet) } else { GOOD.into_response() }).await;
        let mut told = vec![];
        let server = server(format!("http://{}", fake.address));
        let layers = server.fetch("probe", "dev", |why| told.push(why.to_owned())).await.unwrap();
        assert_eq!(layers.len(), 2, "every property source");
        assert_eq!(fake.asked.load(Ordering::SeqCst), 2);
        assert!(told.len() == 1 && told[0].contains(&not_yet.to_string()), "{told:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}");
    let absent = ConfigServer { patience: Duration::from_millis(1), ..server(url) };
    let failed = absent.fetch("probe", "dev", |_| {}).await.err().unwrap();
    assert!(matches!(&failed, Failed::Later(why) if why.contains("refused")), "{failed:?}");

    // It takes the request, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_server = ConfigServer {
        patience: Duration::from_millis(200),
        ..server(format!("http://{}", silent.local_addr().unwrap()))
    };
    let failed = silent_server.fetch("probe", "dev", |_| {}).await.err().unwrap();
    assert!(matches!(&failed, Failed::Later(why) if why.contains("timed out")), "{failed:?}");
}

#[tokio::test]
async fn an_answer_that_a_person_has_to_act_on_ends_the_waiting_at_once() {
    for (code, says) in [
        (401, "APP_CONFIG_PASSWORD"),
        (403, "APP_CONFIG_PASSWORD"),
        (400, "is that a config server?"),
        (406, "is that a config server?"),
        (204, "is that a config server?"),
    ] {
        let (failed, asked) = serve(move |_, _| status(code)).await.failed().await;
        assert_eq!(asked, 1, "{code}");
        assert!(matches!(&failed, Failed::Refused(why) if why.contains(says)), "{code}: {failed:?}");
    }
}

#[tokio::test]
async fn garbage_is_refused_and_so_is_more_than_settings_can_be() {
    for body in ["hello", "<html></html>", "[]", r#"{"name":"probe"}"#] {
        let (failed, asked) = serve(move |_, _| body.into_response()).await.failed().await;
        assert_eq!(asked, 1, "{body}");
        assert!(matches!(&failed, Failed::Refused(why) if why.contains("no Environment")), "{failed:?}");
    }
    let chunk = || Ok::<_, std::io::Error>(axum::body::Bytes::from(vec![b' '; 64 * 1024]));
    let endless = move |_, _| Response::new(Body::from_stream(futures_util::stream::repeat_with(chunk)));
    let (failed, asked) = serve(endless).await.failed().await;
    assert_eq!(asked, 1);
    assert!(matches!(&failed, Failed::Refused(why) if why.contains("larger than")), "{failed:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_credentials() {
    let elsewhere = serve(|_, _| GOOD.into_response()).await;
    let address = format!("http://{}/probe/dev", elsewhere.address);
    let fake = serve(move |_, _| (StatusCode::FOUND, [(LOCATION, address.clone())]).into_response()).await;
    assert!(matches!(fake.failed().await, (Failed::Refused(_), 1)));
    assert_eq!(elsewhere.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_service_the_profile_and_the_label_are_asked_for_with_credentials_that_nothing_prints() {
    let fake = serve(|_, request| {
        let headers = request.headers();
        // Who names no label gets the server's own: no name of a branch is the right one everywhere.
        let path = request.uri().path();
        let is_right = ["/prefix/probe/dev/feature(_)a%20b", "/prefix/probe/dev"].contains(&path)
            && headers[AUTHORIZATION] == "Basic dXNlcjpodW50ZXIy"
            && headers["accept"] == "application/json";
        if is_right { GOOD.into_response() } else { status(401) }
    })
    .await;
    let url = format!("http://user:hunter2@{}/prefix/", fake.address);
    let with =
        ConfigServer { label: Some("feature/a b".into()), patience: Duration::from_secs(1), ..server(url) };
    assert_eq!(with.fetch("probe", "dev", |_| {}).await.unwrap().len(), 2);
    assert!(!format!("{with} {with:?}").contains("hunter2"));

    // Who sets a password alone means Spring's `user`.
    let url = format!("http://{}/prefix/", fake.address);
    let url = ServerUrl::try_from(url).unwrap().with_password(Some("hunter2"));
    let alone = ConfigServer { url, ..with.clone() };
    assert_eq!(alone.fetch("probe", "dev", |_| {}).await.unwrap().len(), 2);

    let without = ConfigServer { label: None, ..with };
    assert_eq!(without.fetch("probe", "dev", |_| {}).await.unwrap().len(), 2);
    let failed = without.fetch("probe", "test", |_| {}).await.err().unwrap();
    assert!(matches!(&failed, Failed::Refused(why) if !why.contains("hunter2")), "{failed:?}");
}

#[test]
fn a_password_is_sent_as_it_was_set_whatever_its_characters() {
    for password in ["a%41b", "a:b@c/d?e#f", "\u{fc} \""] {
        let address = ServerUrl::try_from("http://user@h".to_owned()).unwrap();
        let url = address.with_password(Some(password)).of("probe", "dev", None);
        let request = Client::new().get(url).build().unwrap();
        let expected = Client::new().get("http://h").basic_auth("user", Some(password)).build().unwrap();
        assert_eq!(request.headers(), expected.headers(), "{password}");
        assert_eq!(request.url().as_str(), "http://h/probe/dev");
    }
}

#[test]
fn an_address_that_is_none_is_refused_without_its_password() {
    for (text, says) in [
        ("", "http://configserver:8888"),
        ("configserver:8888", "is not a config server's scheme"),
        ("ftp://u:hunter2@h", "is not a config server's scheme"),
        ("http://u:hunter2@h:99999", "port"),
        ("http://h?x=1", "drop what follows"),
        ("http://", "host"),
    ] {
        let why = ServerUrl::try_from(text.to_owned()).unwrap_err();
        assert!(why.contains(says) && !why.contains("hunter2"), "{text}: {why}");
    }
    if !cfg!(feature = "tls") {
        let why = ServerUrl::try_from("https://u:hunter2@h".to_owned()).unwrap_err();
        assert!(why.contains("--features tls") && !why.contains("hunter2"), "{why}");
    }
}
