//! The router: who is answered, and what a viewer gets.

use std::sync::Mutex;

use async_trait::async_trait;
use axum::http::{HeaderMap, Request};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tower::ServiceExt as _;

use super::*;
use crate::system::{Action, Description, LogLine};

const HOST: &str = "127.0.0.1:7878";
const TOKEN: &str = "Bearer s3cret";
/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

/// System that remembers what was asked of it.
#[derive(Default)]
struct Fake {
    done: Mutex<Vec<Action>>,
}

#[async_trait]
impl System for Fake {
    fn description(&self) -> Description {
        let commands = [("kill".to_owned(), "cargo hops kill {task}".to_owned())].into();
        Description { kind: "processes", commands, ..Description::default() }
            .with_actions(&[("cut", "there is no broker to cut".to_owned())])
    }

    async fn follow(&self, _: &Inputs, _: watch::Receiver<usize>) {
        std::future::pending().await
    }

    async fn queues(&self) -> Result<Vec<Queue>, String> {
        Ok(vec![Queue::new("vip_queue", None, 1, None, 0)])
    }

    async fn messages(&self, queue: &str) -> Result<(Vec<Value>, u64), String> {
        let message = json!({
            "message_id": "m", "correlation_id": "r", "redelivered": true, "body": "{\"secret\":1}",
            "headers": {"cloudEvents_subject": "10000", "x-hops-attempt": 2},
        });
        if queue == "vip_queue" { Ok((vec![message], 3)) } else { Err(format!("there is no queue {queue}")) }
    }

    async fn lines(&self, request: &str) -> Vec<LogLine> {
        vec![LogLine {
            at: None,
            task: "vipservice.1".into(),
            text: format!("line of {request}: got a message: {{}}"),
        }]
    }

    async fn read(&self, account: &str, _: &str) -> Result<u16, String> {
        Ok(if account == "10000" { 200 } else { 404 })
    }

    async fn act(&self, action: &Action) -> Result<String, String> {
        self.done.lock().unwrap().push(action.clone());
        Ok("done".into())
    }
}

struct Server {
    router: Router,
    live: Live,
    system: Arc<Fake>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Server {
    fn new(read_only: bool) -> Self {
        let system = Arc::<Fake>::default();
        let live = Live {
            system: system.clone(),
            history: Arc::default(),
            viewers: watch::Sender::new(0),
            read_only,
            stop: CancellationToken::new(),
        };
        let (inputs, _) = Inputs::channel();
        let actions = Actions::new(system.clone(), inputs);
        let options = Options { token: "s3cret".into(), read_only };
        Self { router: router(live.clone(), actions, options), live, system }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Response {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    async fn answer(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Answer {
        let (parts, body) = self.ask(method, path, headers, body).await.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.answer("GET", path, &[("host", HOST), ("authorization", TOKEN)], "").await
    }

    async fn post(&self, name: &str, body: &'static str) -> Answer {
        let headers = [("host", HOST), ("authorization", TOKEN), ("content-type", "application/json")];
        self.answer("POST", &format!("/api/actions/{name}"), &headers, body).await
    }

    fn hop(&self, hop: u64, id: &str) {
        let text = format!(
            r#"{{"timestamp":"2026-11-20T00:00:0{hop}Z","hop":{hop},"name":"n","message.id":"{id}","request":"r","message":"x"}}"#
        );
        self.live.history.append(crate::line::event("t.1", &text).into_iter().collect());
    }
}

#[tokio::test]
async fn who_has_no_token_or_comes_from_elsewhere_gets_no_data() {
    let server = Server::new(false);
    let (host, token) = (("host", HOST), ("authorization", TOKEN));
    let (json, text) = (("content-type", "application/json"), ("content-type", "text/plain"));
    for (method, path, headers, expected) in [
        ("GET", "/", &[host][..], 200),
        ("GET", "/", &[("host", "evil.example:7878")], 403),
        ("GET", "/style.css", &[host, ("origin", "http://evil.example")], 403),
        ("GET", "/style.css", &[host, ("sec-fetch-site", "cross-site")], 403),
        ("GET", "/style.css", &[], 400),
        ("GET", "/style.css", &[host, host], 400),
        ("GET", "/nothing", &[host], 404),
        ("GET", "/api/events", &[host], 401),
        ("GET", "/api/events?after=0", &[host, ("authorization", "Bearer wrong")], 401),
        ("GET", "/api/events", &[token, ("host", "evil.example:7878")], 403),
        ("GET", "/api/events", &[token, host, ("origin", "http://evil.example")], 403),
        ("GET", "/api/events?after=x", &[token, host], 400),
        ("GET", "/api/messages/m", &[host], 401),
        ("GET", "/api/queues/vip_queue/messages", &[host], 401),
        ("POST", "/api/actions/poison", &[host, json], 401),
        ("POST", "/api/actions/poison", &[host, token, text], 415),
        ("POST", "/api/actions/poison", &[host, token], 415),
        ("POST", "/api/actions/poison", &[host, token, json, ("origin", "http://evil.example")], 403),
        ("POST", "/api/actions/poison", &[host, token, json, ("origin", "http://127.0.0.1:7878")], 200),
        ("POST", "/api/events", &[host, token, json], 405),
        ("OPTIONS", "/api/actions/poison", &[host], 401),
    ] {
        let answer = server.answer(method, path, headers, "{}").await;
        assert_eq!(answer.status, expected, "{method} {path} {headers:?}: {}", answer.body);
        assert!(answer.headers.get("access-control-allow-origin").is_none());
        assert_eq!(answer.headers.contains_key("www-authenticate"), expected == 401, "{method} {path}");
    }
    assert_eq!(server.system.done.lock().unwrap().len(), 1, "only the one request that is allowed");
}

#[tokio::test]
async fn a_link_of_another_page_leads_to_the_page_and_not_to_the_data() {
    let server = Server::new(false);
    let link = [
        ("host", HOST),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(server.answer("GET", "/", &link, "").await.status, 200);
    let with_token = [&link[..], &[("authorization", TOKEN)]].concat();
    assert_eq!(server.answer("GET", "/api/messages/m", &with_token, "").await.status, 403);
}

#[tokio::test]
async fn every_answer_has_the_headers_that_keep_a_page_in_its_place() {
    let server = Server::new(false);
    for path in ["/", "/main.js", "/nothing", "/api/messages/m", "/api/nothing"] {
        let answer = server.get(path).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
             frame-ancestors 'none'; base-uri 'none'"
        );
        let others = ["x-content-type-options", "cache-control", "referrer-policy"].map(header);
        assert_eq!(others, ["nosniff", "no-store", "no-referrer"], "{path}");
    }
    let kind = server.get("/main.js").await.headers["content-type"].clone();
    assert_eq!(kind, "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn a_read_only_page_has_nothing_to_post_to() {
    let server = Server::new(true);
    let answer = server.post("kill", r#"{"task":"vipservice.1"}"#).await;
    assert_eq!((answer.status, server.system.done.lock().unwrap().len()), (404, 0));
    let snapshot = first_piece(&server, "/api/events").await;
    assert!(snapshot.contains(r#""readOnly":true"#), "{snapshot}");
    assert!(!snapshot.contains(r#""enabled":true"#), "{snapshot}");
}

#[tokio::test]
async fn an_action_is_done_or_the_answer_says_why_not() {
    let server = Server::new(false);
    let answer = server.post("kill", r#"{"task":"vipservice.1"}"#).await;
    assert_eq!(answer.body, r#"{"text":"done"}"#);
    assert_eq!(*server.system.done.lock().unwrap(), [Action::Kill { task: "vipservice.1".into() }]);
    for (name, body, status, part) in [
        ("cut", "{}", 409, "there is no broker to cut"),
        ("fly", "{}", 404, "there is no such action"),
        ("kill", "{", 400, "JSON"),
        ("kill", "[]", 422, "JSON"),
        ("kill", "{}", 400, "missing field `task`"),
    ] {
        let answer = server.post(name, body).await;
        assert_eq!(answer.status, status, "{name} {body}: {}", answer.body);
        assert!(answer.body.contains(part), "{}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let answer = server.post("read", r#"{"account":"10000","count":2}"#).await;
    assert!(answer.body.contains("2 of 2 reads answered with 200"), "{}", answer.body);
    let answer = server.post("read", r#"{"account":"7"}"#).await;
    assert!(answer.body.contains("0 of 1 reads answered with 200, others with 404"), "{}", answer.body);
}

#[tokio::test]
async fn a_message_is_described_and_its_body_shown_only_on_request() {
    let server = Server::new(false);
    let answer = server.get("/api/queues/vip_queue/messages").await;
    let listed: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        listed,
        json!({"more": 3, "messages": [{
            "id": "m", "account": "10000", "request": "r", "attempt": 2, "bytes": 12,
            "headers": {"cloudEvents_subject": "10000", "x-hops-attempt": 2},
            "properties": {"message_id": "m", "correlation_id": "r", "redelivered": true},
        }]})
    );
    let answer = server.get("/api/queues/vip_queue/messages?body=1").await;
    assert!(answer.body.contains(r#""body":"{\"secret\":1}""#), "{}", answer.body);
    let answer = server.get("/api/queues/none/messages").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("there is no queue none"), "{}", answer.body);

    server.hop(5, "a/b");
    let answer = server.get("/api/messages/a%2Fb").await;
    let found: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&found["id"], &found["events"][0]["hop"]), (&json!("a/b"), &json!(5)));
    assert_eq!(found["lines"][0]["text"], "line of r: got a message");
    let answer = server.get("/api/messages/a%2Fb?body=1").await;
    assert!(answer.body.contains("line of r: got a message: {}"), "{}", answer.body);
    let answer = server.get("/api/messages/none").await;
    assert_eq!(answer.body, r#"{"id":"none","events":[],"lines":[]}"#);
}

/// Returns the first piece of a stream.
async fn first_piece(server: &Server, path: &str) -> String {
    let response = server.ask("GET", path, &[("host", HOST), ("authorization", TOKEN)], "").await;
    let piece = response.into_body().into_data_stream().next().await.unwrap().unwrap();
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_viewer_gets_a_snapshot_and_then_each_event_once() {
    let server = Server::new(false);
    server.hop(5, "m");
    let headers = [("host", HOST), ("authorization", TOKEN)];
    let response = server.ask("GET", "/api/events", &headers, "").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut next = async || String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    let snapshot = next().await;
    assert!(snapshot.starts_with("event: snapshot\nid: 1\ndata: {\"seq\":1,\"now\":\""), "{snapshot}");
    assert!(snapshot.contains("\"hop\":5") && snapshot.ends_with("]}\n\n"), "{snapshot}");
    server.hop(6, "m");
    server.hop(7, "m");
    let piece = next().await;
    assert!(piece.starts_with("id: 2\ndata: {\"seq\":2,") && piece.contains("\n\nid: 3\ndata: {"), "{piece}");
    assert_eq!(next().await, ":\n\n", "nothing happens");
    server.hop(8, "m");
    assert!(next().await.starts_with("id: 4\n"));
    assert_eq!(*server.live.viewers.borrow(), 1);
    server.live.stop.cancel();
    assert_eq!(next().await, "event: end\ndata: {}\n\n");
    assert!(stream.next().await.is_none());
    drop(stream);
    assert_eq!(*server.live.viewers.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_viewer_learns_how_much_it_has_missed_and_begins_anew() {
    let server = Server::new(false);
    server.hop(1, "waits");
    server.hop(2, "waits");
    for _ in 0..6_000 {
        server.hop(9, "done");
    }
    let piece = first_piece(&server, "/api/events?after=1").await;
    assert!(
        piece.starts_with("event: skipped\ndata: {\"skipped\":1001}\n\nevent: snapshot\nid: 6002\n"),
        "{piece:.200}"
    );
    assert!(piece.contains("\"id\":\"waits\""), "the message that still waits");
    let piece = first_piece(&server, "/api/events?after=6001").await;
    assert!(piece.starts_with("id: 6002\n"), "{piece}");
}

#[tokio::test]
async fn there_are_only_so_many_viewers() {
    let server = Server::new(false);
    let headers = [("host", HOST), ("authorization", TOKEN)];
    let mut open = vec![];
    for _ in 0..MAX_VIEWERS {
        open.push(server.ask("GET", "/api/events", &headers, "").await);
    }
    assert_eq!(server.get("/api/events").await.status, 503);
    open.pop();
    assert_eq!(server.ask("GET", "/api/events", &headers, "").await.status().as_u16(), 200);
}

#[test]
fn queues_that_have_changed_or_are_gone_are_reported() {
    let of = |queues: &[(&str, u64)]| -> BTreeMap<_, _> {
        let queue =
            |(name, ready): &(&str, u64)| ((*name).to_owned(), Queue::new(name, None, *ready, None, 0));
        queues.iter().map(queue).collect()
    };
    let changed = changes(&of(&[("a", 1), ("b", 1), ("c", 1)]), &of(&[("a", 1), ("b", 2), ("d", 0)]));
    let changed: Vec<_> =
        changed.iter().map(|queue| (queue.name.as_str(), queue.ready, queue.gone)).collect();
    assert_eq!(changed, [("b", 2, false), ("d", 0, false), ("c", 1, true)]);
}

/// Server over a socket.
struct Listening {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: JoinSet<()>,
}

impl Listening {
    async fn new(connections: usize, client_timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let options = Options { token: "s3cret".into(), read_only: false };
        let (system, mut serving) = (Arc::<Fake>::default(), JoinSet::new());
        serving.spawn(serve_within(connections, client_timeout, listener, system, options, stop.clone()));
        Self { address, stop, serving }
    }

    /// Returns a connection over which `sent` was sent.
    async fn send(&self, sent: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        client
    }

    async fn get(&self, path: &str) -> TcpStream {
        let head = format!("host: {}\r\nauthorization: {TOKEN}", self.address);
        self.send(&format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n")).await
    }
}

/// Reads until `end` was there.
async fn read_until(client: &mut TcpStream, end: &str) {
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.contains(end) {
        let count = timeout(LIMIT, client.read(&mut buffer)).await.expect("an answer in time").unwrap();
        assert!(count > 0, "closed after {read}");
        read += &String::from_utf8_lossy(&buffer[..count]);
    }
}

/// Waits until the server closes the connection.
async fn closed(client: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let read = async { while client.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    timeout(LIMIT, read).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_stopped_server_ends_while_somebody_watches() {
    let mut server = Listening::new(MAX_CONNECTIONS, CLIENT_TIMEOUT).await;
    let mut watching = server.get("/api/events").await;
    read_until(&mut watching, "vip_queue").await;
    server.stop.cancel();
    let ended = timeout(Duration::from_secs(1), server.serving.join_next()).await;
    ended.expect("within a second").unwrap().unwrap();
}

#[tokio::test]
async fn idle_and_half_sent_connections_keep_nobody_out_and_close_no_page_that_is_open() {
    let client_timeout = Duration::from_millis(500);
    let server = Listening::new(4, client_timeout).await;
    let mut watching = server.get("/api/events").await;
    read_until(&mut watching, "event: snapshot").await;
    for sent in ["", "GET / HTTP/1.1\r\nho"] {
        let mut idle = vec![];
        for _ in 0..8 {
            idle.push(server.send(sent).await);
        }
        let mut answered = server.get("/style.css").await;
        read_until(&mut answered, "HTTP/1.1 200 OK").await;
        for client in idle.iter_mut().chain([&mut answered]) {
            closed(client).await;
        }
    }
    // The stream is older than the time limit, and goes on.
    server.stop.cancel();
    read_until(&mut watching, "event: end").await;
}
