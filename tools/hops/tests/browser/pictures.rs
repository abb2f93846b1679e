//! Pictures of the page for README: two screenshots of `cargo hops tour`, and the frames of a recording of it.
//!
//! `tools/live/record.sh` sets `HOPS_PICTURES`, the folder for them, and makes one file of the frames.
//! The frames are of the recording that the page saves, played with a clock of our own, so they are the same on a slow machine.

use std::{fs, path::Path, process::Stdio};

use e2e::{environment, webdriver::Browser};
use serde_json::json;

use crate::{checkout::Checkout, page::Page};

/// Size of the screenshots.
const WINDOW: (u64, u64) = (1280, 900);
/// Width of the recording; it is as high as the picture with its timeline.
const WIDTH: u64 = 1000;
/// Time of the page between two frames, and most frames of a recording.
const FRAME_MS: usize = 100;
const MOST_FRAMES: usize = 140;
/// Lets the page's time, and its animations, stand still but for `tick(ms)`.
const CLOCK: &str = "
    let now = performance.now(), waiting = [];
    window.requestAnimationFrame = (callback) => waiting.push(callback);
    const hold = (motion) => { if (motion.playbackRate !== 0) { motion.playbackRate = 0; motion.currentTime = 0; } };
    window.tick = (ms) => {
        now += ms;
        for (const motion of document.getAnimations()) {
            hold(motion);
            motion.currentTime += ms;
            if (motion.currentTime >= motion.effect.getComputedTiming().endTime) { motion.playbackRate = 1; motion.finish(); }
        }
        for (const callback of waiting.splice(0)) callback(now);
        document.getAnimations().forEach(hold);
        return document.querySelector('#time').dataset.mode === 'live' && document.getAnimations().length === 0;
    };";

/// Plays a recording from its start.
const FROM_THE_START: &str = "
    const timeline = document.querySelector('#timeline');
    timeline.value = 0;
    timeline.dispatchEvent(new Event('input'));
    document.querySelector('#play').click()";

#[tokio::test]
async fn a_tour_is_recorded() {
    let Some(folder) = environment::pictures() else { return };
    let Some(browser) = Browser::start("pictures of the page").await else { return };
    let checkout = Checkout::new().await;
    checkout.hops(&["up", "-d"]).ok();
    set_size(&browser, WINDOW).await;
    let page = Page::open(browser, &checkout).await;
    let mut tour = checkout.command(&["tour"]);
    let mut tour = tour.stdout(Stdio::null()).spawn().unwrap();

    // What vipservice.2 has been given waits, since it is frozen. The picture is to stay so.
    page.until_task("vipservice.2", "paused").await;
    page.until("document.querySelector('[data-queue=vip_queue]').dataset.cards >= 3").await;
    page.browser.click("#play").await;
    page.until("document.getAnimations().length === 0").await;
    for scheme in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        page.browser.devtools("Emulation.setEmulatedMedia", &json!({"features": features})).await;
        let picture = page.browser.picture(WINDOW.0, WINDOW.1).await;
        fs::write(folder.join(format!("see-it-{scheme}.png")), picture).unwrap();
    }
    assert!(tour.wait().unwrap().success());
    page.until("true").await;
    let saved = page.save().await;
    frames(&page.browser, &saved, &folder).await;
}

/// Plays a saved recording from its start to its end, and writes each frame.
async fn frames(browser: &Browser, saved: &Path, folder: &Path) {
    browser.devtools("Emulation.setEmulatedMedia", &json!({"features": []})).await;
    set_size(browser, (WIDTH, 800)).await;
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": CLOCK})).await;
    browser.open_file(saved).await;
    let speeds = browser
        .run("return [...document.querySelector('#speed').options].map((each) => each.value).slice(1)")
        .await;
    // As slow as fits into the frames.
    let mut count = usize::MAX;
    for speed in speeds.as_array().unwrap().iter().rev() {
        browser.run(FROM_THE_START).await;
        browser.set("#speed", speed.as_str().unwrap()).await;
        // The mode is shown four times a second, so the first ticks may still show that of before.
        let play = format!(
            "let count = 1; while ((!tick({FRAME_MS}) || count < 5) && count <= {MOST_FRAMES}) count += 1; return count"
        );
        count = usize::try_from(browser.run(&play).await.as_u64().unwrap()).unwrap();
        if count <= MOST_FRAMES {
            break;
        }
    }
    assert!(count <= MOST_FRAMES, "no speed is fast enough");
    browser.run(FROM_THE_START).await;
    let height = browser
        .run("return Math.ceil(document.querySelector('#time').getBoundingClientRect().bottom + scrollY)")
        .await;
    let frames = folder.join("frames");
    fs::create_dir_all(&frames).unwrap();
    for number in 0..count {
        browser.run(&format!("tick({FRAME_MS})")).await;
        let picture = browser.picture(WIDTH, height.as_u64().unwrap()).await;
        fs::write(frames.join(format!("{number:03}.png")), picture).unwrap();
    }
}

async fn set_size(browser: &Browser, (width, height): (u64, u64)) {
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", &size).await;
}
