//! The pages that a person types from do what they print: each is played by [`e2e::page`], which says how.

use e2e::page::play;

#[tokio::test]
async fn the_quick_start_of_the_readme_does_what_it_prints() {
    play("README.md").await;
}

#[tokio::test]
async fn the_page_with_a_terminal_per_service_does_what_it_prints() {
    play("docs/BY_HAND.md").await;
}
