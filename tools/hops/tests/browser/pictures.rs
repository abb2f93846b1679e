//! Pictures of the page for README: two screenshots of `cargo hops tour`, and the frames of a recording of it.
//!
//! `tools/live/record.sh` sets `HOPS_PICTURES`, the folder for them, and makes one file of the frames.
//! The frames are of the recording that the page saves, played with a clock of our own, so they are the same on a slow machine.

use std::{fs, path::Path, process::Stdio};

use e2e::{environment, webdriver::Browser};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{checkout::Checkout, page::Page};

/// Size of the screenshots.
const WINDOW: (u64, u64) = (1280, 900);
/// Width of the recording; it is as high as the picture with its timeline.
const WIDTH: u64 = 1000;
/// Speed of the player, and time of the page in one step of the first run, which finds out how long the recording is.
const SPEED: &str = "0.2";
const TICK_MS: u64 = 50;
/// Time of the page between two frames; it is longer if there were more frames than these.
const FRAME_MS: u64 = 100;
const MOST_FRAMES: u64 = 130;
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

    // The messages that vipservice.2 has been given wait, since it is frozen. The tour waits, too, until the broker's numbers are there.
    page.until_task("vipservice.2", "paused").await;
    page.until("document.querySelector('[data-queue=vip_queue]').dataset.cards >= 3").await;
    kill_process(Pid::from_child(&tour), Signal::STOP).unwrap();
    page.until_queue("vip_queue", &[("cards", 3), ("broker", 3)]).await;
    page.browser.click("#play").await;
    for scheme in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        page.browser.devtools("Emulation.setEmulatedMedia", &json!({"features": features})).await;
        let picture = page.browser.picture().await;
        fs::write(folder.join(format!("see-it-{scheme}.png")), picture).unwrap();
    }
    kill_process(Pid::from_child(&tour), Signal::CONT).unwrap();
    assert!(tour.wait().unwrap().success());
    page.until("true").await;
    let saved = page.save().await;
    frames(&page.browser, &saved, &folder).await;
}

/// Plays a saved recording from its start to its end, and writes each frame.
async fn frames(browser: &Browser, saved: &Path, folder: &Path) {
    browser.devtools("Emulation.setEmulatedMedia", &json!({"features": []})).await;
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": CLOCK})).await;
    // So high that nothing has to stick to the window's end.
    set_size(browser, (WIDTH, 2000)).await;
    browser.open_file(saved).await;
    browser.set("#speed", SPEED).await;
    let (ticks, height) = play(browser).await;
    let ms = (ticks * TICK_MS).div_ceil(MOST_FRAMES).max(FRAME_MS);
    browser.open_file(saved).await;
    browser.set("#speed", SPEED).await;
    set_size(browser, (WIDTH, height)).await;
    let frames = folder.join("frames");
    fs::create_dir_all(&frames).unwrap();
    for number in 0..ticks * TICK_MS / ms {
        browser.run(&format!("tick({ms})")).await;
        fs::write(frames.join(format!("{number:03}.png")), browser.picture().await).unwrap();
    }
}

/// Plays to the end, and returns the number of ticks and the height of the picture with its timeline. The page shows its mode
/// four times a second, so the first ticks may not show it yet.
async fn play(browser: &Browser) -> (u64, u64) {
    let script = format!(
        "let count = 0, height = 0, isOver = false;
        while (!isOver || count < 20) {{
            isOver = tick({TICK_MS});
            height = Math.max(height, document.querySelector('#time').getBoundingClientRect().bottom);
            count += 1;
        }}
        return [count, Math.ceil(height) + 12]"
    );
    serde_json::from_value(browser.run(&script).await).unwrap()
}

async fn set_size(browser: &Browser, (width, height): (u64, u64)) {
    let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", &size).await;
}
