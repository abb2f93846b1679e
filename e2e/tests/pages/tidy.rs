//! Rules of the repository itself: the walk's marks, the manifests, `config-repo`, and that whatever the pages name exists.

mod source;
mod lines;
mod comments;
mod modules;
mod crates;
mod compiled_once;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{
    binaries::{binary, binary_with_failpoints},
    environment,
    repository::{files, read, root},
};
use hops_config::{Sections as _, ServiceSettings, Sources, command};
use serde_json::Value;

use crate::complete::{help, verbs};

/// The hops, their names and files, in the order of the walk.
const WALK: [(&str, &str); 9] = [
    ("request", "accountservice/src/routes.rs"),
    ("handler", "accountservice/src/handlers.rs"),
    ("store", "accountservice/src/store.rs"),
    ("notify", "accountservice/src/notifier.rs"),
    ("outbox", "common/outbox/src/lib.rs"),
    ("broker", "common/messaging/src/amqp.rs"),
    ("consumer", "vipservice/src/consumer.rs"),
    ("offer", "vipservice/src/offer.rs"),
    ("offers", "vipservice/src/offers.rs"),
];

/// The pages, but for those of the tools.
fn pages() -> impl Iterator<Item = String> {
    let is_page = |path: &String| path.ends_with(".md") && !path.starts_with("tools/");
    files().into_iter().filter(is_page)
}

fn sources() -> impl Iterator<Item = String> {
    files().into_iter().filter(|path| path.ends_with(".rs"))
}

/// Returns the texts between backticks outside of fenced blocks.
fn code_spans(page: &str) -> Vec<String> {
    let text: Vec<_> = read(page).split("```").step_by(2).map(str::to_owned).collect();
    text.concat().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_nine_files_of_the_walk_say_which_hop_they_are_and_no_other_does() {
    let mark = |path: &String| read(path).lines().next()?.strip_prefix("//! Hop ").map(str::to_owned);
    let mut marked: Vec<_> = sources()
        .filter_map(|path| Some((mark(&path)?, path)))
        .filter(|(mark, _)| mark.get(1..2) == Some(","))
        .map(|(mark, path)| (mark.split(':').next().unwrap().to_owned(), path))
        .collect();
    marked.sort();
    let expected = WALK.iter().enumerate();
    let expected = expected.map(|(n, (name, path))| (format!("{}, {name}", n + 1), (*path).to_owned()));
    assert_eq!(marked, expected.collect::<Vec<_>>());
}

#[test]
fn modules_stand_in_the_order_of_the_walk() {
    for member in ["accountservice", "vipservice"] {
        let code = read(format!("{member}/src/lib.rs"));
        let modules: Vec<_> =
            code.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
        let hops = WALK.iter().filter_map(|(_, path)| path.strip_prefix(member)?.strip_prefix("/src/"));
        let hops: Vec<_> = hops.map(|path| path.split(['.', '/']).next().unwrap()).collect();
        let present: Vec<_> = modules.iter().copied().filter(|module| hops.contains(module)).collect();
        assert_eq!(present, hops, "{member}/src/lib.rs");
        let listed: Vec<_> =
            code.lines().filter_map(|line| line.strip_prefix("//! - [`")?.split('`').next()).collect();
        assert!(modules.starts_with(&listed), "{member}: listed {listed:?}, declared {modules:?}");
    }
}

#[test]
fn every_hop_is_logged_in_exactly_one_place() {
    // `offer.rs` does no I/O, so its line is its caller's.
    let places = WALK.map(|(name, path)| (name, path.replace("/offer.rs", "/consumer.rs")));
    for (n, (name, place)) in (1..).zip(places) {
        let field = format!("hop = {n},");
        let found: Vec<_> = sources()
            .filter(|path| !path.starts_with("e2e/"))
            .flat_map(|path| vec![path.clone(); read(&path).matches(&field).count()])
            .collect();
        let [path] = &found[..] else { panic!("{field} {found:?}, expected once in {place}") };
        // The hop's file, or one below it.
        let place = place.trim_end_matches(".rs").trim_end_matches("lib");
        assert!(path.starts_with(place), "{field} {path}, expected {place}");
        let code = read(path);
        let line = code.split_once(&field).unwrap().1.trim_start();
        assert!(line.starts_with(&format!("name = \"{name}\"")), "{path}: {field} {line:.60}");
    }
}

#[test]
fn the_tables_of_the_walk_name_its_files() {
    let pages =
        [("README.md", ""), ("docs/ARCHITECTURE.md", "../"), ("docs/walkthrough/README.md", "../../")];
    for (page, up) in pages {
        let text = read(page);
        let rows = text.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
        let rows: Vec<_> = rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows.len(), WALK.len(), "{page}");
        for (n, ((name, path), row)) in (1..).zip(WALK.iter().zip(rows)) {
            let expected = format!("| {n} {name} [{path}]({up}{path})");
            assert!(row.starts_with(&expected), "{page}: {row:?}, expected {expected:?}");
        }
    }
}

#[test]
fn members_take_their_lints_and_their_versions_from_the_workspace() {
    let members = members();
    for member in &members {
        let path = member["manifest_path"].as_str().unwrap();
        let manifest = read(path);
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{path}: lints");
        for key in ["version", "edition", "rust-version", "license", "repository", "publish"] {
            assert!(manifest.contains(&format!("\n{key}.workspace = true\n")), "{path}: {key}");
        }
        let mut section = "";
        for line in manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") && !line.is_empty() && !line.starts_with('#') {
                assert!(line.contains("workspace = true"), "{path}: {section} {line}");
                let name = line.split(['.', ' ']).next().unwrap();
                let is_ours = members.iter().any(|member| member["name"] == name);
                assert!(
                    is_ours || !line.contains("features"),
                    "{path}: {line}: features of {name} are chosen in the workspace's manifest, so that it is compiled once"
                );
            }
        }
    }
}

#[test]
fn every_test_binary_is_run_on_every_broker_or_is_the_same_on_all() {
    let on_every_broker = read(".ci/run");
    let on_every_broker =
        on_every_broker.lines().find(|line| line.contains("the tests on RabbitMQ")).unwrap();
    let on_every_broker =
        on_every_broker.split("--test ").skip(1).map(|rest| rest.split([' ', '"']).next().unwrap());
    let run: BTreeSet<_> = on_every_broker.chain(["browser", "pages", "swarm", "tls"]).collect();
    let members = members();
    let targets = members.iter().flat_map(|member| member["targets"].as_array().unwrap());
    let tests = targets.filter(|target| target["kind"][0] == "test");
    let tests: BTreeSet<_> = tests.map(|target| target["name"].as_str().unwrap()).collect();
    assert_eq!(tests, run, "the test binaries, and those that .ci/run runs");
}

#[test]
fn no_shipped_binary_contains_the_doubles() {
    let tree =
        cargo(&["tree", "--edges=normal", "--locked", "-paccountservice", "-pvipservice", "-pconfigserver"]);
    assert!(tree.contains("lapin"), "{tree}");
    assert!(!tree.contains("mockall"), "{tree}");
}

#[test]
fn no_shipped_binary_has_failpoints() {
    let knows = |binary: &Path| {
        let bytes = std::fs::read(binary).unwrap();
        bytes.windows(14).any(|window| window == b"HOPS_FAILPOINT")
    };
    for name in ["accountservice", "vipservice"] {
        assert!(!knows(&binary(name)), "{name} can be ended from outside");
        assert!(knows(&binary_with_failpoints(name)), "this test looks for the wrong thing");
    }
}

#[test]
fn every_failpoint_is_in_the_crash_table() {
    let places = sources().filter(|path| !path.starts_with("e2e/")).flat_map(|path| {
        let text = read(&path);
        let places = text.split("failpoint::reach(\"").skip(1);
        places.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect::<Vec<_>>()
    });
    let (places, table) = (places.collect::<BTreeSet<_>>(), read("docs/GUARANTEES.md"));
    assert!(places.len() >= 8, "{places:?}");
    for place in places {
        assert!(table.contains(&format!("`{place}`")), "{place} has no row");
    }
}

pub(crate) fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(environment::cargo()).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what `cargo metadata` says of each member of the workspace.
pub(crate) fn members() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--locked", "--format-version=1"]);
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    let Value::Array(members) = metadata["packages"].take() else { panic!("{metadata}") };
    assert!(members.len() >= 4);
    members
}

#[tokio::test]
async fn every_file_of_config_repo_is_read_and_has_known_keys_and_no_secrets() {
    type Account = accountservice::settings::Settings;
    type Vip = vipservice::settings::Settings;
    type Config = configserver::settings::Settings;
    async fn load<S: ServiceSettings + AsRef<service::Settings>>(profile: &str) {
        let config_repo = Some(root().join("config-repo"));
        let sources = Sources { config_repo, profile: profile.into(), ..Sources::default() };
        let settings = sources.load::<S>().await.unwrap_or_else(|e| panic!("{profile}: {e}"));
        let name = format!("{} {profile}", S::SERVICE);
        assert_eq!((*settings).as_ref().process.server_name.to_lowercase(), name);
    }
    let mut expected = BTreeSet::new();
    for name in ["application", Account::SERVICE, Vip::SERVICE, Config::SERVICE] {
        expected.extend([format!("{name}.yml"), format!("{name}-dev.yml"), format!("{name}-test.yml")]);
    }
    let there = files().into_iter().filter_map(|path| Some(path.strip_prefix("config-repo/")?.to_owned()));
    assert_eq!(there.collect::<BTreeSet<_>>(), expected, "a file that no service reads");
    for profile in ["dev", "test"] {
        load::<Account>(profile).await;
        load::<Vip>(profile).await;
        load::<Config>(profile).await;
    }

    let known = [Account::keys(), Vip::keys(), Config::keys()].concat();
    for file in expected {
        let text = read(format!("config-repo/{file}"));
        assert!(text.starts_with("# "), "{file} says what it is for");
        for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic())) {
            let (key, value) = line.split_once(':').unwrap();
            assert!(known.iter().any(|known| known.name == key), "{file}: nobody knows {key}");
            let is_secret =
                known.iter().any(|known| known.name == key && known.is_secret) || value.contains('@');
            assert!(!is_secret || value.contains("{cipher}"), "{file}: no secrets in clear: {key}");
        }
    }
}

#[test]
fn a_service_has_few_flags() {
    fn check<S: ServiceSettings>(most: usize) {
        // With `--help`, which clap adds.
        let flags = command::<S>().get_arguments().count() + 1;
        assert!(flags <= most, "{}: {flags} flags, and at most {most} may be: has one no user?", S::SERVICE);
    }
    check::<accountservice::settings::Settings>(33);
    check::<vipservice::settings::Settings>(40);
    check::<configserver::settings::Settings>(35);
}

#[test]
fn every_live_key_is_a_key_and_its_help_says_that_it_is_live() {
    fn check<S: ServiceSettings>() {
        let known = S::keys();
        let names: BTreeSet<_> = known.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), known.len(), "{}: one key is there twice", S::SERVICE);
        let live: BTreeSet<_> = known.iter().filter(|key| key.is_live).map(|key| key.name).collect();
        for argument in command::<S>().get_arguments() {
            let (key, help) = (argument.get_id().as_str(), argument.get_help().unwrap().to_string());
            assert_eq!(help.ends_with("; live"), live.contains(key), "{}: {key}: {help}", S::SERVICE);
        }
    }
    check::<accountservice::settings::Settings>();
    check::<vipservice::settings::Settings>();
    check::<configserver::settings::Settings>();
}

#[test]
fn commands_in_the_pages_exist_with_their_flags() {
    let commands = ["README.md", "docs/BY_HAND.md"].map(read).concat();
    let commands: Vec<_> = commands.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 20, "{commands:?}");
    for (program, arguments) in
        commands.iter().filter_map(|c| c.strip_prefix("cargo run -p ")?.split_once(" -- "))
    {
        let help = Command::new(binary(program)).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let mut is_value = false;
        for word in arguments.split_whitespace() {
            assert!(
                is_value || help.split_whitespace().any(|known| known == word) || is_of_a_verb(program, word),
                "{program} {word}"
            );
            is_value = word.starts_with("--");
        }
    }
    let readme = read("README.md");
    for bench in read("CONTRIBUTING.md").split("cargo bench -p e2e --bench ").skip(1) {
        let name = bench.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        assert!(root().join(format!("e2e/benches/{name}.rs")).exists(), "benchmark {name}");
    }
    let test = readme.split_once("<!-- test-command -->\n```sh\n").expect("CI looks for the test command").1;
    assert_eq!(test.split("```").next(), Some("cargo test --workspace --locked\n"));
}

/// Tells whether a word is known below one of the program's verbs.
fn is_of_a_verb(program: &str, word: &str) -> bool {
    let is_known = |(verb, _): (Vec<String>, String)| {
        verb.iter().any(|known| known == word)
            || help(program, &verb).lines().any(|line| line.split_whitespace().next() == Some(word))
    };
    verbs(program).into_iter().any(is_known)
}

#[test]
fn files_and_links_in_the_pages_exist() {
    for page in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in read(&page).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if link.starts_with("http") {
                continue;
            }
            let target = if path.is_empty() { root().join(&page) } else { folder.join(path) };
            assert!(target.exists(), "{page}: {link}");
            let headings = fs::read_to_string(&target).unwrap_or_default();
            let is_heading =
                |line: &str| line.to_lowercase().replace(' ', "-").trim_start_matches(['#', '-']) == anchor;
            assert!(anchor.is_empty() || headings.lines().any(is_heading), "{page}: {link}");
        }
        for span in code_spans(&page) {
            let word = span.split_whitespace().next().unwrap_or_default();
            let is_file = [".rs", ".sh", ".yml", ".md"].iter().any(|end| word.ends_with(end));
            let is_folder = word.ends_with('/') && word.starts_with(|c: char| c.is_ascii_alphabetic());
            // A placeholder, or a name without its folder, is no path.
            if (is_file && word.contains('/') || is_folder && word != "amqp/")
                && !["SERVICE", "PROFILE", "{"].iter().any(|placeholder| word.contains(placeholder))
            {
                let path: PathBuf = root().join(word);
                assert!(path.exists(), "{page}: {word}");
            }
        }
    }
}

#[test]
fn every_test_named_in_the_guarantees_exists() {
    let named: BTreeSet<_> =
        code_spans("docs/GUARANTEES.md").into_iter().filter(|span| span.contains("::")).collect();
    assert!(named.len() > 40, "{named:?}");
    for name in named {
        let (module, test) = name.rsplit_once("::").unwrap();
        let candidates = match module.split_once("::") {
            None => [
                "e2e/tests/it/MODULE.rs",
                "e2e/tests/pages/MODULE.rs",
                "common/MODULE/src/tests.rs",
                "common/MODULE/src/lib.rs",
            ]
            .map(|path| path.replace("MODULE", module))
            .to_vec(),
            Some(("swarm", module)) => vec![format!("e2e/tests/swarm/{module}.rs")],
            Some((member, module)) => {
                let module = module.replace("::", "/");
                let paths = ["src/MODULE.rs", "src/MODULE/tests.rs", "tests/it/MODULE.rs"];
                let paths = paths.map(|path| format!("{member}/{}", path.replace("MODULE", &module)));
                paths.iter().flat_map(|path| [path.clone(), format!("common/{path}")]).collect()
            }
        };
        let is_test = |path: &String| {
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            let before = text.split_once(&format!("fn {test}(")).map(|(before, _)| before.to_owned());
            before.is_some_and(|before| before.lines().rev().take(3).any(|line| line.contains("test")))
        };
        assert!(
            candidates.iter().any(is_test),
            "docs/GUARANTEES.md names {name}, which is no test of {candidates:?}"
        );
    }
}

#[test]
fn nothing_is_left_to_be_done_and_no_test_is_skipped() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!("),
        concat!("#[ig", "nore"),
        concat!("unimpl", "emented!("),
    ];
    for path in files().iter().filter(|path| *path != "Cargo.lock") {
        let text = String::from_utf8_lossy(&fs::read(root().join(path)).unwrap()).into_owned();
        for word in words {
            assert!(!text.contains(word), "{path}: {word}");
        }
    }
}

#[test]
fn types_of_the_amqp_library_stay_in_the_adapters() {
    let lapin = concat!("lapin", "::");
    // Tests, tools and examples speak AMQP for themselves.
    let is_service =
        |path: &String| !["e2e/", "tools/", "examples/"].iter().any(|folder| path.starts_with(folder));
    let users: Vec<_> = sources().filter(|path| is_service(path) && read(path).contains(lapin)).collect();
    let adapters = ["common/messaging/src/amqp", "common/queue-browser/src/amqp", "common/streams/src/amqp"];
    let is_adapter = |path: &String| adapters.iter().any(|adapter| path.starts_with(adapter));
    assert!(!users.is_empty() && users.iter().all(is_adapter), "{users:?}");
}

#[test]
fn every_http_server_is_the_one_with_limits() {
    let serves = ["axum::serve(", "serve_connection("];
    let servers = source::shipped().into_iter().map(|source| source.path);
    let servers = servers.filter(|path| serves.iter().any(|serve| read(path).contains(serve)));
    assert_eq!(servers.collect::<Vec<_>>(), ["common/http-server/src/lib.rs"]);
}
