//! The order of files and documents, without a folder.

use std::collections::HashMap;

use super::*;
use crate::{document::documents, request::parse};

fn sources(files: &[(&str, &str)], path: &str) -> Result<Vec<String>, FileError> {
    let files: HashMap<_, _> = files.iter().copied().collect();
    let request = parse("GET", path, "", None).unwrap();
    let label = request.label.clone().unwrap_or_else(|| "master".into());
    let plan = Plan::new("/r", &request, Some(&label));
    let read = |path: &str| {
        let Some(text) = files.get(path) else { return Ok(None) };
        Ok(Some(documents(path, text.as_bytes()).unwrap()))
    };
    let short = |name: String| {
        let document = name.rsplit_once("(document ").map(|(_, n)| n.trim_end_matches(')').to_owned());
        let path = name.split(['[', ']']).nth(1).unwrap_or(&name).rsplit_once("/r/").unwrap().1;
        format!("{path}{}", document.unwrap_or_default())
    };
    Ok(plan.sources(&read)?.into_iter().map(|source| short(source.name)).collect())
}

fn check(files: &[&str], path: &str, expected: &str) {
    let files: Vec<_> = files.iter().map(|name| (*name, "k: v")).collect();
    assert_eq!(sources(&files, path).unwrap().join(" "), expected, "{path}");
}

#[test]
fn profile_files_win_over_base_files_and_the_last_named_wins() {
    let all = [
        "application.yml",
        "a.yml",
        "b.yml",
        "application-p1.yml",
        "a-p1.yml",
        "b-p1.yml",
        "a-p2.yml",
        "b-p2.yml",
    ];
    check(
        &all,
        "/a,b/p1,p2",
        "b-p2.yml a-p2.yml b-p1.yml a-p1.yml application-p1.yml b.yml a.yml application.yml",
    );
    check(&all, "/a/default", "a.yml application.yml");
    check(&all, "/application/p1", "application-p1.yml application.yml");
    check(&["a-default.yml", "a.yml"], "/a/default", "a-default.yml a.yml");
    check(&["a-DEV.yml", "a-dev.yml"], "/a/DEV", "a-DEV.yml");
    check(&["team/svc.yml", "application.yml"], "/team(_)svc/default", "team/svc.yml application.yml");
}

#[test]
fn properties_win_over_yml_over_yaml() {
    check(&["a.yaml", "a.properties", "a.yml", "a.json"], "/a/x", "a.properties a.yml a.yaml");
}

#[test]
fn a_labels_folder_wins_over_the_root_within_a_profile() {
    let all = ["a.yml", "a-dev.yml", "v1/a.yml", "v1/a-dev.yml", "master/a.yml", "v2/a.yml", "f/x/a.yml"];
    check(&all, "/a/dev/v1", "v1/a-dev.yml a-dev.yml v1/a.yml a.yml");
    check(&all, "/a/default", "master/a.yml a.yml");
    check(&all, "/a/default/v1,v2", "v1/a.yml v2/a.yml a.yml");
    check(&all, "/a/default/f(_)x", "f/x/a.yml a.yml");
    check(&all, "/a/default/none", "a.yml");
    check(&["a.yml"], "/a/default/.", "a.yml");
}

#[test]
fn active_documents_stay_with_their_file() {
    let svc = "k: 0\n---\nspring.config.activate.on-profile: dev\nk: 1\n---\n\
               spring: {config: {activate: {on-profile: '!dev'}}}\nk: 2\n";
    let files = [("svc.yml", svc), ("svc-dev.yml", "k: v"), ("application.yml", "k: v")];
    assert_eq!(
        sources(&files, "/svc/dev").unwrap().join(" "),
        "svc-dev.yml svc.yml#1 svc.yml#0 application.yml"
    );
    assert_eq!(sources(&files, "/svc/x").unwrap().join(" "), "svc.yml#2 svc.yml#0 application.yml");
    let cloud = [("svc.yml", "k: 0\n---\nspring.config.activate.on-cloud-platform: kubernetes\nk: 1")];
    assert_eq!(sources(&cloud, "/svc/x").unwrap(), ["svc.yml#0"]);
}

#[test]
fn base_files_add_profiles_unless_default_is_asked_for() {
    let root = "spring: {profiles: {include: extra, active: ignored, group: {dev: 'g1,g2'}}}";
    let mut files = vec![("application.yml", root)];
    let names =
        ["extra", "dev", "g1", "g2", "z", "ignored", "default"].map(|name| format!("application-{name}.yml"));
    files.extend(names.iter().map(|name| (name.as_str(), "k: v")));
    let of = |path| {
        let all = sources(&files, path).unwrap().join(" ");
        all.replace("application-", "").replace(".yml", "")
    };
    assert_eq!(of("/svc/z,dev"), "extra g2 g1 dev z application");
    assert_eq!(of("/svc/default"), "default application");
}

#[test]
fn what_cannot_be_is_an_error_that_names_the_file() {
    for (name, text, path) in [
        ("svc-dev.yml", "spring.profiles.include: x", "/svc/dev"),
        ("svc-dev.yml", "spring.profiles.active: x", "/svc/dev"),
        ("svc.yml", "spring.profiles: dev\nk: v", "/svc/dev"),
        ("svc.yml", "spring.config.activate.on-profile: a & b | c", "/svc/dev"),
    ] {
        let error = sources(&[(name, text)], path).expect_err(text);
        assert!(error.path.starts_with("svc"), "{error}");
    }
    assert!(sources(&[("svc-default.yml", "spring.profiles.include: x")], "/svc/default").is_ok());
}

#[test]
fn a_request_that_leads_to_too_many_files_is_refused() {
    let list = |letter: char| (0..16).map(|n| format!("{letter}{n}")).collect::<Vec<_>>().join(",");
    let error = sources(&[], &format!("/{}/{}/{}", list('a'), list('p'), list('l'))).unwrap_err();
    assert!(error.to_string().contains("more than 10000 files"), "{error}");
    assert!(sources(&[], &format!("/{}/{}/l", list('a'), list('p'))).is_ok());
}

#[test]
fn a_file_that_two_rules_find_is_there_once() {
    check(&["svc-dev.yml", "svc.yml"], "/svc,svc-dev/dev", "svc-dev.yml svc.yml");
}

#[test]
fn an_imported_file_wins_over_the_document_that_imports_it() {
    let import = |what: &str| format!("k: 0\nspring.config.import: '{what}'\n");
    let base = import("one.yml,optional:sub/two.yml");
    let two = import("../three.yml");
    let files = [
        ("svc.yml", base.as_str()),
        ("application.yml", "k: v"),
        ("one.yml", "k: v"),
        ("one-dev.yml", "k: v"),
        ("sub/two.yml", two.as_str()),
        ("three.yml", "spring.config.import: svc.yml"),
    ];
    let of = |path| sources(&files, path).unwrap().join(" ");
    assert_eq!(of("/svc/default"), "three.yml sub/two.yml one.yml svc.yml application.yml");
    assert_eq!(of("/svc/dev"), "three.yml sub/two.yml one-dev.yml one.yml svc.yml application.yml");
    for elsewhere in [
        "../x.yml",
        "file:/etc/x.yml",
        "file:/rone.yml",
        "classpath:x.yml",
        "optional:configserver:",
        "x.json",
        "sub/",
        "none.yml",
    ] {
        let base = import(elsewhere);
        assert_eq!(
            sources(&[("svc.yml", &base), ("x.json", "k: v")], "/svc/default").unwrap(),
            ["svc.yml"],
            "{elsewhere}"
        );
    }
    let chain: Vec<_> = (0..100).map(|n| (format!("c{n}.yml"), import(&format!("c{}.yml", n + 1)))).collect();
    let chain: Vec<_> = chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert!(sources(&chain, "/c0/default").is_err());
    let absolute = import("file:/r/one.yml");
    let files = [("svc.yml", absolute.as_str()), ("one.yml", "k: v")];
    assert_eq!(sources(&files, "/svc/default").unwrap().join(" "), "one.yml svc.yml");
}
