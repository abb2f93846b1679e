//! `https://`: a service's settings from a config server.

use std::{path::PathBuf, time::Duration};

use accountservice::settings::Settings;
use axum::{Router, routing::get};
use hops_config::{ConfigServer, ServerUrl, Sources};
use tokio::task::JoinSet;

use crate::certificates::{Authority, Terminator};

/// As Spring's server answers.
const ANSWER: &str = r#"{"name": "accountservice", "profiles": ["dev"], "label": null, "version": null, "state": null,
    "propertySources": [{"name": "file:/config-repo/accountservice.yml", "source": {"vip_queue_max_length": 7001}}]}"#;

/// A config server without TLS; it ends when the set is dropped.
async fn config_server() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async || ([("content-type", "application/json")], ANSWER);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        axum::serve(listener, Router::new().route("/accountservice/dev", get(answer))).await.unwrap();
    });
    (address, tasks)
}

async fn load(url: &str, ca_file: Option<PathBuf>) -> Result<std::sync::Arc<Settings>, String> {
    let url = ServerUrl::try_from(url.to_owned()).unwrap();
    let server =
        ConfigServer { url, label: None, patience: Duration::from_secs(20), fail_fast: true, ca_file };
    let sources = Sources { server: Some(server), profile: "dev".into(), ..Sources::default() };
    sources.load::<Settings>().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn settings_come_from_a_server_whose_authority_is_trusted() {
    let (address, _server) = config_server().await;
    let authority = Authority::new();
    let tls = Terminator::start(&authority.issue("localhost"), address).await;
    let settings = load(&format!("https://localhost:{}", tls.port), Some(authority.file())).await.unwrap();
    assert_eq!(settings.vip_queue.vip_queue_max_length, 7001);
}

#[tokio::test]
async fn an_untrusted_server_and_the_wrong_port_are_refused_with_what_to_do() {
    let (address, _server) = config_server().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = Terminator::start(&authority.issue("localhost"), address).await;
    let elsewhere = Terminator::start(&authority.issue("configserver.example"), address).await;
    for (port, ca, says) in [
        (tls.port, &other, "set config_ca_file to the PEM file of that authority"),
        (elsewhere.port, &authority, "write a name that the certificate has in config_server"),
        (address.port(), &authority, "does not speak TLS on this port: write http:// in config_server"),
    ] {
        let why = load(&format!("https://localhost:{port}"), Some(ca.file())).await.unwrap_err();
        assert!(why.contains(says), "{says:?} expected: {why}");
    }
}
