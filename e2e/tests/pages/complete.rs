//! Each setting, verb, metric and exit code of the code is on a page.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use e2e::{
    binaries::binary,
    fixture::TestSystem,
    process::Service,
    repository::{files, read, root},
};
use hops_config::{Sections, bootstrap_keys};

use crate::words::{pages, spans};

/// Has every setting, verb and metric of the services.
const REFERENCE: &str = "docs/REFERENCE.md";
const SERVICES: [&str; 3] = ["accountservice", "vipservice", "configserver"];
/// Exit code that a shell reports after SIGKILL: 128 and the signal's number.
const KILLED: u32 = 128 + 9;

type Account = accountservice::settings::Settings;
type Vip = vipservice::settings::Settings;
type Config = configserver::settings::Settings;

/// Holds the rows of one of the reference's tables against those that it is to have.
fn assert_table(heading: &str, expected: &[String]) {
    let page = read(REFERENCE);
    let after = page.split_once(&format!("\n## {heading}\n")).map_or("", |(_, after)| after);
    let section = after.split("\n## ").next().unwrap();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected_text = expected.join("\n");
    assert!(rows == expected, "{REFERENCE}, {heading}: its table is to be\n{expected_text}\n");
}

fn setting(key: &str, doc: &str, is_live: bool) -> String {
    let live = if is_live { "yes" } else { "" };
    format!("| `{key}` | {} | {live} |", doc.replace('\n', " ").replace('|', "\\|"))
}

/// The rows of a service's own keys.
fn settings<S: Sections>() -> Vec<String> {
    let keys = S::keys().into_iter().filter(|key| !service::Settings::keys().contains(key));
    keys.map(|key| setting(key.name, key.doc, key.is_live)).collect()
}

#[test]
fn every_setting_is_in_the_reference() {
    let shared = service::Settings::keys().into_iter();
    let shared = shared.map(|key| setting(key.name, key.doc, key.is_live)).collect::<Vec<_>>();
    assert_table("Settings of every service", &shared);
    assert_table("Settings of the accountservice", &settings::<Account>());
    assert_table("Settings of the vipservice", &settings::<Vip>());
    assert_table("Settings of the configserver", &settings::<Config>());

    let bootstrap = bootstrap_keys::<Account>().into_iter();
    let bootstrap = bootstrap.map(|key| setting(key.name, key.doc, key.is_live)).collect::<Vec<_>>();
    assert_table("Where the settings are", &bootstrap);
}

/// All verbs of a program, each with the words before it, and what its help says of them.
pub(crate) fn verbs(program: &str) -> Vec<(Vec<String>, String)> {
    let (mut found, mut waiting) = (vec![], vec![vec![]]);
    while let Some(words) = waiting.pop() {
        for (verb, about) in listed(&help(program, &words)) {
            let words = [&words[..], &verb].concat();
            found.push((words.clone(), about));
            waiting.push(words);
        }
    }
    found.sort();
    found
}

/// The verbs that a help lists, and what it says of them.
fn listed(help: &str) -> Vec<(Vec<String>, String)> {
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, after)| after);
    let pairs = listed.lines().take_while(|line| !line.is_empty());
    let pairs = pairs.map(|line| line.trim().split_once("  ").expect("a verb says what it does"));
    let own = pairs.filter(|(verb, _)| *verb != "help");
    own.map(|(verb, about)| (vec![verb.to_owned()], about.trim().to_owned())).collect()
}

pub(crate) fn help(program: &str, verb: &[String]) -> String {
    let help = Command::new(binary(program)).args(verb).arg("--help").output().unwrap();
    assert!(help.status.success(), "{program} {verb:?}");
    String::from_utf8(help.stdout).unwrap()
}

#[test]
fn every_program_and_every_verb_says_in_a_sentence_what_it_does() {
    for program in ["hops", "accountservice", "vipservice", "configserver", "devbroker", "forwarder"] {
        let about = help(program, &[]).lines().next().unwrap().to_owned();
        // The forwarder has no command line of its own for a verb.
        let of_verbs = if program == "forwarder" { listed(&help(program, &[])) } else { verbs(program) };
        for (verb, about) in [vec![(vec![], about)], of_verbs].concat() {
            let mut words = about.split_whitespace();
            let first = words.next().unwrap().trim_end_matches(',');
            let is_sentence = first.ends_with('s') && words.count() >= 3 && !about.ends_with('.');
            let is_capital = first.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(is_sentence && is_capital, "{program} {verb:?}: {about}");
        }
    }
}

#[test]
fn the_help_of_a_services_verb_lists_its_own_options_and_refers_to_the_settings() {
    for service in SERVICES {
        let reference =
            format!("The settings of the {service} are options, too: `{service} --help` lists them.");
        for (verb, _) in verbs(service) {
            let help = help(service, &verb);
            let options = help.lines().filter(|line| line.trim_start().starts_with('-')).count();
            assert!(options < 7 && help.trim_end().ends_with(&reference), "{service} {verb:?}: {help}");
        }
    }
}

#[test]
fn every_verb_of_a_service_is_in_the_reference() {
    let rows = SERVICES.iter().flat_map(|service| {
        let row = move |(words, about): (Vec<String>, String)| {
            format!("| `{service} {}` | {} |", words.join(" "), about.replace('|', "\\|"))
        };
        verbs(service).into_iter().map(row)
    });
    assert_table("Verbs of the services", &rows.collect::<Vec<_>>());
}

#[test]
fn every_verb_of_cargo_hops_and_of_the_deploy_script_is_on_a_page() {
    // Blocks are fenced or indented.
    let blocks = |page: &str| {
        let text = read(page);
        let (outside, fenced): (Vec<_>, Vec<_>) =
            text.split("\n```").enumerate().partition(|(n, _)| n % 2 == 0);
        let lines = outside.iter().flat_map(|(_, text)| text.lines()).filter(|line| line.starts_with("    "));
        lines.chain(fenced.iter().flat_map(|(_, text)| text.lines())).collect::<Vec<_>>().join("\n")
    };
    let written: Vec<String> = pages().flat_map(|page| [spans(&page).join("\n"), blocks(&page)]).collect();
    let lines: Vec<Vec<_>> =
        written.iter().flat_map(|text| text.lines()).map(|line| line.split_whitespace().collect()).collect();
    let is_written = |words: &[&str]| lines.iter().any(|line| line.windows(words.len()).any(|w| w == words));

    let hops = verbs("hops");
    assert!(hops.len() > 10, "{hops:?}");
    for (verb, _) in hops {
        let words = ["cargo", "hops"].into_iter().chain(verb.iter().map(String::as_str)).collect::<Vec<_>>();
        assert!(is_written(&words), "no page says what `{}` does", words.join(" "));
    }
    for verb in deploy_verbs() {
        assert!(is_written(&["./deploy.sh", &verb]), "no page says what `./deploy.sh {verb}` does");
    }
}

#[tokio::test]
async fn every_metric_is_in_the_reference() {
    let mut metrics = BTreeMap::<_, Vec<_>>::new();
    for (service, text) in metrics_of_all().await {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
        for (name, help) in lines {
            let types = format!("# TYPE {name} ");
            let kind = text.lines().find_map(|line| line.strip_prefix(&types)).unwrap().to_owned();
            metrics
                .entry((name.to_owned(), kind, help.trim_end_matches('.').to_owned()))
                .or_default()
                .push(service);
        }
    }
    let row = |((name, kind, help), services): ((String, String, String), Vec<&str>)| {
        let services = if services.len() == SERVICES.len() { "each".into() } else { services.join(", ") };
        format!("| `{name}` | {kind} | {help} | {services} |")
    };
    assert_table("Metrics", &metrics.into_iter().map(row).collect::<Vec<_>>());
}

/// Returns each service's answer at `/metrics`.
pub(crate) async fn metrics_of_all() -> [(&'static str, String); 3] {
    let system = TestSystem::new().await;
    let config_repo = root().join("config-repo");
    let configserver = system.launch("configserver", 1).flag("config-repo", &config_repo.to_string_lossy());
    let (account, vip, config) =
        tokio::join!(system.accountservice(), system.vipservice(1), configserver.start());
    let text = async |service: &Service| service.get("/metrics").await.text;
    let [name_1, name_2, name_3] = SERVICES;
    [(name_1, text(&account).await), (name_2, text(&vip).await), (name_3, text(&config).await)]
}

/// Those that the script takes.
pub(crate) fn deploy_verbs() -> Vec<String> {
    let script = read("deploy.sh");
    let cases =
        script.split_once("case $verb in\n").and_then(|(_, after)| after.split_once(" -h | --help | help)"));
    let patterns = cases.expect("it has a list of them").0.lines().filter_map(|line| line.split_once(')'));
    let patterns: Vec<_> =
        patterns.map(|(pattern, _)| pattern.trim()).filter(|it| !it.contains('$')).collect();
    let verbs: Vec<_> = patterns.iter().flat_map(|pattern| pattern.split(" | ")).map(str::to_owned).collect();
    assert!(verbs.len() > 10, "{verbs:?}");
    verbs
}

/// Those of the services.
fn exit_codes() -> BTreeSet<u32> {
    let code = read("common/service/src/exit.rs");
    let list = code.split_once("enum Exit {").and_then(|(_, after)| after.split_once('}')).unwrap().0;
    let codes: BTreeSet<_> =
        list.lines().filter_map(|line| line.split_once(" = ")?.1.strip_suffix(',')?.parse().ok()).collect();
    assert!(codes.len() > 1, "{codes:?}");
    codes
}

#[test]
fn services_end_with_the_exit_codes_of_one_list() {
    let members = ["accountservice/src/", "vipservice/src/", "configserver/src/", "common/"];
    let is_service =
        |path: &String| path.ends_with(".rs") && members.iter().any(|folder| path.starts_with(folder));
    for path in files().into_iter().filter(is_service) {
        for line in read(&path).lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(!line.contains("ExitCode::"), "{path}: {line}");
            assert!(!line.contains("process::exit(") || line.contains("(Exit::"), "{path}: {line}");
        }
    }
}

#[test]
fn every_exit_code_is_in_the_tables_of_the_pages_and_they_name_no_other() {
    let mut known = exit_codes();
    known.insert(KILLED);
    let mut tables = 0;
    for page in pages() {
        let text = read(&page);
        for (_, table) in
            text.split("\n| exit code |").skip(1).filter_map(|after| after.split_once("\n| --- |"))
        {
            let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
            let codes = rows.map(|row| row.split('|').nth(1).unwrap().trim().parse().unwrap());
            assert_eq!(codes.collect::<BTreeSet<u32>>(), known, "{page}: a table of exit codes");
            tables += 1;
        }
        // `exit 1`, `exit code 1`, `the exit code is 1`, `non-zero exit (137)`.
        let mut words = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        while words.any(|word| word == "exit") {
            let mut after = words.clone().skip_while(|word| ["code", "is", "with"].contains(word));
            if let Some(Ok(code)) = after.next().map(str::parse) {
                assert!(known.contains(&code), "{page}: nothing ends with exit code {code}");
            }
        }
    }
    assert!(tables > 0);
}

#[test]
fn each_statement_of_the_texts_has_a_verdict_a_place_and_what_shows_it() {
    let page = read("docs/walkthrough/texts.md");
    let verdicts = ["here", "differently", "depends", "not so", "not here"];
    let mut count = 0;
    for row in page.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| The texts say") && !line.starts_with("| ---")
    }) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{row}");
        assert!(cells[1].split(", ").all(|text| ["1", "2", "3", "4", "5"].contains(&text)), "{row}");
        assert!(verdicts.contains(&cells[2]), "{row}");
        assert!(cells[2] != "not so" || cells[3].contains("]("), "its correction has no source: {row}");
        count += 1;
    }
    assert!(count > 100, "{count}");
}
