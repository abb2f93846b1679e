//! Everything that can be done on the page, in the order in which the walk-through does it; and its end.

use std::{collections::BTreeSet, fs};

use e2e::{
    http::{Reply, client},
    wait::{PATIENCE, until},
    webdriver::Browser,
};
use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    checkout::Checkout,
    page::{Page, own_broker},
};

const QUEUE: &str = "vip_queue";
const DEAD_LETTER_QUEUE: &str = "vip_queue.dead";
/// Id of a message that would run as a script if the page took it for HTML.
const HARMFUL: &str = r#"</script><img src=x onerror="window.harmed = true">"#;

#[tokio::test]
async fn whatever_is_clicked_is_seen_and_a_saved_recording_plays_without_a_server() {
    let Some(browser) = Browser::start("the page in a browser").await else { return };
    let checkout = Checkout::new().await;
    let settings = checkout.path().join("config-repo/vipservice-test.yml");
    // On a slow machine a replica is frozen for long, and is to keep its connection.
    let with_slow_heartbeat = fs::read_to_string(&settings).unwrap() + "amqp_heartbeat: 60s\n";
    fs::write(&settings, with_slow_heartbeat).unwrap();
    let output = checkout.path().join("output");
    let mut up = checkout.command(&["up", "--json"]);
    let mut up = up.stdout(fs::File::create(&output).unwrap()).spawn().unwrap();
    checkout.until_ready().await;
    let page = Page::open(browser, &checkout).await;

    // One read by click becomes the offer that vipservice shows.
    page.click("read").await;
    let request = page.until("document.querySelector('#offers [data-request]')?.dataset.request").await;
    let offers = checkout.get(6868, "/offers").await.json();
    assert_eq!(offers["offers"][0]["requestId"], request, "{offers}");

    page.scale("vipservice", 3).await;
    for task in ["vipservice.1", "vipservice.2", "vipservice.3"] {
        page.until_task(task, "ready").await;
    }
    // Each replica of the three services listens for changed settings.
    page.until("document.querySelector('.box.bus .corner').textContent === '6 listeners'").await;
    page.click("read-ten").await;
    page.until_offers(11).await;
    // A color per replica; a card that has just come changes its color in steps.
    let cards = "[...document.querySelectorAll('.card[data-place=done] rect')]";
    page.until(&format!("new Set({cards}.map((card) => getComputedStyle(card).fill)).size === 3")).await;

    killed_in_mid_flight(&page, &checkout).await;

    page.click("poison").await;
    page.until_queue(DEAD_LETTER_QUEUE, &[("cards", 1), ("broker", 1)]).await;
    let poison = page.until_messages("dead-lettered", 1).await.remove(0);
    page.click("redrive").await;
    page.until_message(&poison, 2, DEAD_LETTER_QUEUE).await;

    page.click("cut").await;
    page.until_logged("lost the connection to the broker").await;
    page.until_logged("connected to the broker").await;
    page.click("read").await;
    page.until_offers(15).await;
    page.scale("rabbitmq", 0).await;
    page.until("document.querySelector('#status').textContent.startsWith('no broker at 127.0.0.1:')").await;
    page.scale("rabbitmq", 1).await;
    page.until("document.querySelector('#status').dataset.state === 'connected'").await;
    page.until_queue(DEAD_LETTER_QUEUE, &[("cards", 1), ("broker", 1)]).await;
    page.click("read").await;
    page.until_offers(16).await;

    let properties = BasicProperties::default().with_message_id(HARMFUL.into());
    own_broker(&checkout).publish(QUEUE, properties, b"harmful").await;
    page.until_message(HARMFUL, 1, DEAD_LETTER_QUEUE).await;
    page.browser.click("#messages tr[data-key*='onerror'] button").await;
    page.until("document.querySelector('#detail').textContent.includes('onerror=')").await;
    assert_harmless(&page.browser).await;
    page.browser.click("#detail .close").await;

    let saved = page.save().await;
    assert_eq!(page.browser.complaints().await, Vec::<String>::new());

    // Ctrl-C, while somebody watches.
    let watch = "const status = document.querySelector('#status');
        new MutationObserver(() => { if (status.dataset.state !== 'connected') window.ended ??= new Date().toISOString(); })
            .observe(status, {attributes: true});";
    page.browser.run(watch).await;
    kill_process(Pid::from_child(&up), Signal::INT).unwrap();
    let ended: Timestamp = page.browser.until("window.ended").await.as_str().unwrap().parse().unwrap();
    assert!(until("up exits", PATIENCE, async || up.try_wait().unwrap()).await.success());
    let took = ended.duration_since(stopping(&fs::read_to_string(&output).unwrap()));
    assert!(took < SignedDuration::from_secs(1), "{took:?}");
    page.browser.until("document.querySelector('#status').textContent.includes('cargo hops up')").await;

    let page = page.browser;
    page.open_file(&saved).await;
    page.until("document.body.dataset.saved !== undefined").await;
    page.until("document.querySelector('#time').dataset.mode === 'live'").await;
    page.until("document.querySelector('#offers').dataset.cards === '16'").await;
    page.until("document.querySelector('#messages').textContent.includes('onerror=')").await;
    assert_harmless(&page).await;
    let complaints = page.complaints().await;
    // While its server stopped, and until the recording was opened, the page went on asking.
    assert!(complaints.iter().all(|complaint| complaint.contains("/api/")), "{complaints:?}");
}

/// Each of three replicas has a message in flight, since the broker takes no offer, when one of them is killed.
async fn killed_in_mid_flight(page: &Page, checkout: &Checkout) {
    let replicas = ["vipservice.1", "vipservice.2", "vipservice.3"];
    for task in replicas {
        page.click_for("pause", task).await;
        page.until_task(task, "paused").await;
    }
    for _ in replicas {
        page.click("read").await;
    }
    page.until_queue(QUEUE, &[("waiting", 3), ("broker", 3)]).await;
    alarm(checkout, "on").await;
    for task in replicas {
        page.click_for("unpause", task).await;
    }
    page.until_queue(QUEUE, &[("flight", 3), ("broker", 3)]).await;
    let lost = page.until_messages("in flight at vipservice.1", 1).await;

    page.click_for("kill", "vipservice.1").await;
    for id in &lost {
        page.until_message(id, 2, "in flight at vipservice.").await;
    }
    page.until_there(".card.returned").await;
    alarm(checkout, "off").await;
    page.until_offers(14).await;
    page.until_queue(QUEUE, &[("cards", 0), ("broker", 0)]).await;
    page.until_task("vipservice.1", "ready").await;
    let offers = checkout.get(6868, "/offers?limit=100").await.json();
    let requests = offers["offers"].as_array().unwrap().iter().map(|offer| offer["requestId"].to_string());
    let requests: Vec<_> = requests.collect();
    assert_eq!((requests.len(), BTreeSet::from_iter(&requests).len()), (14, 14), "{requests:?}");
}

/// Simulates that the broker is low on memory: publishers wait.
async fn alarm(checkout: &Checkout, state: &str) {
    let reply = Reply::of(client().post(checkout.url(15672, &format!("/alarm/{state}")))).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
}

async fn assert_harmless(page: &Browser) {
    let found = page.run("return [document.images.length, window.harmed ?? null]").await;
    assert_eq!(found, serde_json::json!([0, null]));
}

/// Returns when the system began to stop, from the events that `up --json` has printed.
fn stopping(said: &str) -> Timestamp {
    let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut stopping = events.filter(|event| event["what"] == "stopping all tasks");
    stopping.find_map(|event| event["at"].as_str()?.parse().ok()).expect(said)
}
