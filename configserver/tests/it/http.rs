//! Tests beyond the recorded cases: passwords, methods, errors, links, broken and hostile files, a folder that goes.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Map, Value, json};

use crate::kit::TestServer;

async fn server(settings: Value) -> TestServer {
    let Value::Object(settings) = settings else { panic!("settings are a map") };
    TestServer::start(settings).await
}

async fn plain() -> TestServer {
    TestServer::start(Map::new()).await
}

#[tokio::test]
async fn errors_look_like_those_of_spring_boot_and_name_no_cause() {
    let server = plain().await;
    server.write("svc.yml", "a: 1\n  b: 2\n");
    for (path, status, word) in [
        ("/svc", 404, "Not Found"),
        ("/sv..c/dev", 400, "Bad Request"),
        ("/svc/dev", 500, "Internal Server Error"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        let body: Value = serde_json::from_str(&answer.text()).unwrap();
        assert_eq!((answer.status, &body["status"]), (status, &json!(status)), "{path}");
        assert_eq!((&body["error"], &body["path"]), (&json!(word), &json!(path)), "{path}");
        assert!(body["timestamp"].as_str().unwrap().ends_with("+00:00"), "{body}");
        assert!(!answer.text().contains("svc.yml"), "{}", answer.text());
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body_and_other_methods_are_told_so() {
    let server = plain().await;
    let head = server.send("HEAD", "/svc/dev", &[], None).await;
    let get = server.get("/svc/dev").await;
    assert_eq!((head.status, head.body.len(), get.status), (200, 0, 200));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    for path in ["/svc/dev", "/svc-dev.yml", "/svc/dev/main"] {
        let answer = server.send("POST", path, &[], Some("")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{path}");
    }
}

#[tokio::test]
async fn with_a_password_configuration_is_for_those_who_send_it_and_health_for_all() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "open sesame\n").unwrap();
    let server = server(json!({"auth_username": "ali", "auth_password_file": file})).await;
    // ali:open sesame, ali:open, user:open sesame
    let right = ["Basic YWxpOm9wZW4gc2VzYW1l", "basic YWxpOm9wZW4gc2VzYW1l", "BASIC  YWxpOm9wZW4gc2VzYW1l"];
    for wrong in [
        None,
        Some("Basic YWxpOm9wZW4="),
        Some("Basic dXNlcjpvcGVuIHNlc2FtZQ=="),
        Some("Bearer x"),
        Some("YWxpOm9wZW4gc2VzYW1l"),
        Some("Bearer YWxpOm9wZW4gc2VzYW1l"),
        Some("Basic"),
        Some(""),
    ] {
        let headers: Vec<_> = wrong.map(|value| ("authorization", value)).into_iter().collect();
        for path in ["/svc/dev", "/svc-dev.yml", "/nothing"] {
            let answer = server.send("GET", path, &headers, None).await;
            assert_eq!(answer.status, 401, "{wrong:?} {path}");
            assert!(answer.header("www-authenticate").unwrap().starts_with("Basic realm="), "{path}");
        }
    }
    for right in right {
        let answer = server.send("GET", "/svc/dev", &[("authorization", right)], None).await;
        assert_eq!(answer.status, 200, "{right}");
    }
    for path in ["/livez", "/readyz", "/health", "/metrics", "/actuator/health"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn no_link_and_no_address_leads_out_of_the_folder() {
    let outside = tempfile::TempDir::new().unwrap();
    fs::write(outside.path().join("svc.yml"), "secret: yes\n").unwrap();
    fs::write(outside.path().join("svc-dev.yml"), "secret: yes\n").unwrap();
    let server = plain().await;
    server.write("real.yml", "k: v\n");
    symlink(outside.path().join("svc.yml"), server.folder.path().join("linked.yml")).unwrap();
    symlink(outside.path(), server.folder.path().join("folder")).unwrap();
    symlink("real.yml", server.folder.path().join("inside.yml")).unwrap();
    for (path, status) in [
        ("/linked/default", 500),
        ("/svc/default/folder", 500),
        ("/folder(_)svc/default", 500),
        ("/..(_)svc/default", 400),
        ("/svc/default/..%2f..%2ftmp", 400),
        ("/svc/default/%2e%2e(_)x", 400),
        ("/real%00/default", 400),
        ("/inside/default", 200),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(!answer.text().contains("secret"), "{path}");
    }
}

#[tokio::test]
async fn a_broken_or_hostile_file_harms_only_those_who_read_it() {
    let server = plain().await;
    server.write("good.yml", "k: v\n");
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{m},*a{m},*a{m}]\n", m = n - 1)).collect();
    server.write("bomb.yml", format!("a0: &a0 [x]\n{bomb}"));
    server.write("deep.yml", "[".repeat(500_000));
    server.write("large.yml", format!("k: {}\n", "x".repeat(2 * 1024 * 1024)));
    server.write("latin.yml", b"k: \xe5\n");
    server.write("escape.properties", "k=\\u12\n");
    server.write("dots.properties", format!("{}=x\n", "a.".repeat(400_000)));
    server.write("indexes.properties", format!("a{}=1\n", "[0]".repeat(2000)));
    server.write("holes.properties", "a[999999999]=x\n");
    server.write("documents.yml", "---\na: 1\n".repeat(60_000));
    server.write("parts.properties", "#---\na=1\n".repeat(60_000));
    server.write("grows.yml", "a: '${b}${b}'\nb: '${c}${c}'\nc: '${d}${d}'\nd: '${e}${e}'\ne: x\n");
    fs::create_dir(server.folder.path().join("folder.yml")).unwrap();
    for (path, status) in [
        ("/bomb/default", 500),
        ("/deep/default", 500),
        ("/large/default", 500),
        ("/latin/default", 500),
        ("/escape/default", 500),
        ("/dots/default", 200),
        ("/dots-default.yml", 500),
        ("/indexes-default.json", 500),
        ("/indexes-default.yml", 500),
        ("/holes-default.json", 500),
        ("/documents/default", 500),
        ("/parts/default", 500),
        ("/grows-default.yml", 200),
        ("/folder/default", 200),
        ("/good/default", 200),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, status, "{path}: {:.300}", answer.text());
    }
}

#[tokio::test]
async fn a_push_of_twenty_commits_is_accepted_whatever_the_folder_has() {
    let server = plain().await;
    let commit = json!({"message": "m".repeat(1000), "modified": ["vipservice-test.yml"]});
    let push = json!({"ref": "refs/heads/main", "commits": vec![commit; 20]}).to_string();
    assert!(push.len() > 20_000);
    let headers = [("content-type", "application/json"), ("x-github-event", "push")];
    let answer = server.send("POST", "/monitor", &headers, Some(&push)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("vipservice"), "{}", answer.text());
}

#[tokio::test]
async fn a_folder_that_is_gone_is_an_error_and_not_an_empty_configuration() {
    let server = plain().await;
    server.write("svc.yml", "k: v\n");
    let path = server.folder.path().to_owned();
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    assert_eq!(server.get("/svc/default").await.status, 500);
    server.until("/readyz", 503).await;
    assert_eq!(server.get("/actuator/health").await.status, 503);
    fs::rename(&away, &path).unwrap();
    assert_eq!(server.get("/svc/default").await.status, 200);
    server.until("/readyz", 200).await;
}

#[tokio::test]
async fn it_is_ready_without_a_broker_and_says_that_there_is_none() {
    let server = plain().await;
    let answer = server.get("/readyz").await;
    let checks: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status, &checks["checks"]["broker"]["status"]), (200, &json!("DOWN")), "{checks}");
}

#[tokio::test]
async fn all_of_it_moves_below_a_prefix_but_health() {
    let server = server(json!({"prefix": "/config"})).await;
    for (path, status) in [
        ("/config/svc/dev", 200),
        ("/config/key/sv..c/dev", 400),
        ("/svc/dev", 404),
        ("/config", 404),
        ("/config/key", 404),
        ("/livez", 200),
    ] {
        assert_eq!(server.get(path).await.status, status, "{path}");
    }
    let refused: Value = serde_json::from_str(&server.get("/config/svc").await.text()).unwrap();
    assert_eq!(refused["path"], "/config/svc");
}

#[tokio::test]
async fn labels_versions_and_overrides_come_from_the_settings() {
    let settings = json!({
        "default_label": "main", "version": "v7",
        "overrides": "{\"a\": {\"b\": 1}, \"l\": [true], \"e\": \"\\\\${x}\"}",
    });
    let labelled = server(settings).await;
    labelled.write("main/svc.yml", "k: main\n");
    let body: Value = serde_json::from_str(&labelled.get("/svc/default").await.text()).unwrap();
    assert_eq!((&body["version"], &body["label"]), (&json!("v7"), &Value::Null));
    let first = json!({"name": "overrides", "source": {"a.b": "1", "l[0]": "true", "e": "${x}"}});
    assert_eq!(body["propertySources"][0], first);
    assert_eq!(body["propertySources"][1]["source"], json!({"k": "main"}));
    let flat = server(json!({"add_label_locations": false})).await;
    flat.write("v1/svc.yml", "k: v1\n");
    let body: Value = serde_json::from_str(&flat.get("/svc/default/v1").await.text()).unwrap();
    assert_eq!((&body["label"], &body["propertySources"]), (&json!("v1"), &json!([])));
}

#[tokio::test]
async fn a_server_that_starts_tells_everybody_to_read_their_settings_again() {
    let server = plain().await;
    let events = server.events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["type"], "RefreshRemoteApplicationEvent");
    assert_eq!(events[0]["destinationService"], "**");
}
