//! Push notifications: the files that have changed, and the services that read them. Does no I/O.

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Name for all services.
const ALL_SERVICES: &str = "*";
/// Name of the files that every service reads.
const APPLICATION: &str = "application";
/// Limit for names; above it one event goes to all services.
const MAX_NAMES: usize = 100;
/// Limit for the bytes of a file's name.
const MAX_NAME_LENGTH: usize = 255;
/// Notifications of providers with the paths of a push: a header and its value.
const WITH_COMMITS: [(&str, &str); 4] = [
    ("x-github-event", "push"),
    ("x-gitlab-event", "Push Hook"),
    ("x-gogs-event", "push"),
    ("x-git-oschina-event", "Push Hook"),
];
/// Notifications of providers without paths, which concern all services: a header, its value, and a second header that
/// must be present.
const WITHOUT_PATHS: [(&str, &str, Option<&str>); 5] = [
    ("x-gitea-event", "push", None),
    ("x-event-key", "repo:push", Some("x-hook-uuid")),
    ("x-event-key", "pullrequest:fulfilled", Some("x-hook-uuid")),
    ("x-event-key", "repo:refs_changed", Some("x-request-id")),
    ("x-event-key", "pr:merged", Some("x-request-id")),
];

/// Returns the names that a notification in JSON concerns. An unknown notification concerns none.
#[must_use]
pub fn names_in_json(headers: &HeaderMap, body: &Value) -> Vec<String> {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    let mut paths = vec![];
    if WITH_COMMITS.iter().any(|(name, value)| is(name, value)) {
        for commit in body["commits"].as_array().into_iter().flatten() {
            paths.extend(["added", "removed", "modified"].iter().flat_map(|kind| texts(&commit[kind])));
        }
    }
    let has = |second: &Option<&str>| second.is_none_or(|name| headers.contains_key(name));
    if WITHOUT_PATHS.iter().any(|(name, value, second)| is(name, value) && has(second)) {
        paths.push(APPLICATION);
    }
    if paths.is_empty() {
        paths = texts(&body["path"]);
    }
    names(paths)
}

/// Returns the names that a form such as `path=a.yml&path=b.yml` concerns; `None` if it has no path.
#[must_use]
pub fn names_in_form(body: &str) -> Option<Vec<String>> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = body.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let paths: Vec<_> = pairs.filter(|(key, _)| *key == "path").map(|(_, value)| decoded(value)).collect();
    (!paths.is_empty()).then(|| names(paths.iter().map(String::as_str)))
}

/// Returns the names that changed files concern, each once, in the order of the files; `*` if there are too many.
#[must_use]
pub fn names<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut names = vec![];
    for name in paths.into_iter().flat_map(names_of) {
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > MAX_NAMES {
            return vec![ALL_SERVICES.to_owned()];
        }
    }
    names
}

/// Returns the names that a file concerns. The name of the service may end at each hyphen, where the profile begins:
/// `a-b-c.yml` concerns `a-b-c`, `a-b` and `a`.
fn names_of(path: &str) -> Vec<String> {
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let cuts = stem.match_indices('-').map(|(at, _)| &stem[..at]).rev();
    let candidates = std::iter::once(stem).chain(cuts);
    let candidates = candidates.filter(|name| !name.is_empty() && file.len() <= MAX_NAME_LENGTH);
    candidates.map(|name| if name == APPLICATION { ALL_SERVICES } else { name }.to_owned()).collect()
}

/// Returns a text, or the texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;
    use serde_json::json;

    use super::*;

    fn check(headers: &[(&'static str, &str)], body: &Value, expected: &[&str]) {
        let pairs = headers.iter();
        let given =
            pairs.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        assert_eq!(names_in_json(&given, body), expected, "{headers:?} {body}");
    }

    #[test]
    fn a_file_concerns_every_name_that_it_may_begin_with() {
        for (path, expected) in [
            ("accountservice.yml", &["accountservice"][..]),
            ("accountservice-test.yml", &["accountservice-test", "accountservice"]),
            ("a-b-c.properties", &["a-b-c", "a-b", "a"]),
            ("application.yml", &["*"]),
            ("application-dev.yml", &["application-dev", "*"]),
            ("applications.yml", &["applications"]),
            ("folder/sub-folder/a-dev.yml", &["a-dev", "a"]),
            ("folder\\a.yml", &["a"]),
            ("a.b.yml", &["a.b"]),
            ("accountservice", &["accountservice"]),
            ("*", &["*"]),
            ("", &[]),
            ("folder/", &[]),
            (".yml", &[]),
            ("-dev.yml", &["-dev"]),
        ] {
            assert_eq!(names_of(path), expected, "{path}");
        }
        assert_eq!(names(["a.yml", "b.yml", "a-dev.yml", "a.properties"]), ["a", "b", "a-dev"]);
        let many: Vec<_> = (0..101).map(|n| format!("service{n}.yml")).collect();
        assert_eq!(names(many.iter().map(String::as_str)), ["*"]);
        assert_eq!(names([format!("{}.yml", "a-".repeat(500_000)).as_str()]), [""; 0]);
    }

    #[test]
    fn every_provider_is_understood() {
        let commits = json!({"path": "never.yml", "commits": [
            {"added": ["a.yml"], "removed": ["b.yml"]}, {"modified": ["c-dev.yml", "a.yml", 7]}, {}, "odd",
        ]});
        let expected = ["a", "b", "c-dev", "c"];
        for header in [
            ("x-github-event", "push"),
            ("x-gitlab-event", "Push Hook"),
            ("x-gogs-event", "push"),
            ("x-git-oschina-event", "Push Hook"),
        ] {
            check(&[header], &commits, &expected);
        }
        for headers in [
            &[("x-gitea-event", "push")][..],
            &[("x-event-key", "repo:push"), ("x-hook-uuid", "1")],
            &[("x-event-key", "pullrequest:fulfilled"), ("x-hook-uuid", "1")],
            &[("x-event-key", "repo:refs_changed"), ("x-request-id", "1")],
            &[("x-event-key", "pr:merged"), ("x-request-id", "1")],
        ] {
            check(headers, &commits, &["*"]);
        }
    }

    #[test]
    fn what_is_no_push_concerns_nobody() {
        let commits = json!({"commits": [{"modified": ["a.yml"]}]});
        for headers in [
            &[][..],
            &[("x-github-event", "ping")],
            &[("x-gitlab-event", "push")],
            &[("x-gitea-event", "issues")],
            &[("x-event-key", "repo:push")],
            &[("x-event-key", "repo:push"), ("x-request-id", "1")],
            &[("x-event-key", "pr:opened"), ("x-request-id", "1")],
        ] {
            check(headers, &commits, &[]);
        }
        for odd in [json!({}), json!({"commits": "a"}), json!({"commits": {"modified": ["a.yml"]}})] {
            check(&[("x-github-event", "push")], &odd, &[]);
        }
    }

    #[test]
    fn paths_can_be_named_without_a_provider() {
        check(&[], &json!({"path": "a-dev.yml"}), &["a-dev", "a"]);
        check(&[], &json!({"path": ["a.yml", "application.yml"]}), &["a", "*"]);
        check(&[("x-github-event", "push")], &json!({"path": "a.yml", "commits": []}), &["a"]);
        check(&[], &json!({"path": 7}), &[]);
        let form = |body| names_in_form(body);
        assert_eq!(form("path=accountservice").unwrap(), ["accountservice"]);
        assert_eq!(form("path=a.yml&path=x%2Fb-dev.yml&other=c").unwrap(), ["a", "b-dev", "b"]);
        assert_eq!(form("path=*").unwrap(), ["*"]);
        assert_eq!(form("path=").unwrap(), [""; 0]);
        assert_eq!(form("paths=a"), None);
    }
}
