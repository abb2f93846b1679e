//! Settings that are read again: events through a broker that is a double, files in a folder, and time that is
//! paused.

use std::{fs, sync::Mutex};

use documented::DocumentedFields;
use hops_config::{
    ConfigServer, InvalidValue, Live, Moment, Reloadable, Section, Sources, more_than_zero, secret::Secret,
};
use messaging::{ConsumerStateSender, JSON, Message, MockMessagingClient};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

hops_config::sections! {
    /// A service's settings, small.
    struct Probe {
        /// Its only section.
        own: Own,
    }
}

/// The keys of a service.
#[derive(Debug, Clone, Default, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
struct Own {
    /// A text that is live
    greeting: Reloadable<String>,
    /// A number that is not live
    size: u32,
    /// A number that nobody sets
    unset: Reloadable<u32>,
    /// A secret
    password: Option<Secret>,
}

impl Section for Own {
    fn check(&self, moment: Moment) -> Result<(), InvalidValue> {
        more_than_zero([("greeting", self.greeting.at(moment) == "nothing")])
    }
}

impl ServiceSettings for Probe {
    const SERVICE: &'static str = "probe";
}

fn repo(files: &[(&str, &str)]) -> (TempDir, Sources) {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let sources =
        Sources { config_repo: Some(folder.path().to_owned()), profile: "dev".into(), ..Sources::default() };
    (folder, sources)
}

/// Waits until something comes about, for at most 30 s.
async fn until(is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it comes about");
}

/// A service that follows its folder.
struct Following {
    live: LiveSettings<Probe>,
    folder: TempDir,
    handler: Arc<Mutex<Option<Handler>>>,
    broker: Arc<Mutex<Option<ConsumerStateSender>>>,
    /// Events that it has published on the bus.
    said: Arc<Mutex<Vec<Json>>>,
    subscription: Subscription,
    registry: Registry,
}

impl Following {
    fn greeting_live(&self) -> Live<String> {
        self.live.section(|settings| &settings.own).live(|own, moment| own.greeting.at(moment).clone())
    }

    /// The greeting at this moment.
    fn greeting(&self) -> String {
        self.greeting_live().get()
    }

    async fn new(files: &[(&str, &str)]) -> Self {
        let (folder, sources) = repo(files);
        Self::with(folder, sources).await
    }

    async fn with(folder: TempDir, sources: Sources) -> Self {
        let following = Self::without_settling(folder, sources).await;
        following.settle().await;
        following
    }

    async fn without_settling(folder: TempDir, sources: Sources) -> Self {
        let live = LiveSettings::<Probe>::load(sources).await.unwrap();
        let handler = Arc::new(Mutex::new(None));
        let broker = Arc::new(Mutex::new(None));
        let said = Arc::new(Mutex::new(vec![]));
        let mut client = MockMessagingClient::new();
        let (of_client, of_broker) = (Arc::clone(&handler), Arc::clone(&broker));
        client.expect_subscribe().once().returning(move |exchange, key, _, handler| {
            assert_eq!((exchange, key), ("springCloudBus", "#"));
            let (subscription, state) = Subscription::new(CancellationToken::new(), TaskTracker::new());
            state.set_active(true);
            *of_client.lock().unwrap() = Some(handler);
            *of_broker.lock().unwrap() = Some(state);
            subscription
        });
        let heard = Arc::clone(&said);
        client.expect_broadcast().returning(move |exchange, key, message| {
            assert_eq!((exchange, key), ("springCloudBus", "springCloudBus"));
            heard.lock().unwrap().push(serde_json::from_slice(&message.body).unwrap());
            Ok(())
        });
        let mut registry = Registry::default();
        let client: Arc<dyn MessagingClient> = Arc::new(client);
        let subscription = follow(&live, &client, "probe.1", &mut registry).unwrap();
        Self { live, folder, handler, broker, said, subscription, registry }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Lets all happen that would.
    async fn settle(&self) {
        sleep(Duration::from_secs(60)).await;
    }

    async fn hear(&self, event: &Json) {
        let message =
            Message { content_type: Some(JSON.into()), body: event.to_string().into(), ..Message::default() };
        let handler = self.handler.lock().unwrap().clone().unwrap();
        assert_eq!(handler(Delivery::new(message, false)).await, Outcome::Ack, "{event}");
    }

    async fn refresh(&self) {
        self.hear(&refresh("probe:**")).await;
        self.settle().await;
    }

    fn counts(&self) -> (u32, u32) {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let count = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("_total "));
            line.unwrap().parse().unwrap()
        };
        (count("settings_reloads"), count("settings_refusals"))
    }
}

fn refresh(destination: &str) -> Json {
    json!({ "type": "RefreshRemoteApplicationEvent", "originService": "config-server:8888:1", "id": "e1",
            "destinationService": destination })
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_meant_for_us_brings_the_new_values_to_who_asks_for_them() {
    let following = Following::new(&[("probe.yml", "greeting: old")]).await;
    let greeting: Live<String> = following.greeting_live();
    let size = greeting.map(|greeting| greeting.len());
    assert_eq!(greeting.get(), "old");
    following.write("probe.yml", "greeting: newer");
    following.refresh().await;
    assert_eq!((greeting.get().as_str(), size.get()), ("newer", 5));
    assert_eq!(following.greeting(), "newer");
    assert_eq!(following.live.note().get(), format!("from {}", following.folder.path().display()));

    following.write("probe.yml", "greeting: newest");
    let environment = json!({ "type": "EnvironmentChangeRemoteApplicationEvent", "destinationService": "**",
                              "values": { "greeting": "of nobody's file" } });
    following.hear(&environment).await;
    following.settle().await;
    assert_eq!(greeting.get(), "newest", "it is a reason to read, and no value of its own");
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_is_meant_for_us_and_an_address_that_only_contains_our_name_is_not() {
    let following = Following::new(&[("probe.yml", "greeting: old")]).await;
    let before = following.counts();
    let stranger = json!({ "type": "ShutdownRemoteApplicationEvent", "destinationService": "probe:**" });
    let ack = json!({ "type": "AckRemoteApplicationEvent", "destinationService": "**", "ackId": "e0" });
    following.write("probe.yml", "greeting: new");
    for event in [
        refresh("xprobe2:**"),
        refresh("probe-legacy:**"),
        refresh("probe:test:**"),
        refresh("probe:dev:probe.2:**"),
        stranger,
        ack,
        json!({ "type": 7 }),
        json!("no event"),
    ] {
        following.hear(&event).await;
        following.settle().await;
        assert_eq!((following.counts(), following.greeting().as_str()), (before, "old"), "{event}");
    }
    for (n, destination) in (1..).zip(["**", "*:**", "*", "probe", "probe:dev", "probe:dev:probe.1:**"]) {
        let mut event = refresh(destination);
        event["timestamp"] = json!("not a number");
        following.hear(&event).await;
        following.settle().await;
        assert_eq!(following.counts(), (before.0 + n, 0), "{destination}");
    }
    assert_eq!(following.greeting(), "new");
}

#[tokio::test(start_paused = true)]
async fn many_events_at_once_are_one_reason_to_read_and_each_is_acknowledged() {
    let following = Following::new(&[("probe.yml", "greeting: old")]).await;
    let before = following.counts().0;
    for n in 0..20 {
        let mut event = refresh("probe:**");
        event["id"] = json!(format!("e{n}"));
        following.hear(&event).await;
    }
    following.settle().await;
    assert_eq!(following.counts().0, before + 1);
    let said = following.said.lock().unwrap().clone();
    assert_eq!(said.len(), 20);
    assert_eq!(
        (&said[0]["type"], &said[0]["ackId"], &said[0]["ackDestinationService"]),
        (&json!("AckRemoteApplicationEvent"), &json!("e0"), &json!("probe:**"))
    );
    let origin = said[0]["originService"].as_str().unwrap();
    assert!(origin.starts_with("probe:dev:probe.1:"), "{origin}");

    // Its own event is not for itself, and more than can be kept in mind is no trouble.
    following.hear(&json!({ "type": "RefreshRemoteApplicationEvent", "originService": origin })).await;
    following.settle().await;
    assert_eq!(following.counts().0, before + 1);
    for _ in 0..1000 {
        following.hear(&refresh("**")).await;
    }
    following.settle().await;
    assert!(following.counts().0 >= before + 2);
    assert_eq!(following.said.lock().unwrap().len(), 20 + EVENTS);
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_changes_nothing_and_is_shown_until_a_good_one_comes() {
    let following = Following::new(&[("probe.yml", "greeting: old")]).await;
    let before = following.counts().0;
    for (n, text, says) in [
        (1, "greeting: [", "probe.yml"),
        (2, "greeting: new\nsize: many", "size"),
        (3, "greeting: new\nbroker_url: x", "unknown key `broker_url`"),
        (4, "greeting: nothing", "greeting: must be more than 0"),
        (5, "greeting: ${nothing}", "${nothing}"),
    ] {
        following.write("probe.yml", text);
        following.refresh().await;
        assert_eq!(following.greeting(), "old", "{text}");
        let note = following.live.note().get();
        assert!(note.starts_with("unchanged") && note.contains(says), "{text}: {note}");
        assert_eq!(following.counts(), (before, n), "{text}");
    }
    assert!(following.said.lock().unwrap().is_empty(), "what was refused is not acknowledged");
    following.write("probe.yml", "greeting: new");
    following.refresh().await;
    assert_eq!(following.greeting(), "new");
    assert!(following.live.note().get().starts_with("from "));
}

#[tokio::test(start_paused = true)]
async fn each_new_connection_is_a_reason_to_read_since_events_meanwhile_are_lost() {
    let following = Following::new(&[("probe.yml", "greeting: old")]).await;
    assert_eq!(following.counts().0, 1, "once after the first, too: events before it were lost");
    following.write("probe.yml", "greeting: new");
    following.settle().await;
    assert_eq!(following.greeting(), "old");
    for active in [false, true] {
        following.broker.lock().unwrap().as_ref().unwrap().set_active(active);
    }
    following.settle().await;
    assert_eq!((following.greeting().as_str(), following.counts().0), ("new", 2));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_live_keeps_its_value_and_is_shown_with_the_next_one() {
    let following = Following::new(&[("probe.yml", "size: 1\npassword: hunter2\ngreeting: a")]).await;
    following.write("probe.yml", "size: 2\npassword: hunter3\ngreeting: b");
    following.refresh().await;
    let shown = serde_json::to_value(following.live.effective().get()).unwrap();
    let origin = following.folder.path().join("probe.yml").display().to_string();
    assert_eq!(shown["size"], json!({ "value": 1, "origin": origin, "live": false, "atNextStart": 2 }));
    assert_eq!(shown["greeting"], json!({ "value": "b", "origin": origin, "live": true }));
    assert_eq!(shown["unset"], json!({ "value": 0, "origin": "default", "live": true }));
    let origin = shown["password"]["origin"].clone();
    let secret = json!({ "value": "***", "origin": origin, "live": false, "atNextStart": "***" });
    assert_eq!(shown["password"], secret);
    assert!(!shown.to_string().contains("hunter"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_stop_stops_following() {
    let following = Following::new(&[("probe.yml", "greeting: old")]).await;
    following.subscription.cancel();
    following.subscription.finished().await;
    following.write("probe.yml", "greeting: new");
    following.refresh().await;
    assert_eq!(following.greeting(), "old");
}

/// In real time: a socket knows no other.
#[tokio::test]
async fn a_reload_that_found_no_server_is_made_up_for_when_it_is_back_and_is_said_once() {
    async fn answers(listener: TcpListener, sources: Arc<Mutex<Json>>) {
        let answer = async move || {
            let sources = sources.lock().unwrap().clone();
            axum::Json(json!({ "name": "probe", "profiles": ["dev"], "propertySources": sources }))
        };
        let router = axum::Router::new().route("/probe/dev", axum::routing::get(answer));
        axum::serve(listener, router).await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let greeting = |text: &str| json!([{ "name": "n", "source": { "greeting": text } }]);
    let sources = Arc::new(Mutex::new(greeting("old")));
    let serving = tokio::task::JoinSet::from_iter([answers(listener, Arc::clone(&sources))]);
    let server = ConfigServer {
        url: format!("http://{address}").try_into().unwrap(),
        label: None,
        patience: Duration::from_secs(5),
        fail_fast: true,
        ca_file: None,
    };
    let from = Sources { server: Some(server), profile: "dev".into(), ..Sources::default() };
    let following = Following::without_settling(tempfile::tempdir().unwrap(), from).await;
    until(|| following.counts().0 == 1).await;

    drop(serving);
    following.hear(&refresh("probe:**")).await;
    until(|| following.live.note().get().contains("it is asked again")).await;
    assert_eq!((following.greeting().as_str(), following.counts()), ("old", (1, 1)));
    assert!(following.said.lock().unwrap().is_empty(), "nothing was acted on yet");

    // A server whose folder is empty for a moment knows nothing of us.
    *sources.lock().unwrap() = json!([]);
    let listener = TcpListener::bind(address).await.unwrap();
    let _serving = tokio::task::JoinSet::from_iter([answers(listener, Arc::clone(&sources))]);
    until(|| following.live.note().get().contains("knows nothing of probe dev")).await;
    assert_eq!(following.greeting(), "old");

    *sources.lock().unwrap() = greeting("new");
    until(|| following.greeting() == "new").await;
    assert_eq!(following.counts(), (2, 2), "as often as it was asked, each reason is counted once");
    assert!(following.live.note().get().starts_with("from "));
    until(|| following.said.lock().unwrap().len() == 1).await;
}

#[tokio::test]
async fn settings_that_come_from_nothing_that_could_change_are_not_followed() {
    let live = LiveSettings::<Probe>::load(Sources::default()).await.unwrap();
    let client: Arc<dyn MessagingClient> = Arc::new(MockMessagingClient::new());
    assert!(follow(&live, &client, "probe.1", &mut Registry::default()).is_none());
}
