//! The chapters that run examples do what they print: see `e2e/tests/pages/walkthrough.rs`.

use std::path::Path;

use e2e::page::play_chapter_with;

use crate::kit::program;

/// Returns the folder in which cargo has built the examples for this test.
fn examples() -> &'static Path {
    Path::new(program!("emit_log")).parent().unwrap()
}

#[tokio::test]
async fn chapter_07_broadcast() {
    play_chapter_with(examples(), "docs/walkthrough/07-broadcast-route-topics.md").await;
}

#[tokio::test]
async fn chapter_08_ask_and_wait() {
    play_chapter_with(examples(), "docs/walkthrough/08-ask-and-wait.md").await;
}
