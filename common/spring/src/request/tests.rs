//! Addresses and their requests, in tables.

use super::*;

fn get(target: &str) -> Result<Request, u16> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    parse("GET", path, query, None).map_err(|refusal| refusal.status)
}

fn environment_of(name: &str, profiles: &str, label: Option<&str>) -> Request {
    environment(name, profiles, label)
}

fn merged_of(label: Option<&str>, name: &str, profile: &str, format: Format, resolve: bool) -> Request {
    Request { form: Form::Merged(format, resolve), ..environment(name, profile, label) }
}

#[test]
fn two_segments_or_three_are_an_environment() {
    for (path, name, profiles, label) in [
        ("/svc/dev", "svc", "dev", None),
        ("/svc/dev/main", "svc", "dev", Some("main")),
        ("/svc/dev/v1.0", "svc", "dev", Some("v1.0")),
        ("/svc/default/nginx.conf", "svc", "default", Some("nginx.conf")),
        ("/l/svc-dev.txt", "l", "svc-dev.txt", None),
        ("/a,b/p1,p2", "a,b", "p1,p2", None),
        ("/svc/dev-yml", "svc", "dev-yml", None),
        ("/svc/xjson.y", "svc", "xjson.y", None),
        ("/svc/dev.ymlx", "svc", "dev.ymlx", None),
        ("/svc;x=1/dev;y", "svc", "dev", None),
        ("/team(_)svc/default/feature(_)x", "team/svc", "default", Some("feature/x")),
        ("/s%76c/d%65v", "svc", "dev", None),
        ("/%C3%A5/dev", "\u{e5}", "dev", None),
        ("/svc/dev?label=x&foo=bar", "svc", "dev", None),
    ] {
        assert_eq!(get(path), Ok(environment_of(name, profiles, label)), "{path}");
    }
}

#[test]
fn a_name_with_a_hyphen_and_an_extension_is_a_merged_view() {
    for (path, label, name, profile, format, resolve) in [
        ("/svc-dev.yml", None, "svc", "dev", Format::Yaml, true),
        ("/svc-dev.yaml", None, "svc", "dev", Format::Yaml, true),
        ("/l/svc-dev.properties", Some("l"), "svc", "dev", Format::Properties, true),
        ("/foo-bar-foo2-bar2-spam.json", None, "foo-bar-foo2-bar2", "spam", Format::Json, true),
        ("/svc-dev.yml?resolvePlaceholders=false", None, "svc", "dev", Format::Yaml, false),
        ("/svc-dev.yml?a=b&resolvePlaceholders=TRUE", None, "svc", "dev", Format::Yaml, true),
        ("/svc-dev.json?resolvePlaceholders=", None, "svc", "dev", Format::Json, true),
    ] {
        assert_eq!(get(path), Ok(merged_of(label, name, profile, format, resolve)), "{path}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_springs_status() {
    let many = format!("/svc/{}a", "a,".repeat(MAX_LIST));
    for (path, status) in [
        ("/", 404),
        ("/svc", 404),
        ("/svc.yml", 404),
        ("/svc-.yml", 404),
        ("/-dev.yml", 404),
        ("/svc/dev/", 404),
        ("//svc/dev", 404),
        ("/svc/dev.yml", 404),
        ("/svc/dev.json", 404),
        ("/actuator/env", 404),
        ("/monitor/dev", 404),
        ("/encrypt/dev", 404),
        ("/%65ncrypt/dev", 404),
        ("/key/dev", 404),
        ("/svc/dev/main/nginx.conf", 404),
        ("/svc/dev/nginx.conf?useDefaultLabel", 404),
        ("/svc/default/(_)x/a.txt", 400),
        ("/svc/dev/../x", 400),
        ("/svc/dev/..", 400),
        ("/sv..c/dev", 400),
        ("/sv%2e%2ec/dev", 400),
        ("/sv%252e%252ec/dev", 400),
        ("/sv%23c/dev", 400),
        ("/(_)svc/dev", 400),
        ("/%28_%29svc/dev", 400),
        ("/svc/dev/..(_)..", 400),
        ("/svc%2fx/dev", 400),
        ("/svc%5Cx/dev", 400),
        ("/svc%00/dev", 400),
        ("/svc%zz/dev", 400),
        ("/svc%/dev", 400),
        ("/svc%ff/dev", 400),
        ("/svc/bar,..,foo", 400),
        ("/svc/a,,b", 400),
        ("/svc/a,", 400),
        ("/svc/%20", 400),
        ("/svc/de%20v", 400),
        ("/svc/-dev", 400),
        ("/svc/dev.", 400),
        ("/svc/de*v", 400),
        ("/svc-dev.yml?resolvePlaceholders=bogus", 400),
        (&many, 400),
    ] {
        assert_eq!(get(path), Err(status), "{path}");
    }
}

#[test]
fn only_get_and_head_read() {
    for (method, status) in
        [("HEAD", None), ("POST", Some(405)), ("DELETE", Some(405)), ("OPTIONS", Some(405))]
    {
        assert_eq!(
            parse(method, "/svc/dev", "", None).err().map(|refusal| refusal.status),
            status,
            "{method}"
        );
    }
}

#[test]
fn an_environment_is_json_for_who_takes_json_and_formats_ask_nobody() {
    for (accept, fine) in [
        (None, true),
        (Some(""), true),
        (Some("*/*"), true),
        (Some("application/*"), true),
        (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), true),
        (Some("application/json"), true),
        (Some("application/json;q=0.5, application/vnd.spring-cloud.config-server.v2+json;q=0.1"), true),
        (Some("application/vnd.spring-cloud.config-server.v2+json"), false),
        (Some("application/vnd.spring-cloud.config-server.v1+json"), false),
        (Some("text/plain"), false),
        (Some("application/xml"), false),
        (Some("application/json;q=0"), false),
        (Some("application/json;q=0.0"), false),
    ] {
        let status = parse("GET", "/svc/dev", "", accept).err().map(|refusal| refusal.status);
        assert_eq!(status, (!fine).then_some(406), "{accept:?}");
        assert!(parse("GET", "/svc-dev.yml", "", accept).is_ok(), "{accept:?}");
    }
}
