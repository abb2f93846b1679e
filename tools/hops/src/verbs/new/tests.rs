//! New services in copies of this checkout's files, with programs in the place of cargo that succeed or fail.

use std::{collections::BTreeMap, path::PathBuf};

use tempfile::TempDir;

use super::*;

const SUCCEEDS: &str = "true";
const FAILS: &str = "false";

fn copy() -> TempDir {
    let (folder, root) = (tempfile::tempdir().unwrap(), e2e::repository::root());
    for file in [MANIFEST, LOCK, FILE] {
        fs::copy(root.join(file), folder.path().join(file)).unwrap();
    }
    fs::create_dir(folder.path().join("config-repo")).unwrap();
    fs::write(folder.path().join("config-repo/application.yml"), "").unwrap();
    folder
}

fn create(folder: &TempDir, cargo: &str, name: &str) -> Result<NewService> {
    let variables = BTreeMap::from([("CARGO".into(), cargo.into())]);
    let project = Project::find(folder.path(), variables)?;
    let service = NewService::check(&project, name)?;
    service.write(&project).map(|()| service)
}

/// Every file below a folder, with its text.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path));
            found.insert(path, String::new());
        } else {
            // A link that leads to nothing has no text.
            let text = fs::read_to_string(&path).unwrap_or_default();
            found.insert(path, text);
        }
    }
    found
}

#[test]
fn a_service_has_a_crate_settings_and_a_port_of_its_own_and_the_lines_of_others_stay() {
    let folder = copy();
    let path = |path: &str| folder.path().join(path);
    let read = |file: &str| fs::read_to_string(path(file)).unwrap();
    let by_hand = "# by hand\n";
    for file in [MANIFEST, FILE] {
        fs::write(path(file), read(file) + by_hand).unwrap();
    }
    let before = [MANIFEST, FILE].map(read);
    for (name, port) in [("firstservice", 6969), ("secondservice", 6970)] {
        assert_eq!(create(&folder, SUCCEEDS, name).unwrap().port, port);
        let project = Project::find(folder.path(), BTreeMap::new()).unwrap();
        let compose = project.compose().unwrap();
        let service = compose.services.iter().find(|service| service.name == name).unwrap();
        assert_eq!(service.ports, [crate::compose::Port { target: port, published: Some(port) }]);
        let secrets = [format!("{name}_amqp_username"), format!("{name}_amqp_password")];
        assert_eq!(service.secrets.iter().map(|mount| &mount.source).collect::<Vec<_>>(), secrets.each_ref());
        assert!(secrets.iter().all(|secret| compose.secrets.contains_key(secret)));
        assert!(read(MANIFEST).contains(&format!("\nmembers = [\"{name}\", ")), "{}", read(MANIFEST));
        assert!(read(&format!("{name}/Cargo.toml")).contains(&format!("name = \"{name}\"")));
        assert!(read(&format!("config-repo/{name}.yml")).contains(&format!("server_port: {port}\n")));
        assert!(read(&format!("{name}/src/main.rs")).contains(&format!("Program::new({port}, ")));
    }
    assert!(
        files(folder.path()).values().all(|text| !text.contains(TEMPLATE_NAME)),
        "a template's name is left"
    );
    for (file, before) in [MANIFEST, FILE].iter().zip(before) {
        let after = read(file).replace("\"secondservice\", \"firstservice\", ", "");
        let mut after = after.lines();
        for line in before.lines() {
            assert!(after.any(|now| now == line), "{file} has lost {line:?}, or it stands elsewhere");
        }
    }
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_changed() {
    fn check(name: &str, change: impl Fn(&Path), expected: &str) {
        let folder = copy();
        change(folder.path());
        let before = files(folder.path());
        let error = format!("{:#}", create(&folder, SUCCEEDS, name).unwrap_err());
        assert!(error.contains(expected) && !error.contains('\n'), "{name}: {error}");
        assert_eq!(files(folder.path()), before, "{name}");
    }
    fn replaced(file: &'static str, from: &'static str, to: &'static str) -> impl Fn(&Path) {
        move |folder| {
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(from), "{from}");
            fs::write(folder.join(file), text.replace(from, to)).unwrap();
        }
    }
    let nothing = |_: &Path| ();
    let long = "x".repeat(MAX_NAME + 1);
    for name in ["", "Mailservice", "mail-service", "mail_service", "1mail", "mäil", "../mail", "a b", &long]
    {
        check(name, nothing, "use 1 to 40 of a-z and 0-9, first a letter, as in mailservice");
    }
    for name in ["fn", "self", "async", "test", "target", "examples", "localhost"] {
        check(name, nothing, "is a word of Rust, cargo or Docker: choose another name");
    }
    check("rabbitmq", nothing, "docker-compose.yml has a service rabbitmq already");
    check("vipservice", nothing, "docker-compose.yml has a service vipservice already");
    check("outbox", nothing, "Cargo.lock has a package outbox already");
    check("serde", nothing, "Cargo.lock has a package serde already");
    check("application", nothing, "config-repo/application.yml exists already");
    check("docs", |folder| fs::create_dir(folder.join("docs")).unwrap(), "docs exists already");
    let dangles = |folder: &Path| std::os::unix::fs::symlink("nothing", folder.join("mailservice")).unwrap();
    check("mailservice", dangles, "mailservice exists already: choose another name, or move it away");

    let mailservice = |change: &dyn Fn(&Path), expected| check("mailservice", change, expected);
    mailservice(
        &|folder| fs::remove_file(folder.join(MANIFEST)).unwrap(),
        "you need Rust and a clone of the repository",
    );
    mailservice(
        &replaced(MANIFEST, "\nmembers = [", "\n\"members\" = ["),
        "no line that begins with `members = [`",
    );
    mailservice(&replaced(FILE, "\nservices:", "\n\"services\":"), "no line `services:`");
    mailservice(&replaced(FILE, "\nsecrets:", "\n\"secrets\":"), "no line `secrets:`");
    mailservice(&replaced(FILE, "\n  ", "\n    "), "indented by two blanks");
    mailservice(&replaced(FILE, "\nservices:", "\nservice:"), "docker-compose.yml");
}

#[test]
fn a_failure_in_the_middle_takes_back_what_was_written() {
    let folder = copy();
    let before = files(folder.path());
    for (cargo, expected) in [
        (FAILS, "cargo cannot complete Cargo.lock: ; nothing has changed"),
        ("/no/cargo", "cannot start cargo: a new service is compiled, so you need Rust"),
    ] {
        let error = format!("{:#}", create(&folder, cargo, "mailservice").unwrap_err());
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(files(folder.path()), before);
    }

    let project = Project::find(folder.path(), BTreeMap::new()).unwrap();
    let (service, root) = (NewService::check(&project, "mailservice").unwrap(), folder.path());
    service.write_files(root).unwrap();
    fs::write(root.join(LOCK), "half of it").unwrap();
    assert!(service.take_back(root).is_empty());
    assert_eq!(files(root), before);
    fs::remove_file(root.join(FILE)).unwrap();
    fs::create_dir(root.join(FILE)).unwrap();
    assert_eq!(service.take_back(root), [FILE], "what could not be taken back");
}

#[test]
fn a_member_is_inserted_however_the_list_is_written() {
    for (before, after) in [
        ("[workspace]\nmembers = [\"a\"]\n", "[workspace]\nmembers = [\"new\", \"a\"]\n"),
        ("[workspace]\nmembers=[ \"a\" ]", "[workspace]\nmembers=[\"new\",  \"a\" ]"),
        ("[workspace]\nmembers = []\n", "[workspace]\nmembers = [\"new\"]\n"),
        ("[workspace]\nmembers = [ # all\n", "[workspace]\nmembers = [\"new\",  # all\n"),
        (
            "[workspace]\nmembers = [\n    \"a\",\n]\n",
            "[workspace]\nmembers = [\n    \"new\",\n    \"a\",\n]\n",
        ),
        (
            "[x]\nmembers = [\"a\"]\n[workspace]\ndefault-members = [\"b\"]\nmembers = [\"c\"]",
            "[x]\nmembers = [\"a\"]\n[workspace]\ndefault-members = [\"b\"]\nmembers = [\"new\", \"c\"]",
        ),
    ] {
        assert_eq!(with_member(before, "new").unwrap(), after);
    }
    for none in ["", "[workspace]\n", "members = [\"a\"]", "[workspace.metadata]\nmembers = [\"a\"]"] {
        assert!(with_member(none, "new").is_err(), "{none}");
    }
}

#[test]
fn lines_are_inserted_below_their_key() {
    for (before, after) in [
        ("a:\n  x: 1\n", "a:\n  new\n  x: 1\n"),
        ("b:\n  a:\na: # all\n  x: 1\n", "b:\n  a:\na: # all\n  new\n  x: 1\n"),
        ("ab:\na:\r\n  x: 1\r\n", "ab:\na:\r\n  new\n  x: 1\r\n"),
    ] {
        assert_eq!(with_lines(before, "a", "  new\n").unwrap(), after);
    }
    for none in ["", "ab:\n", "  a:\n", "a: {}\n", "a:"] {
        assert!(with_lines(none, "a", "  new\n").is_err(), "{none}");
    }
}

#[test]
fn the_next_steps_are_those_that_work_now() {
    let steps = |is_up, is_committed| next_steps("mailservice", 7969, is_up, is_committed);
    let quiet = steps(false, true);
    assert!(quiet.contains("\n    cargo hops up -d\n    curl localhost:7969/readyz\n"), "{quiet}");
    let removal = "    git checkout Cargo.toml Cargo.lock docker-compose.yml\n    \
                   rm -r mailservice config-repo/mailservice.yml config-repo/mailservice-test.yml";
    assert!(quiet.ends_with(removal) && !quiet.contains("down"), "{quiet}");
    let busy = steps(true, false);
    assert!(busy.contains("    cargo hops down ") && !busy.contains("git checkout"), "{busy}");
}
