//! The page as a person uses it: its buttons, its boxes, its tables.

use std::{fs, path::PathBuf};

use e2e::{
    broker::Vhost,
    wait::{PATIENCE, until},
    webdriver::Browser,
};
use serde_json::{Value, json};

use crate::checkout::Checkout;

/// The page in a browser, connected to the server of a checkout.
pub(crate) struct Page {
    pub(crate) browser: Browser,
}

impl Page {
    /// Opens the page of the system that is up in a checkout.
    pub(crate) async fn open(browser: Browser, checkout: &Checkout) -> Self {
        let said = checkout.hops(&["live"]).ok();
        browser.open(said.split_whitespace().last().unwrap()).await;
        browser.until("document.querySelector('#status').dataset.state === 'connected'").await;
        Self { browser }
    }

    pub(crate) async fn click(&self, action: &str) {
        self.browser.click(&format!("[data-action='{action}']")).await;
    }

    /// Clicks a button that does something to one task.
    pub(crate) async fn click_for(&self, action: &str, task: &str) {
        self.browser.set("#actions select[name=task]", task).await;
        self.click(action).await;
    }

    pub(crate) async fn scale(&self, service: &str, replicas: usize) {
        self.browser.set("#actions select[name=service]", service).await;
        self.browser.set("#actions input[name=replicas]", &replicas.to_string()).await;
        self.click("scale").await;
    }

    /// Waits until an expression is true of the present, which the page shows at once and not in slow motion.
    pub(crate) async fn until(&self, expression: &str) -> Value {
        self.browser.until(&format!("(document.querySelector('#live').click(), {expression})")).await
    }

    /// Waits until there is an element.
    pub(crate) async fn until_there(&self, css: &str) {
        self.until(&format!("document.querySelector({}) !== null", json!(css))).await;
    }

    /// Waits until a task is in a state.
    pub(crate) async fn until_task(&self, task: &str, state: &str) {
        self.until_there(&format!("[data-task='{task}'][data-state='{state}']")).await;
    }

    /// Waits until the box of a queue has these numbers, such as `cards` (by events) and `broker` (by the broker itself).
    pub(crate) async fn until_queue(&self, queue: &str, numbers: &[(&str, usize)]) {
        let numbers = numbers.iter().map(|(name, number)| format!("[data-{name}='{number}']"));
        self.until_there(&format!("[data-queue='{queue}']{}", numbers.collect::<String>())).await;
    }

    /// Waits until the stream's box has this number of offers.
    pub(crate) async fn until_offers(&self, count: usize) {
        self.until_queue("offers", &[("cards", count)]).await;
    }

    /// Waits until the log has a line that contains a text.
    pub(crate) async fn until_logged(&self, text: &str) {
        self.until(&format!("document.querySelector('#log').textContent.includes({})", json!(text))).await;
    }

    /// Returns the rows of the table of messages: id, place and number of attempts.
    pub(crate) async fn messages(&self) -> Vec<[String; 3]> {
        let script = "return [...document.querySelectorAll('#messages tr[data-key]')]
            .map((row) => [row.dataset.key, row.cells[2].textContent, row.cells[4].textContent])";
        serde_json::from_value(self.browser.run(script).await).unwrap()
    }

    /// Waits until at least so many messages are at a place by the table of messages, which is written four times a second, and
    /// returns the ids of all that are there.
    pub(crate) async fn until_messages(&self, place: &str, count: usize) -> Vec<String> {
        until(place, PATIENCE, async || {
            let there = self.messages().await.into_iter().filter(|[_, at, _]| at.contains(place));
            let ids: Vec<_> = there.map(|[id, ..]| id).collect();
            (ids.len() >= count).then_some(ids)
        })
        .await
    }

    /// Waits until a message has had this number of attempts and is at a place.
    pub(crate) async fn until_message(&self, id: &str, attempts: usize, place: &str) {
        let rows = "[...document.querySelectorAll('#messages tr[data-key]')]";
        let is_there = format!(
            "row.dataset.key === {} && row.cells[2].textContent.includes({}) && row.cells[4].textContent === '{attempts}'",
            json!(id),
            json!(place)
        );
        self.until(&format!("{rows}.some((row) => {is_there})")).await;
    }

    /// Saves the recording, and returns where the browser has put it.
    pub(crate) async fn save(&self) -> PathBuf {
        self.browser.click("#save").await;
        let folder = self.browser.downloads();
        until("the recording is saved", PATIENCE, async || {
            let mut files = fs::read_dir(&folder).ok()?.flatten().map(|file| file.path());
            // Until it is complete it has another ending.
            files.find(|path| path.extension().is_some_and(|ending| ending == "html"))
        })
        .await
    }
}

/// The broker that `up` has started.
pub(crate) fn own_broker(checkout: &Checkout) -> Vhost {
    Vhost::default_of(&format!("amqp://127.0.0.1:{}", checkout.port(5672)), &checkout.url(15672, ""))
}
