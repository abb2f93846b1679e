//! What any page names - a verb of `cargo hops`, a setting, a metric, a function, a test - is there.

use std::{collections::BTreeSet, process::Command};

use e2e::{
    binaries::binary,
    repository::{files, read},
};

/// Names of the original, of which pages say that they are not here.
const NOT_HERE: [&str; 2] = ["broker_url", "amqp_broker_url"];

fn pages() -> impl Iterator<Item = String> {
    files().into_iter().filter(|path| path.ends_with(".md"))
}

/// What stands between backticks.
fn spans(page: &str) -> Vec<String> {
    let outside = read(page).split("\n```").step_by(2).map(str::to_owned).collect::<String>();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What is typed.
fn typed(page: &str) -> Vec<String> {
    read(page).lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

#[test]
fn every_verb_of_cargo_hops_that_a_page_names_exists() {
    let mut asked = BTreeSet::new();
    for page in pages() {
        let texts = [spans(&page), typed(&page)].concat();
        for command in texts.iter().flat_map(|text| text.split("cargo hops ").skip(1)) {
            let command = command.split(['|', '&', ';', '<', '>', ')']).next().unwrap();
            // Up to what stands for something else.
            let words = command.split_whitespace().map(|word| word.trim_end_matches([',', ':', '.']));
            let is_ours = |word: &&str| {
                !word.contains(|c: char| c.is_ascii_uppercase() || "['\"".contains(c)) && *word != "..."
            };
            let mut words: Vec<_> = words.take_while(is_ours).map(str::to_owned).collect();
            // A flag whose value only stands for one.
            words.pop_if(|word| word.starts_with("--"));
            if words.is_empty() || !asked.insert(words.clone()) {
                continue;
            }
            let help = Command::new(binary("hops")).args(&words).arg("--help").output().unwrap();
            let said = String::from_utf8_lossy(&help.stderr).into_owned();
            assert!(help.status.success(), "{page}: cargo hops {words:?}: {said}");
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
}

#[test]
fn every_setting_metric_and_function_that_a_page_names_exists() {
    let is_source =
        |path: &String| [".rs", ".yml", ".toml", ".sh", ".json", ".py"].iter().any(|end| path.ends_with(end));
    let sources: String = files().iter().filter(|path| is_source(path)).map(read).collect();
    let words = |text: &str| -> Vec<String> {
        let is_part = |c: char| c == '_' || c.is_ascii_alphanumeric();
        text.split(|c| !is_part(c)).filter(|word| word.contains('_')).map(str::to_owned).collect()
    };
    let is_known = |word: &str| match word.strip_prefix("APP_") {
        Some(key) => sources.contains(&key.to_lowercase()),
        None => sources.contains(word.trim_start_matches("hops_").trim_end_matches("_total")),
    };
    for page in pages() {
        // RabbitMQ's own tool has words of its own.
        let ours = spans(&page).into_iter().filter(|text| !text.starts_with("rabbitmqctl "));
        // What the reader writes stands in the page's own blocks.
        let blocks = read(&page).split("\n```").skip(1).step_by(2).map(str::to_owned).collect::<String>();
        for word in ours.flat_map(|text| words(&text)) {
            let is_there = is_known(&word) || blocks.contains(&word) || NOT_HERE.contains(&&*word);
            assert!(is_there, "{page}: nobody knows {word}");
        }
    }
}

#[test]
fn every_message_on_the_page_of_trouble_is_one_of_a_program() {
    let is_source = |path: &String| path.ends_with(".rs") || path.ends_with(".sh");
    let sources: String = files().iter().filter(|path| is_source(path)).map(read).collect();
    let page = read("docs/walkthrough/trouble.md");
    let messages = page.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let spans: Vec<_> = messages.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(spans.len() > 20, "{spans:?}");
    for span in spans {
        for piece in span.split("...").map(str::trim) {
            assert!(sources.contains(piece), "nobody says {piece:?}, as in {span:?}");
        }
    }
}

#[test]
fn every_test_that_the_walk_through_names_exists() {
    let sources: String = files().iter().filter(|path| path.ends_with(".rs")).map(read).collect();
    let mut found = 0;
    for page in pages().filter(|page| page.starts_with("docs/walkthrough/")) {
        for name in spans(&page).iter().filter(|name| name.contains("::") && name.matches('_').count() > 3) {
            let test = name.rsplit("::").next().unwrap();
            assert!(sources.contains(&format!("fn {test}()")), "{page}: {name}");
            found += 1;
        }
    }
    assert!(found > 0);
}
