//! The chapters of `docs/walkthrough` do what they print, each played by [`e2e::page`], and the code that they show is in the files.
//!
//! Those that run examples are played in `examples/tests/it/walkthrough.rs`, the one on Docker Swarm in `e2e/tests/swarm/walkthrough.rs`.

use e2e::{
    page::{play, play_chapter},
    quote, repository,
};

const FOLDER: &str = "docs/walkthrough/";

/// Every page of the documentation, by its path from the root.
fn pages() -> impl Iterator<Item = String> {
    repository::files().into_iter().filter(|path| path.ends_with(".md"))
}

#[tokio::test]
async fn chapter_01_run_it() {
    play("docs/walkthrough/01-run-it.md").await;
}

#[tokio::test]
async fn see_it() {
    play_chapter("docs/walkthrough/see-it.md").await;
}

#[tokio::test]
async fn chapter_02_read_an_account() {
    play_chapter("docs/walkthrough/02-read-an-account.md").await;
}

#[tokio::test]
async fn chapter_03_publish() {
    play_chapter("docs/walkthrough/03-publish.md").await;
}

#[tokio::test]
async fn chapter_04_consume() {
    play_chapter("docs/walkthrough/04-consume.md").await;
}

#[tokio::test]
async fn chapter_05_scale() {
    play_chapter("docs/walkthrough/05-scale.md").await;
}

#[tokio::test]
async fn chapter_06_break_it() {
    play_chapter("docs/walkthrough/06-break-it.md").await;
}

#[tokio::test]
async fn chapter_09_settings() {
    play_chapter("docs/walkthrough/09-settings.md").await;
}

#[tokio::test]
async fn chapter_10_change_settings_live() {
    play_chapter("docs/walkthrough/10-change-settings-live.md").await;
}

#[tokio::test]
async fn chapter_11_shut_down() {
    play_chapter("docs/walkthrough/11-shut-down.md").await;
}

#[tokio::test]
async fn chapter_13_your_own_service() {
    play_chapter("docs/walkthrough/13-your-own-service.md").await;
}

#[tokio::test]
async fn chapter_14_change_an_account() {
    play_chapter("docs/walkthrough/14-change-an-account.md").await;
}

#[tokio::test]
async fn the_tasks_of_the_assessment_are_solved_and_the_reset_between_two_groups_leaves_nothing() {
    play_chapter("docs/walkthrough/for-teachers.md").await;
}

#[test]
fn code_that_a_page_shows_stands_in_the_file_that_it_names() {
    let faults: Vec<_> = pages().flat_map(|page| quote::faults(&page)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_chapter_on_the_system_asks_for_a_change_of_its_code_with_a_check_and_a_solution() {
    let chapters = pages().filter_map(|page| page.strip_prefix(FOLDER).map(str::to_owned));
    let chapters: Vec<_> = chapters.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).collect();
    let files = repository::files();
    // These are nothing but changes, or begin with none.
    let without = ["01", "13", "15"];
    for chapter in chapters.iter().filter(|name| !without.contains(&&name[..2])) {
        let (number, text) = (&chapter[..2], repository::read(format!("{FOLDER}{chapter}")));
        let section = text.split("\n## Now change it\n").nth(1).unwrap_or_else(|| panic!("{chapter}"));
        let check = format!("`cargo hops check {}`", number.trim_start_matches('0'));
        assert!(section.contains(&check), "{chapter} has no {check}");
        let solution = section.split("](solutions/").nth(1).and_then(|rest| rest.split(')').next());
        let solution = format!("{FOLDER}solutions/{}", solution.unwrap_or_default());
        let of_chapter = format!("{FOLDER}solutions/{number}-");
        assert!(solution.starts_with(&of_chapter) && files.contains(&solution), "{chapter}: {solution}");
    }
}

#[test]
fn every_chapter_is_played_and_stands_in_the_index() {
    let tests = ["e2e/tests/pages", "examples/tests/it", "e2e/tests/swarm"];
    let tests = tests.map(|folder| repository::read(format!("{folder}/walkthrough.rs")));
    // One changes the services themselves.
    let tests = tests.concat() + &repository::read("e2e/exercises.sh");
    let index = repository::read(format!("{FOLDER}README.md"));
    let chapters = pages().filter_map(|page| page.strip_prefix(FOLDER).map(str::to_owned));
    for chapter in chapters.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())) {
        assert!(tests.contains(&format!("\"{FOLDER}{chapter}\"")), "{chapter} has no test");
        assert!(index.contains(&format!("]({chapter})")), "{chapter} is not in the index");
    }
}
