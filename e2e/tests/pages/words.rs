//! Every verb, setting, metric, function and test that a page names exists.

use std::{collections::BTreeSet, process::Command};

use e2e::{
    binaries::binary,
    repository::{files, read},
};
use hops_config::{ServiceSettings, bootstrap_keys};

use crate::complete::{deploy_verbs, metrics_of_all};

/// Names of the original and of Docker, of which pages say that they are not here, and a name made of one and a number.
const NOT_HERE: [&str; 4] = ["broker_url", "amqp_broker_url", "depends_on", "Person_0"];

/// Names that begin as settings do and are others' than ours to choose, or a queue's.
const NO_SETTINGS: [&str; 2] = ["request_id", "vip_queue"];

pub(crate) fn pages() -> impl Iterator<Item = String> {
    files().into_iter().filter(|path| path.ends_with(".md"))
}

/// Returns the texts between backticks.
pub(crate) fn spans(page: &str) -> Vec<String> {
    let outside = read(page).split("\n```").step_by(2).map(str::to_owned).collect::<String>();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the commands that the reader types.
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
                !word.contains(|c: char| c.is_ascii_uppercase() || "['\"$".contains(c)) && *word != "..."
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

/// Every whole word with an underscore that a page has between backticks, with its page and what it stands in.
fn named() -> Vec<(String, String, String)> {
    let words = |page: String| {
        let words = |span: String| {
            let words =
                words_of(&span).filter(|word| word.trim_matches('_').contains('_')).map(str::to_owned);
            words.map(|word| (page.clone(), word, span.clone())).collect::<Vec<_>>()
        };
        spans(&page).into_iter().flat_map(words).collect::<Vec<_>>()
    };
    pages().flat_map(words).collect()
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric())
}

/// The words of all code but tests, comments and the test kit.
fn words_of_code() -> BTreeSet<String> {
    let is_code = |path: &String| {
        let is_test = ["/tests/", "/tests.rs", "/benches/", "/fuzz.rs", "recorded.json"];
        // The names of variables that tell the tests what to use.
        let of_tests = path.starts_with("e2e/") && path != "e2e/src/environment.rs" && !path.ends_with(".sh");
        [".rs", ".yml", ".yaml", ".toml", ".sh", ".json", ".py"].iter().any(|end| path.ends_with(end))
            && !of_tests
            && !is_test.iter().any(|part| path.contains(part))
    };
    let words = |path: String| {
        let text = read(&path);
        // Tests stand last in a file.
        let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let mark = if path.ends_with(".rs") { "//" } else { "#" };
        let code = |line: &str| {
            let is_comment = |at: &usize| line[..*at].chars().last().is_none_or(char::is_whitespace);
            let end = line.match_indices(mark).map(|(at, _)| at).find(is_comment).unwrap_or(line.len());
            words_of(&line[..end]).map(str::to_owned).collect::<Vec<_>>()
        };
        shipped.lines().flat_map(code).collect::<Vec<_>>()
    };
    files().into_iter().filter(is_code).flat_map(words).collect()
}

#[test]
fn every_setting_field_and_function_that_a_page_names_exists() {
    let (keys, code) = (keys(), words_of_code());
    assert!(code.contains("offer_hours") && !code.contains("offer_hour"), "whole words");
    assert!(!code.contains("delays_are_read_one_by_one_and_bounded"), "no tests");
    let sources: String = files().iter().filter(|path| path.ends_with(".rs")).map(read).collect();
    let solutions: String = files().iter().filter(|path| path.ends_with(".patch")).map(read).collect();
    // A test that is typed, or is named with its place, which is the matter of others.
    let is_test = |span: &str| {
        let name = span.rsplit_once("::").map(|(_, name)| name);
        let name = name.or_else(|| span.strip_prefix("cargo test ")?.split(" -- ").nth(1)?.split(' ').next());
        name.is_some_and(|name| sources.contains(&format!("fn {name}(")))
    };
    // As `offer_text` does; such a word is taken for a setting.
    let firsts: BTreeSet<_> = keys.iter().filter_map(|key| key.split('_').next()).collect();
    let begins_as_a_key = |word: &str| word.split('_').next().is_some_and(|first| firsts.contains(first));
    for (page, word, span) in named() {
        if word.starts_with("hops_") || span.starts_with("rabbitmqctl ") || is_test(&span) {
            continue;
        }
        // The text that a reader writes is in the page's own blocks, or in the solution of an exercise.
        let blocks = read(&page).split("\n```").skip(1).step_by(2).map(str::to_owned).collect::<String>();
        let is_there = match word.strip_prefix("APP_") {
            Some(key) => keys.contains(&key.to_lowercase()),
            None if begins_as_a_key(&word) => {
                let is_function = || sources.contains(&format!("fn {word}("));
                keys.contains(&word) || NO_SETTINGS.contains(&&*word) || is_function()
            }
            None => code.contains(&word),
        };
        let is_there = is_there || words_of(&blocks).chain(words_of(&solutions)).any(|there| there == word);
        assert!(is_there || NOT_HERE.contains(&&*word), "{page}: nobody knows {word}");
    }
}

/// The keys of all services, those that say where the settings are included.
fn keys() -> BTreeSet<String> {
    fn of<S: ServiceSettings>() -> Vec<String> {
        let keys = [S::keys(), bootstrap_keys::<S>()].concat().into_iter().map(|key| key.name.to_owned());
        keys.chain(["profile".to_owned()]).collect()
    }
    let all = [
        of::<accountservice::settings::Settings>(),
        of::<vipservice::settings::Settings>(),
        of::<configserver::settings::Settings>(),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn every_key_in_a_table_and_every_flag_that_stands_alone_exists() {
    let is_source = |path: &&String| path.ends_with(".rs") || path.ends_with(".sh");
    let sources: String = files().iter().filter(is_source).map(read).collect();
    let is_of_a_flag = |c: char| c == '-' || c.is_ascii_alphanumeric();
    // As a script writes it, and as the parsers of the command line do.
    let written: BTreeSet<_> =
        sources.split(|c| !is_of_a_flag(c)).filter(|word| word.starts_with("--")).collect();
    let keys = keys();
    let (mut found_keys, mut found_flags) = (0, 0);
    for page in pages() {
        let text = read(&page);
        for table in text.split("\n\n").filter(|block| block.starts_with("| key |")) {
            let cells = table.lines().skip(2).filter_map(|row| row.split('|').nth(1));
            for key in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
                assert!(keys.contains(key), "{page}: {key} is no setting");
                found_keys += 1;
            }
        }
        for span in spans(&page).iter().filter(|span| span.starts_with("--") && !span.contains('<')) {
            let flag = span.split(|c| !is_of_a_flag(c)).next().unwrap();
            let name = flag.trim_start_matches('-');
            let is_known = keys.contains(&name.replace('-', "_"))
                || written.contains(flag)
                || sources.contains(&format!("\"{name}\""))
                // The field of a derived parser, below its attribute.
                || sources.contains(&format!(")]\n    {}: ", name.replace('-', "_")));
            assert!(is_known, "{page}: nobody knows {flag}");
            found_flags += 1;
        }
    }
    assert!(found_keys > 50 && found_flags > 10, "{found_keys} keys, {found_flags} flags");
}

#[tokio::test]
async fn every_metric_that_a_page_names_is_served() {
    let mut served = BTreeSet::new();
    for (_, text) in metrics_of_all().await {
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            served.extend(["", "_total", "_bucket", "_count", "_sum"].map(|end| format!("{name}{end}")));
        }
    }
    assert!(served.contains("hops_broker_connected"), "{served:?}");
    // Before a service's or a volume's name the same word is the stack's.
    let compose = read("docker-compose.yml");
    let is_of_the_stack = |name: &str| compose.contains(&format!("\n  {name}:"));
    for (page, word, _) in named() {
        if let Some(name) = word.strip_prefix("hops_") {
            assert!(served.contains(&word) || is_of_the_stack(name), "{page}: {word} is no metric");
        }
    }
}

#[test]
fn every_verb_of_a_service_or_of_the_deploy_script_that_a_page_names_exists() {
    let mut asked = BTreeSet::new();
    let deploy_verbs = deploy_verbs();
    for page in pages() {
        for text in [spans(&page), typed(&page)].concat() {
            for command in text.split("deploy.sh ").skip(1) {
                let verb = command.split(|c: char| !c.is_ascii_lowercase()).next().unwrap();
                let is_verb =
                    verb.is_empty() || verb == "help" || deploy_verbs.iter().any(|known| known == verb);
                assert!(is_verb, "{page}: deploy.sh {verb}");
            }
        }
        for span in spans(&page) {
            let mut words = span.split_whitespace();
            let Some(service @ ("accountservice" | "vipservice" | "configserver")) = words.next() else {
                continue;
            };
            let verb: Vec<_> =
                words.take_while(|word| word.chars().all(|c| c == '-' || c.is_ascii_lowercase())).collect();
            if !verb.is_empty() && asked.insert(span.clone()) {
                let help = Command::new(binary(service)).args(&verb).arg("--help").output().unwrap();
                assert!(help.status.success(), "{page}: {span}");
            }
        }
    }
    assert!(asked.len() > 5, "{asked:?}");
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
