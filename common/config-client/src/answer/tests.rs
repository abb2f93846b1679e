//! Answers, recorded from Spring's server 4.3.4 and written by hand.

use serde_json::json;

use super::*;

/// Read by the service that it is for.
fn sources(answer: &Json) -> Vec<PropertySource> {
    let service = answer["name"].as_str().unwrap_or("probe");
    read(answer.to_string().as_bytes(), service).unwrap_or_else(|why| panic!("{why}: {answer}"))
}

fn answer(sources: &Json) -> Json {
    json!({ "name": "probe", "profiles": ["dev"], "label": null, "version": null, "state": null,
            "propertySources": sources })
}

#[test]
fn what_springs_server_answers_is_read_whatever_the_case() {
    let recorded: Vec<Json> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    assert!(recorded.len() > 35, "{}", recorded.len());
    for case in recorded {
        let found = sources(&case["answer"]);
        let expected = case["answer"]["propertySources"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{}", case["case"]);
        for (found, expected) in found.iter().rev().zip(expected) {
            assert_eq!(json!(found.source), expected["source"], "{}", case["case"]);
        }
    }
}

#[test]
fn an_answer_for_another_is_refused_since_a_longer_address_is_another_question() {
    let answer = json!({ "name": "nope", "profiles": ["probe"], "label": "dev", "propertySources": [] });
    let why = read(answer.to_string().as_bytes(), "probe").map(|sources| sources.len()).unwrap_err();
    assert!(why.contains("for `nope`") && why.contains("address"), "{why}");
}

#[test]
fn answers_of_older_and_newer_servers_are_read_too() {
    let source = json!([{ "name": "n", "source": { "a": 1 } }]);
    for answer in [
        json!({ "name": "probe", "profiles": ["dev", "prod"], "label": "master", "propertySources": source }),
        json!({ "name": "probe", "profiles": ["dev,prod"], "label": null, "state": "", "propertySources": source }),
        json!({ "propertySources": source, "added": { "later": true } }),
    ] {
        assert_eq!(sources(&answer).len(), 1, "{answer}");
    }
    assert!(sources(&answer(&json!([]))).is_empty(), "a service that the server knows nothing of");
    // Nested values are none that Spring sends; what they mean is clear all the same.
    let nested =
        answer(&json!([{ "name": "n", "source": { "a": { "b": [1] }, "c": 1.5, "d": null, "e": true } }]));
    assert_eq!(json!(sources(&nested)[0].source), nested["propertySources"][0]["source"]);
}

#[test]
fn what_is_no_answer_is_refused_with_a_reason() {
    let deep = format!("{{\"propertySources\":{}", "[".repeat(100_000));
    for body in ["", "hello", "<html></html>", "[]", "{}", r#"{"propertySources":[{"name":"n"}]}"#, &deep] {
        let why = read(body.as_bytes(), "probe").err().unwrap();
        assert!(why.starts_with("its answer is no Environment: "), "{why}");
    }
}

#[test]
fn a_source_is_the_services_own_when_its_name_has_the_services_file_in_it() {
    for (name, own) in [
        ("file:/repo/probe.yml", true),
        ("file:config-repo/probe-dev.yml", true),
        ("https://git.example/config-repo/probe.properties", true),
        ("Config resource 'file [/repo/probe.yml]' via location 'file:/repo/' (document #1)", true),
        (
            "https://git.example/r/Config resource 'file [/tmp/c/probe-dev.yml' via location '' (document #0)",
            true,
        ),
        ("file:/repo/application.yml", false),
        ("file:/probe/application-dev.yml", false),
        ("file:/repo/probes.yml", false),
        ("file:/repo/other-probe.yml", false),
        ("overrides", false),
        ("vault:probe", false),
    ] {
        let source = PropertySource { name: name.into(), source: IndexMap::new() };
        assert_eq!(source.is_own("probe"), own, "{name}");
    }
}

#[test]
fn a_name_is_shown_without_credentials_and_on_one_line() {
    for (name, expected) in [
        ("file:/repo/probe.yml", "file:/repo/probe.yml"),
        ("https://u:hunter2@git.example/r/probe.yml", "https://git.example/r/probe.yml"),
        ("Config 'https://u:hunter2@h/x' via 'https://t0ken@h'", "Config 'https://h/x' via 'https://h'"),
        ("https://h/a@b", "https://h/a@b"),
        ("a\nb\u{1b}c", "abc"),
    ] {
        assert_eq!(shown(name), expected);
    }
    assert_eq!(shown(&"x".repeat(10_000)).len(), 300);
}
