//! Requests that were recorded from Spring's own config server, with its answers: `cases.json`.
//!
//! Each has the files, the settings by Spring's names, the request, and what is expected of the answer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use spring::{Node, Scalar, yaml::documents};

use crate::kit::{Answer, TestServer};

/// Parts of the protocol that are left out, by the beginnings of the cases' names. A case that passes does not belong here.
const LEFT_OUT: [(&str, &str); 13] = [
    ("cipher/v2-", "the second version of the JSON, with origins"),
    ("overrides/v2-", "the second version of the JSON, with origins"),
    ("resource/text-with-placeholders", FILES),
    ("resource/no-extension", FILES),
    ("resource/subdirectory-path", FILES),
    ("resource/label-directory-with-slash", FILES),
    ("resource/json-file-as-text", FILES),
    ("resource/placeholders-off", FILES),
    ("resource/raw-config-file", FILES),
    ("resource/utf8", FILES),
    ("resource/octet-stream-is-raw", FILES),
    ("resource/octet-stream-default-label", FILES),
    ("resource/accept-charset", FILES),
];
const FILES: &str = "files as they are";

/// Spring's names and ours.
const KEYS: [(&str, &str); 7] = [
    ("spring.cloud.config.server.accept-empty", "accept_empty"),
    ("spring.cloud.config.server.prefix", "prefix"),
    ("spring.cloud.config.server.encrypt.enabled", "encrypt_enabled"),
    ("encrypt.prefix-invalid-properties", "encrypt_prefix_invalid"),
    ("encrypt.key", "encrypt_key"),
    ("encrypt.salt", "encrypt_salt"),
    ("spring.cloud.bus.id", "bus_id"),
];

fn settings(spring: &Value) -> Map<String, Value> {
    let (mut settings, mut overrides) = (Map::new(), Map::new());
    for (key, value) in spring.as_object().into_iter().flatten() {
        if let Some(key) = key.strip_prefix("spring.cloud.config.server.overrides.") {
            overrides.insert(key.trim_matches(['[', ']']).to_owned(), value.clone());
            continue;
        }
        let (_, ours) = KEYS.iter().find(|(known, _)| known == key).expect(key);
        let value = value.as_str().and_then(|text| text.parse().ok()).map_or(value.clone(), Value::Bool);
        settings.insert((*ours).to_owned(), value);
    }
    settings.insert("overrides".into(), overrides.into());
    settings.insert("watch".into(), false.into());
    settings
}

#[tokio::test]
async fn recorded_requests_are_answered_as_spring_answers_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    let mut groups: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for case in &cases {
        groups.entry(case["server"].to_string()).or_default().push(case);
    }
    let (mut passed, mut wrong) = (BTreeMap::<&str, usize>::new(), vec![]);
    for cases in groups.values() {
        let server = TestServer::start(settings(&cases[0]["server"])).await;
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let failed = play(&server, case).await;
            let left_out = LEFT_OUT.iter().find(|(start, _)| name.starts_with(start));
            match (failed, left_out) {
                (None, None) => *passed.entry(case["tier"].as_str().unwrap()).or_default() += 1,
                (Some(_), Some(_)) => {}
                (Some(why), None) => wrong.push(format!("{name}: {why}")),
                (None, Some((_, reason))) => {
                    wrong.push(format!("{name} passes: it is not left out for {reason}"))
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(passed["core"] >= 60, "{passed:?}");
}

#[test]
fn what_is_left_out_is_among_the_cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases.json")).unwrap();
    for (start, _) in LEFT_OUT {
        assert!(cases.iter().any(|case| case["name"].as_str().unwrap().starts_with(start)), "{start}");
    }
}

/// Plays a case, and says what differs.
async fn play(server: &TestServer, case: &Value) -> Option<String> {
    server.clear();
    server.events();
    for (path, content) in case["files"].as_object().unwrap() {
        match content.as_str() {
            Some(text) => server.write(path, text),
            // Bytes are there for files as they are, which are left out.
            None => server.write(path, "bytes"),
        }
    }
    let request = &case["request"];
    let mut headers = vec![("accept", "*/*")];
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        headers.extend(value.as_str().map(|value| (name.as_str(), value)));
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (method, path) = (text(&request["method"]), text(&request["path"]));
    let answer = server.send(&method, &path, &headers, request["body"].as_str()).await;
    let folder = server.folder.path().to_str().unwrap();
    let expected = serde_json::from_str(&case["expect"].to_string().replace("{{REPO}}", folder)).unwrap();
    let by_file = case["sourceNames"] == "basename";
    match difference(&answer, &expected, by_file) {
        None => encrypted(server, &answer, &expected).await.or_else(|| told(server, &expected)),
        different => different,
    }
}

fn difference(answer: &Answer, expected: &Value, by_file: bool) -> Option<String> {
    let text = answer.text();
    if expected["status"] != answer.status {
        return Some(format!("status {} and not {}: {text}", answer.status, expected["status"]));
    }
    for (name, value) in expected["headers"].as_object().into_iter().flatten() {
        let plain = |text: &str| text.replace("; ", ";").to_lowercase();
        let found = answer.header(name).unwrap_or_default();
        if plain(found) != plain(value.as_str().unwrap()) {
            return Some(format!("{name} is {found}"));
        }
    }
    let parsed = || serde_json::from_str::<Value>(&text).unwrap_or_default();
    let names = |value: Value| if by_file { with_file_names(value) } else { value };
    let same = [
        expected.get("json").map(|json| names(parsed()) == names(json.clone())),
        expected.get("jsonSubset").map(|json| {
            let answer = parsed();
            json.as_object().unwrap().iter().all(|(key, value)| answer.get(key) == Some(value))
        }),
        expected
            .get("yaml")
            .map(|yaml| documents(&text).unwrap().first().map(as_json).as_ref() == Some(yaml)),
        expected.get("text").map(|expected| *expected == text),
    ];
    same.contains(&Some(false)).then(|| format!("answered {text}"))
}

/// A text that was encrypted has the form that is expected, and is decrypted again.
async fn encrypted(server: &TestServer, answer: &Answer, expected: &Value) -> Option<String> {
    let plain = expected.get("decryptsTo")?;
    let text = answer.text();
    let back = server.send("POST", "/decrypt", &[("content-type", "text/plain")], Some(&text)).await.text();
    let begins = expected["bodyRegex"].as_str().unwrap().trim_start_matches('^').replace('\\', "");
    let begins = begins.split("[0-9a-f]").next().unwrap();
    let is_hex = |rest: &str| rest.len() >= 64 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    let formed = text.strip_prefix(begins).is_some_and(is_hex);
    (!formed || *plain != back).then(|| format!("{text} is decrypted to {back}"))
}

/// The events on the bus are those that are expected.
fn told(server: &TestServer, expected: &Value) -> Option<String> {
    let expected = expected.get("busEvents")?;
    let short = |event: &Value| {
        let part = |name: &str| event[name].clone();
        json!({"type": part("type"), "originService": part("originService"),
               "destinationService": part("destinationService")})
    };
    let events: Value = server.events().iter().map(short).collect();
    (*expected != events).then(|| format!("told {events}"))
}

/// Names of sources shortened to their files, where servers may differ.
fn with_file_names(mut environment: Value) -> Value {
    for source in environment["propertySources"].as_array_mut().into_iter().flatten() {
        let name = source["name"].as_str().unwrap().rsplit('[').next().unwrap();
        let name = name.split([']', '\'']).next().unwrap().rsplit('/').next().unwrap();
        source["name"] = name.into();
    }
    environment
}

fn as_json(node: &Node) -> Value {
    match node {
        Node::Null => Value::Null,
        Node::Scalar(Scalar::Bool(value)) => (*value).into(),
        Node::Scalar(Scalar::Number(number)) => serde_json::from_str(number).unwrap(),
        Node::Scalar(Scalar::Text(text)) => text.as_str().into(),
        Node::List(list) => list.iter().map(as_json).collect(),
        Node::Map(map) => map.iter().map(|(key, value)| (key.clone(), as_json(value))).collect(),
    }
}
