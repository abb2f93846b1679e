//! A change to an account, and how it reaches the replicas.

use e2e::{
    http::{Reply, client},
    webdriver::Browser,
};
use serde_json::json;

use crate::{checkout::Checkout, page::Page};

#[tokio::test]
async fn a_change_is_seen_at_each_replica_and_one_that_is_frozen_is_behind() {
    let Some(browser) = Browser::start("a change on the page").await else { return };
    let checkout = Checkout::new().await;
    checkout.hops(&["up", "-d"]).ok();
    let page = Page::open(browser, &checkout).await;
    page.until_task("accountservice.2", "ready").await;
    assert_eq!(page.browser.run("return document.querySelectorAll('.position').length").await, 0);

    checkout.hops(&["walk", "--write"]).ok();
    for task in ["accountservice.1", "accountservice.2"] {
        until_position(&page, task, ": account 1, version 1").await;
    }
    checkout.hops(&["pause", "accountservice.2"]).ok();
    let change = client().put(checkout.url(6767, "/accounts/1")).header("if-match", "\"1\"");
    let change = change.header("content-type", "application/json").body(r#"{"name":"Ada"}"#);
    assert_eq!(Reply::of(change).await.unwrap().status, 200);
    until_position(&page, "accountservice.1", ": account 1, version 2").await;
    until_position(&page, "accountservice.2", ": behind").await;
    let stream = "document.querySelector('[data-queue=account_changes]')";
    page.until(&format!("{stream}.getAttribute('aria-label').endsWith('version 2, at 1 of 2 replicas')"))
        .await;
    page.until_logged("account 1 now has version 2").await;

    // The same on a phone: nothing is wider than it, and the position is not cut.
    let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false});
    page.browser.devtools("Emulation.setDeviceMetricsOverride", &size).await;
    page.until("document.documentElement.scrollWidth <= 390").await;
    let cut =
        "[...document.querySelectorAll('.position')].filter((each) => each.scrollWidth > each.clientWidth)";
    let narrow = "document.querySelector('#stage').viewBox.baseVal.width < 390";
    page.until(&format!("{narrow} && {cut}.length === 0")).await;

    checkout.hops(&["unpause", "accountservice.2"]).ok();
    until_position(&page, "accountservice.2", ": account 1, version 2").await;
    page.browser.click("[data-queue=account_changes]").await;
    page.until("document.querySelector('#detail .now').textContent.match(/version 2/g)?.length === 2").await;
    // An event that nobody consumes is no message that waits.
    assert_eq!(page.messages().await, Vec::<[String; 3]>::new());
    assert_eq!(page.browser.complaints().await, Vec::<String>::new());
}

/// Waits until the box of a replica, and its row in the table, end with a position.
async fn until_position(page: &Page, task: &str, position: &str) {
    let boxed = format!("document.querySelector('[data-task=\"{task}\"] .position')?.textContent");
    let row = format!("document.querySelector('#replicas tr[data-key=\"{task}\"]')?.cells[2].textContent");
    let ends = |text: &str| format!("{text}?.endsWith({})", json!(position));
    page.until(&format!("{} && {}", ends(&boxed), ends(&row))).await;
}
