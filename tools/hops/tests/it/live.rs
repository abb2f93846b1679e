//! The page's server beside a real system: who gets an answer, what a viewer sees, and its end.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    time::Duration,
};

use e2e::{
    http::client,
    wait::{PATIENCE, until, until_true},
};
use jiff::{SignedDuration, Timestamp};
use reqwest::Response;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::checkout::Checkout;

/// Port of the page before `HOPS_PORT_BASE` is added.
const PORT: u16 = 7878;

/// The page's server of a checkout, for the owner of its token.
struct Page {
    url: String,
    token: String,
}

impl Page {
    /// Finds the address in the text of a command.
    fn printed_in(said: &str) -> Self {
        let line = said.lines().find(|line| line.starts_with("the picture ")).expect(said);
        let url = line.split_whitespace().last().unwrap();
        let (url, token) = url.split_once("/#").expect(line);
        Self { url: url.into(), token: token.into() }
    }

    async fn get(&self, path: &str) -> Response {
        let request = client().get(format!("{}{path}", self.url)).bearer_auth(&self.token);
        request.timeout(Duration::from_secs(60)).send().await.unwrap()
    }

    async fn post(&self, action: &str, body: &Value) -> (u16, Value) {
        let request = client().post(format!("{}/api/actions/{action}", self.url)).bearer_auth(&self.token);
        let answer = request.json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn watch(&self) -> Stream {
        Stream { response: self.get("/api/events").await, text: String::new() }
    }
}

/// Stream of events of one viewer.
struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    /// Returns the data of the next frame, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                self.text = rest.to_owned();
                match data {
                    Some(data) => return Some(serde_json::from_str(&data).unwrap()),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// Returns the next event for which `wanted` is true.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = timeout(PATIENCE, async {
            loop {
                let event = self.next().await.expect("the stream goes on");
                if wanted(&event) {
                    return event;
                }
            }
        });
        found.await.expect("the event comes in time")
    }

    /// Reads what comes until the stream ends.
    async fn until_end(&mut self) {
        while timeout(PATIENCE, self.next()).await.expect("the stream ends").is_some() {}
    }
}

/// Checks that the stream ended soon after the system began to stop, which one of the events in `said` tells. The time that a
/// command takes to start on a busy machine does not count.
fn assert_ended_within_a_second(ended: Timestamp, said: &str) {
    let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let stopping = events
        .filter(|event| event["what"] == "stopping all tasks")
        .find_map(|event| event["at"].as_str()?.parse::<Timestamp>().ok());
    let took = ended.duration_since(stopping.expect(said));
    assert!(took < SignedDuration::from_secs(1), "{took:?}");
}

fn up(checkout: &Checkout) -> Page {
    Page::printed_in(&checkout.hops(&["up", "-d", "--broker", &checkout.broker()]).ok())
}

#[tokio::test]
async fn a_page_that_waits_for_a_down_is_not_started() {
    let checkout = Checkout::new().await;
    checkout.up().ok();
    let lock = File::open(checkout.path().join(".hops/run/command.lock")).unwrap();
    lock.lock().unwrap();
    let mut live = checkout.command(&["live"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(live.stderr.take().unwrap());
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    assert!(said.contains("waiting for process"), "{said}");
    kill_process(Pid::from_raw(checkout.supervisor()).unwrap(), Signal::TERM).unwrap();
    until_true("all have exited", PATIENCE, async || checkout.processes().is_empty()).await;
    drop(lock);
    errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("nothing is up here: type `cargo hops up`"), "{said}");
    assert!(!live.wait().unwrap().success());
}

#[tokio::test]
async fn a_viewer_sees_the_hops_of_a_read_in_their_order_and_what_a_click_does() {
    let checkout = Checkout::new().await;
    let page = up(&checkout);
    let mut stream = page.watch().await;
    let snapshot = stream.next().await.unwrap();
    assert_eq!(
        (&snapshot["system"]["kind"], &snapshot["system"]["readOnly"]),
        (&json!("processes"), &json!(false))
    );
    let restart = &snapshot["system"]["actions"]["restart-broker"];
    assert!(restart["why"].as_str().unwrap().contains("--broker"), "a foreign broker: {restart}");
    assert_eq!(page.post("restart-broker", &json!({})).await.0, 409);
    let names: BTreeSet<_> =
        snapshot["events"].as_array().unwrap().iter().filter_map(|e| e["task"].as_str()).collect();
    assert!(names.contains("accountservice.2") && names.contains("vipservice.1"), "{names:?}");

    let (status, done) = page.post("read", &json!({"account": "10000", "count": 1})).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(snapshot["system"]["commands"]["read"], "cargo hops read {count} {account}");
    let answer = stream.until(|event| event["kind"] == "answer").await;
    let request = answer["request"].clone();
    // Of this read, all hops come, in the order of their times. (The answer may overtake the first ones.)
    let path = format!(
        "/api/messages/{}",
        stream.until(|e| e["hop"] == 9 && e["request"] == request).await["id"].as_str().unwrap()
    );
    let message = until("hops 4 to 9 are there", PATIENCE, async || {
        let message: Value = page.get(&path).await.json().await.unwrap();
        (message["events"].as_array().unwrap().len() >= 6).then_some(message)
    })
    .await;
    let events = message["events"].as_array().unwrap();
    let hops: Vec<_> = events.iter().map(|event| event["hop"].as_u64().unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(hops.iter().copied()), (4..=9).collect());
    let times: Vec<_> = events.iter().map(|event| event["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    // The relay may be quicker than the line of hop 4, and a replica quicker than that of hop 6.
    let at_the_replica: Vec<_> = hops.iter().copied().filter(|hop| *hop >= 7).collect();
    assert_eq!(at_the_replica, [7, 8, 9], "{hops:?}");
    let logged: Vec<_> =
        message["lines"].as_array().unwrap().iter().map(|line| line["text"].to_string()).collect();
    assert!(logged.iter().any(|line| line.contains("hop=1")), "{logged:?}");

    let before = checkout.tasks("vipservice")[0]["id"].clone();
    let (status, done) = page.post("kill", &json!({"task": "vipservice.1"})).await;
    assert_eq!(status, 200, "{done}");
    let gone =
        |event: &Value| event["kind"] == "task" && event["process"] == before && event["state"] != "ready";
    stream.until(gone).await;
    stream
        .until(|event| {
            event["task"] == "vipservice.1" && event["state"] == "ready" && event["process"] != before
        })
        .await;

    // A message that nobody can read is dead-lettered, listed without its body, and sent again.
    let (status, done) = page.post("poison", &json!({})).await;
    assert_eq!(status, 200, "{done}");
    let id = stream.until(|event| event["kind"] == "end" && event["outcome"] == "dead-lettered").await["id"]
        .clone();
    let listed: Value = page.get("/api/queues/vip_queue.dead/messages").await.json().await.unwrap();
    assert_eq!((&listed["messages"][0]["id"], &listed["more"]), (&id, &json!(0)), "{listed}");
    assert!(listed["messages"][0]["body"].is_null() && listed["messages"][0]["bytes"] == 6, "{listed}");
    let (status, done) = page.post("redrive", &json!({})).await;
    assert_eq!(status, 200, "{done}");
    stream.until(|event| event["kind"] == "end" && event["id"] == id).await;

    let down = checkout.command(&["down", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    stream.until_end().await;
    let ended = Timestamp::now();
    let said = down.wait_with_output().unwrap();
    assert!(said.status.success());
    assert_ended_within_a_second(ended, &String::from_utf8_lossy(&said.stdout));
    assert_eq!(checkout.processes(), Vec::<String>::new());
    assert!(!checkout.path().join(".hops/run/live.json").exists());
}

#[tokio::test]
async fn the_systems_own_broker_can_be_cut_and_restarted_by_click() {
    let checkout = Checkout::new().await;
    let page = Page::printed_in(&checkout.hops(&["up", "-d"]).ok());
    let mut stream = page.watch().await;
    let snapshot = stream.next().await.unwrap();
    assert_eq!(snapshot["system"]["brokerName"], "devbroker");
    stream.until(|event| event["kind"] == "queue" && event["name"] == "vip_queue").await;
    let is_log = |event: &Value, start: &str| {
        event["kind"] == "log" && event["text"].as_str().is_some_and(|text| text.starts_with(start))
    };
    let (status, done) = page.post("cut", &json!({})).await;
    assert_eq!(status, 200, "{done}");
    stream.until(|event| is_log(event, "lost the connection to the broker")).await;
    stream.until(|event| is_log(event, "connected to the broker")).await;

    let (status, done) = page.post("restart-broker", &json!({})).await;
    assert_eq!(status, 200, "{done}");
    stream
        .until(|event| {
            event["kind"] == "task" && event["task"] == "rabbitmq.1" && event["state"] == "waiting"
        })
        .await;
    stream
        .until(|event| event["kind"] == "task" && event["task"] == "rabbitmq.1" && event["state"] == "ready")
        .await;
}

#[tokio::test]
async fn only_the_owner_of_the_token_gets_data_and_only_from_this_machine() {
    let checkout = Checkout::new().await;
    let page = up(&checkout);
    let address = checkout.path().join(".hops/run/live.json");
    assert_eq!(fs::metadata(&address).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(checkout.processes().iter().all(|process| !process.contains(&page.token)));
    let logs = [".hops/run/live.log", ".hops/run/supervisor.log"]
        .map(|log| fs::read_to_string(checkout.path().join(log)).unwrap());
    assert!(!logs.concat().contains(&page.token));

    let ask = async |method: &str, path: &str, headers: &[(&'static str, &str)]| {
        let request = client().request(method.parse().unwrap(), format!("{}{path}", page.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.body("{}").send().await.unwrap();
        answer.status().as_u16()
    };
    let token = format!("Bearer {}", page.token);
    let (token, foreign) = (("authorization", token.as_str()), ("host", "evil.example:7878"));
    for (method, path, headers, expected) in [
        ("GET", "/", &[][..], 200),
        ("GET", "/", &[foreign], 403),
        ("GET", "/api/events", &[], 401),
        ("GET", "/api/events", &[("authorization", "Bearer x")], 401),
        ("GET", "/api/events", &[token, foreign], 403),
        ("GET", "/api/events", &[token, ("origin", "http://evil.example")], 403),
        ("POST", "/api/actions/cut", &[("content-type", "application/json")], 401),
        ("POST", "/api/actions/cut", &[token, ("content-type", "text/plain")], 415),
    ] {
        assert_eq!(ask(method, path, headers).await, expected, "{method} {path} {headers:?}");
    }

    // The same address again, and another one for a page that changes nothing.
    let again = Page::printed_in(&checkout.hops(&["live"]).ok());
    assert_eq!((&again.url, &again.token), (&page.url, &page.token));
    let read_only = Page::printed_in(&checkout.hops(&["live", "--read-only"]).ok());
    assert_ne!(read_only.token, page.token);
    assert_eq!(read_only.post("kill", &json!({"task": "vipservice.1"})).await.0, 404);
    let snapshot = read_only.watch().await.next().await.unwrap();
    assert_eq!(snapshot["system"]["readOnly"], true);
    assert_eq!(page.get("/api/events").await.status(), 401, "the earlier token");
}

#[tokio::test]
async fn the_death_of_the_server_harms_nothing_and_ctrl_c_ends_it_while_somebody_watches() {
    let checkout = Checkout::new().await;
    let output = checkout.path().join("output");
    let mut up = checkout.command(&["up", "--json", "--broker", &checkout.broker()]);
    let mut up = up.stdout(fs::File::create(&output).unwrap()).spawn().unwrap();
    checkout.until_ready().await;
    let address = checkout.path().join(".hops/run/live.json");
    let pid = until("the server runs", PATIENCE, async || {
        let address: Value = serde_json::from_str(&fs::read_to_string(&address).ok()?).ok()?;
        address["pid"].as_i64()
    })
    .await;
    checkout.kill(i32::try_from(pid).unwrap()).await;
    assert_eq!(checkout.get(6767, "/accounts/10000").await.status, 200);

    let page = Page::printed_in(&checkout.hops(&["live"]).ok());
    let mut stream = page.watch().await;
    stream.next().await.unwrap();
    kill_process(Pid::from_child(&up), Signal::INT).unwrap();
    stream.until_end().await;
    let ended = Timestamp::now();
    assert!(until("up exits", PATIENCE, async || up.try_wait().unwrap()).await.success());
    assert_ended_within_a_second(ended, &fs::read_to_string(&output).unwrap());
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_taken_port_leaves_out_the_page_and_nothing_else() {
    let checkout = Checkout::new().await;
    let port = checkout.port(PORT);
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said = checkout.hops(&["up", "-d", "--broker", &checkout.broker()]).ok();
    let line = said.lines().find(|line| line.starts_with("the picture ")).unwrap();
    for part in [&format!("port {port}"), "HOPS_PORT_BASE=1000", "cargo hops live"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(checkout.get(6767, "/accounts/10000").await.status, 200);
    assert!(checkout.hops(&["live"]).failed().contains(&format!("port {port}")));
    drop(taken);
    let page = Page::printed_in(&checkout.hops(&["live"]).ok());
    until_true("the page answers", PATIENCE, async || page.get("/").await.status() == 200).await;
}
